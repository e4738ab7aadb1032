"""Containers and processes started beside `ctr`, and how fast their output comes."""

from __future__ import annotations

import fcntl
import os
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.from_thread

from containerd_py import IOConfig, Task, for_each
from containerd_py.image import Image
from containerd_py.testing.images import busybox_layout
from tests.bench.measuring import Comparison, compare

if TYPE_CHECKING:  # it imports this module
    from tests.bench.bench import Bench

MANY, AT_ONCE = 200, 20
SIZE = 1024 * 2**20
BLOCK = 2**20
DD = ["/bin/dd", "if=/dev/zero", "bs=1M", "count=1024"]
ZEROS = bytes(BLOCK)
PULSE = 0.005  # seconds between looks at the clock
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ; the fcntl module has it as of Python 3.10, on Linux alone


@asynccontextmanager
async def busybox(bench: Bench) -> AsyncIterator[Image]:
    """Lend an image of busybox, pulled."""
    await bench.registry.push(busybox_layout(bench.folder / "busybox"), "busybox")
    yield await bench.client.pull(bench.registry.reference("busybox"), via="client")


def _fresh() -> str:
    return f"ctr-{os.urandom(6).hex()}"


async def running(bench: Bench) -> list[Comparison]:
    """Run containers to their end and remove them: one, and 200 of which 20 at once."""
    async with busybox(bench) as image:

        async def ours(_: object = None) -> None:
            await bench.client.run(image, ["/bin/true"])

        async def ctr(_: object = None) -> None:
            await bench.ctr("run", "--rm", image.name, _fresh(), "/bin/true")

        async def ours_many() -> None:
            await for_each(range(MANY), ours, limit=AT_ONCE)

        async def ctr_many() -> None:
            await for_each(range(MANY), ctr, limit=AT_ONCE)

        one = await compare(
            "run one container to its end and remove it",
            {"containerd_py": ours, "ctr run --rm": ctr},
            baseline="ctr run --rm",
            runs=3 * bench.runs,
        )
        many = await compare(
            f"{MANY} containers, {AT_ONCE} at once",
            {"containerd_py": ours_many, "ctr run --rm": ctr_many},
            baseline="ctr run --rm",
            runs=max(1, bench.runs // 2),
            warm=False,
        )
        return [one, many]


async def exec_latency(bench: Bench) -> Comparison:
    """Run a process in a container that runs, to its end."""
    async with busybox(bench) as image, bench.client.open_run(image, ["/bin/sleep", "1000"]) as task:

        async def ours() -> None:
            await task.run_exec(["/bin/true"])

        async def ctr() -> None:
            await bench.ctr("task", "exec", "--exec-id", _fresh(), task.id, "/bin/true")

        return await compare(
            "exec in a running container",
            {"containerd_py": ours, "ctr task exec": ctr},
            baseline="ctr task exec",
            runs=3 * bench.runs,
        )


async def fifo(bench: Bench) -> Comparison:
    """Read 1 GiB from a container's stdout: as the loop does it, and as a thread that does nothing else would."""
    async with busybox(bench) as image:

        async def ours() -> None:
            async with bench.client.open_run(image, DD) as task:
                await _drain(task)

        async def bare() -> None:
            await _bare(bench, image)

        async def ctr() -> None:
            await bench.ctr("run", "--rm", image.name, _fresh(), *DD)

        comparison = await compare(
            "1 GiB through a task's stdout",
            {"containerd_py": ours, "os.readv in a thread": bare, "ctr run to /dev/null": ctr},
            baseline="os.readv in a thread",
            runs=bench.runs,
        )
        longest = []
        for _ in range(bench.runs):  # apart from the others, for watching costs as well
            async with bench.client.open_run(image, DD) as task, _lag() as lags:
                await _drain(task)
            longest.append(max(lags))
        return comparison.noted(
            f"loop lag {statistics.median(longest) * 1000:.1f} ms at most, {min(longest) * 1000:.1f} in the best run"
        )


async def _drain(task: Task) -> None:
    assert task.stdout is not None
    buffer, count = bytearray(BLOCK), 0
    with memoryview(buffer) as view:
        while count < SIZE:
            taken = await task.stdout.receive_into(view)
            assert ZEROS.startswith(view[:taken])
            count += taken
    assert count == SIZE


async def _bare(bench: Bench, image: Image) -> None:
    """Run the same container on a FIFO of ours that a thread reads."""
    paths = [bench.folder / f"{name}-{os.urandom(4).hex()}" for name in ("stdout", "stderr")]
    for path in paths:
        os.mkfifo(path)
    # Open for writing as well, so that the reader waits for the shim; closed once that has opened its end.
    ends = [os.open(path, os.O_RDWR) for path in paths]
    fcntl.fcntl(ends[0], _SET_PIPE_SIZE, BLOCK)
    readers = [os.open(path, os.O_RDONLY) for path in paths]
    container = await bench.client.create_container(image=image, args=DD)
    try:
        task = await container.create_task(io=IOConfig(stdout=str(paths[0]), stderr=str(paths[1])))
        try:
            for end in ends:
                os.close(end)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.to_thread.run_sync, _read_all, readers[0])
                await task.start()
            await task.wait()
        finally:
            await task.delete(force=True)
    finally:
        await container.delete()
        for reader in readers:
            os.close(reader)


def _read_all(descriptor: int) -> None:
    buffer, count = bytearray(BLOCK), 0
    with memoryview(buffer) as view:
        while count < SIZE and (taken := os.readv(descriptor, [view])):
            assert ZEROS.startswith(view[:taken])
            count += taken
    assert count == SIZE


@asynccontextmanager
async def _lag() -> AsyncIterator[list[float]]:
    """Tell how much later than asked for the event loop woke a task."""
    lags = [0.0]

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await anyio.sleep(PULSE)
            lags.append(time.perf_counter() - began - PULSE)

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        yield lags
        group.cancel_scope.cancel()
