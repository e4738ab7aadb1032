"""Programs killed at random moments of their containers' lives: the next one clears everything away."""

import random
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, Daemon, Image
from tests.integration.other_program import open_other_program
from tests.integration.test_killed_program import clear_after, end_waiting_shim

KILLS = 50
LONGEST = 1.2  # seconds: a life takes about half of it
SETTLING = 0.5  # seconds for calls that were under way, which the daemon carries out all the same


@pytest.mark.timeout(900)
async def test_killed_at_random(client: Client, busybox: Image, tmp_path: Path, note: Callable[[str], None]):
    """Whenever it was killed, `Cleanup` of the next program leaves the namespace empty, and no FIFO stays."""
    found = []
    for _ in range(KILLS):
        async with open_other_program(client, "stream", busybox.name, str(tmp_path / "fifos")) as program:
            await program.kill_after(random.uniform(0, LONGEST))  # no secret
        await anyio.sleep(SETTLING)
        found.append(await clear_after(client, tmp_path / "fifos"))
    note(f"{KILLS} kills, {sum(found)} containers found afterwards")
    assert 0 < sum(found) < KILLS


async def test_a_shim_that_its_daemon_forgot(client: Client, busybox: Image, daemon: Daemon, tmp_path: Path):
    """A shim of a program that was killed is ended when its daemon has given it up, too, and its ID is free."""
    await end_waiting_shim(client, busybox, daemon, tmp_path, after=8)
