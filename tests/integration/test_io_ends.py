"""Streams whose other side ends first: readers that leave, processes that write on, input nobody takes."""

import hashlib
import signal

import anyio

from containerd_py import Client, Image, open_fifos
from containerd_py.cio.copying import lines
from containerd_py.services.tasks import TaskState

ENDLESS = ["/bin/busybox", "yes", "more"]
MIB = 1 << 20


async def test_a_pipe_inside_ends_as_in_a_shell(client: Client, busybox: Image):
    """A reader inside the container that has enough ends its writer, and the output is exact."""
    completed = await client.run(busybox, ["/bin/sh", "-c", "busybox yes more | head -n 100000"])
    assert completed.stdout == b"more\n" * 100_000


async def test_the_first_lines_of_endless_output(client: Client, busybox: Image):
    """Whoever leaves the block after a few lines of endless output waits for nothing."""
    with anyio.fail_after(30):
        async with client.open_run(busybox, ENDLESS) as task:
            assert task.stdout is not None
            taken = 0
            async for line in lines(task.stdout):
                assert line == b"more\n"
                taken += 1
                if taken == 1000:
                    break
            assert (await task.status()).state is TaskState.RUNNING


async def test_a_process_outlives_its_reader(client: Client, busybox: Image):
    """A process whose reader has left is held up, not harmed; it is stopped like any, and its end is told."""
    async with client.open_run(busybox, ENDLESS) as task:
        assert task.stdout is not None
        await task.stdout.receive()
        await task.stdout.aclose()
        await anyio.sleep(0.2)  # until all there is between it and us is full
        assert (await task.status()).state is TaskState.RUNNING
        await task.kill(signal.SIGKILL)
        assert (await task.wait()).code == 137


async def test_an_end_comes_though_the_reader_has_left(client: Client, busybox: Image):
    """Little output that nobody reads keeps no process from its end, and its exit code is told."""
    container = await client.create_container(image=busybox, args=["/bin/sh", "-c", "echo unread; exit 5"])
    async with open_fifos(stdin=False) as io:
        task = await container.create_task(io=io.config)
        io.close()
        await task.start()
        assert (await task.wait()).code == 5
        await task.delete()
    await container.delete()


async def test_a_slow_reader_loses_nothing(client: Client, busybox: Image):
    """32 MiB to a reader that pauses arrive byte for byte, in order."""
    count = 32
    script = f"dd if=/dev/zero bs=1M count={count} 2>/dev/null | busybox tr '\\0' x; echo end"
    digest = hashlib.sha256()
    async with client.open_run(busybox, ["/bin/sh", "-c", script]) as task:
        assert task.stdout is not None
        buffer = memoryview(bytearray(MIB))
        while True:
            try:
                size = await task.stdout.receive_into(buffer)
            except anyio.EndOfStream:
                break
            digest.update(buffer[:size])
            await anyio.sleep(0.002)
        assert (await task.wait()).code == 0
    assert digest.digest() == hashlib.sha256(b"x" * (count * MIB) + b"end\n").digest()
