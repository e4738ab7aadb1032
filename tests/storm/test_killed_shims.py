"""Shims killed while runc makes a container for them: what neither runc nor the daemon knows of is cleared away."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from containerd_py import Cleanup, Client, ContainerdError, Daemon, Image
from containerd_py._daemon.cgroups import hierarchies
from containerd_py._daemon.leftovers import container_of, find_shims
from tests.harness.leaks_host import cgroups

KILLS = 30
LONGEST = 0.004  # seconds after the first cgroup: about as long as runc takes to write down its state
LIMIT = 20.0  # seconds until there is a cgroup


def kill_shim(address: str, namespace: str, container_id: str) -> None:
    """Wait for the container's first cgroup, and kill its shim, and with it runc, a moment later."""
    places = [root / namespace / container_id for root in hierarchies(Path("/proc/self/mountinfo").read_text())]
    deadline = time.monotonic() + LIMIT
    while not any(place.exists() for place in places):
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    time.sleep(random.uniform(0, LONGEST))  # no secret
    [shim] = [pid for pid in find_shims(address) if container_of(pid) == (namespace, container_id)]
    os.kill(shim, signal.SIGKILL)


@pytest.mark.timeout(600)
async def test_shims_killed_while_runc_is_at_work(
    client: Client, busybox: Image, daemon: Daemon, note: Callable[[str], None]
):
    """Cgroups stay where runc was killed before it had written anything down; `Cleanup` finds and removes them."""
    found = 0
    for number in range(KILLS):
        container = await client.create_container(f"half-{number}", image=busybox, args=["/bin/sleep", "1000"])
        async with anyio.create_task_group() as group:
            group.start_soon(to_thread.run_sync, kill_shim, daemon.address, client.namespace, container.id)
            with suppress(ContainerdError):
                await container.create_task()
        found += bool(cgroups(client.namespace))
        async with Cleanup() as cleanup:
            await cleanup.add_namespace(client.services)
        assert cgroups(client.namespace) == {}
        assert await client.list_containers() == []
    note(f"{KILLS} kills, {found} containers' cgroups found afterwards")
    assert found > 0
