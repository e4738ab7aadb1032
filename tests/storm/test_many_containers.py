"""Hundreds of containers and thousands of execs: exact every time, and nothing piles up."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import pytest

from containerd_py import Client, Image, for_each
from tests.storm.holdings import Holdings, holdings

AT_ONCE = 20
CONTAINERS = 500
EXECS = 2_000
WARM_UP = 40  # until every pool and cache has its size
GROWTH = 4 * 1024  # KiB of memory that are no leak: fragments
WORKERS = 5  # threads of anyio's pool, which has as many as were busy at once lately, by chance one more or less

pytestmark = pytest.mark.timeout(3600)
Note = Callable[[str], None]


async def repeat(one: Callable[[int], Awaitable[None]], count: int) -> tuple[Holdings, Holdings, float]:
    """Do it often enough to be warm, then so many times; return what was held before and after, and the seconds."""
    await for_each(range(WARM_UP), one, limit=AT_ONCE)
    before, began = holdings(), time.monotonic()
    await for_each(range(count), one, limit=AT_ONCE)
    took = time.monotonic() - began
    return before, holdings(), took


def assert_nothing_grew(before: Holdings, after: Holdings) -> None:
    assert after.descriptors <= before.descriptors
    assert after.threads <= before.threads + WORKERS
    assert after.memory <= before.memory + GROWTH


async def test_five_hundred_containers(client: Client, busybox: Image, note: Note):
    """500 containers go through their life, 20 at a time: output and exit code exact, nothing left, nothing grown."""

    async def one(number: int) -> None:
        completed = await client.run(
            busybox, ["/bin/sh", "-c", f"cat; echo {number} >&2; exit 3"], input=b"in", check=False
        )
        assert (completed.exit_code, completed.stdout, completed.stderr) == (3, b"in", f"{number}\n".encode())

    before, after, took = await repeat(one, CONTAINERS)
    note(f"{CONTAINERS} in {took:.1f} s; before {before}, after {after}")
    assert_nothing_grew(before, after)
    assert await client.list_containers() == []
    assert await client.tasks.list() == []
    assert [
        snapshot.name for snapshot in await client.snapshotter("overlayfs").list() if not snapshot.is_committed
    ] == []


async def test_two_thousand_execs(client: Client, busybox: Image, note: Note):
    """2,000 execs in one container, 20 at a time: output and exit code exact, nothing left, nothing grown."""
    async with client.open_run(busybox, ["/bin/sleep", "100000"]) as task:

        async def one(number: int) -> None:
            completed = await task.run_exec(
                ["/bin/sh", "-c", f"cat; echo {number} >&2; exit 3"], input=b"in", check=False
            )
            assert (completed.exit_code, completed.stdout, completed.stderr) == (3, b"in", f"{number}\n".encode())

        before, after, took = await repeat(one, EXECS)
        note(f"{EXECS} in {took:.1f} s; before {before}, after {after}")
        assert_nothing_grew(before, after)
        assert len(await task.pids()) == 1
