"""Containers whose root is nobody on the host, on all lines: with ID maps or a copy, as the snapshotter can."""

import os
from pathlib import Path

import pytest

from containerd_py import Client, FailedPreconditionError, Image, InvalidArgumentError, UserNamespace
from tests.integration.copies import resting, running

IDS = UserNamespace.of(100_000)
LOOK = "id -u; cat /proc/self/uid_map; stat -c '%u:%g %a' / /bin/busybox; echo x > /made; stat -c %u:%g /made"


async def test_root_is_somebody_else(client: Client, busybox: Image):
    """Inside it is root and owns the image's files; its output is its own, too."""
    completed = await client.run(
        busybox, ["/bin/sh", "-c", f"{LOOK}; echo again > /dev/stdout"], user_namespace=IDS, check=False
    )
    lines = completed.stdout.decode().split("\n")
    assert completed.exit_code == 0, completed.stderr
    assert lines[1].split() == ["0", "100000", "65536"]
    assert [lines[0], *lines[2:]] == ["0", "0:0 755", "0:0 755", "0:0", "again", ""]


async def test_the_host_sees_an_unprivileged_process(client: Client, busybox: Image):
    """Outside, the process and what it makes are the mapped user's."""
    async with running(client, busybox, user_namespace=IDS) as (_, task):
        await task.run_exec(["/bin/touch", "/made"])
        status = Path(f"/proc/{task.pid}/status").read_text()
        assert "Uid:\t100000\t100000\t100000\t100000" in status
        assert os.stat(f"/proc/{task.pid}/root/made").st_uid == 100_000
