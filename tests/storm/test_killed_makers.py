"""A program killed at any moment of its containers' lives leaves nothing that the next one cannot clear away."""

import random
from pathlib import Path

import anyio
import pytest

from containerd_py import Cleanup, Client, Image
from tests.integration.other_program import open_other_program

KILLS = 50
LONGEST = 1.2  # seconds: a life takes about half of it
SETTLING = 0.5  # seconds for calls that were under way, which the daemon carries out all the same


@pytest.mark.lines("2.1")
@pytest.mark.timeout(900)
async def test_killed_at_random(client: Client, busybox: Image, data_root: Path, note):
    """After each kill the next program finds and removes all there is: tasks, containers, volumes, directories."""
    found = 0
    for number in range(KILLS):
        async with open_other_program(client, "live", busybox.name, "web") as program:
            await program.kill_after(random.uniform(0, LONGEST))  # no secret
        await anyio.sleep(SETTLING)
        found += len(await client.list_containers())
        async with Cleanup() as cleanup:
            await cleanup.add_namespace(client.services)
        assert await client.list_containers() == [], number
        assert await client.tasks.list() == [], number
        assert await client.leases.list() == [], number
        assert [info.name for info in await client.snapshotter("overlayfs").list() if not info.is_committed] == [], (
            number
        )
        assert await client.volumes.list() == [], number
        assert not list(data_root.glob("*/containers/*/*")), number
        await (await client.create_container(image=busybox, args=["/bin/true"], name="web")).delete()
        assert not list(data_root.glob("*/names/*/*")), number
    note(f"{KILLS} kills, {found} containers found afterwards")
    assert 0 < found < KILLS
