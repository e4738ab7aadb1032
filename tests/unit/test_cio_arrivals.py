"""What the loop takes from a FIFO for whoever waits reaches them, or whoever comes next: no byte twice, none lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

import anyio
import pytest
from anyio import EndOfStream

from containerd_py.cio.streams import FifoReceiveStream

Receive = Callable[[FifoReceiveStream], object]


@pytest.fixture
def ends() -> Iterator[tuple[int, FifoReceiveStream]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    stream = FifoReceiveStream(reader, writer_expected=False)
    yield writer, stream
    stream.close()
    os.close(writer)


async def into(stream: FifoReceiveStream) -> bytes:
    buffer = bytearray(8)
    return bytes(buffer[: await stream.receive_into(buffer)])


async def whole(stream: FifoReceiveStream) -> bytes:
    return await stream.receive()


@pytest.mark.parametrize("receive", [into, whole])
async def test_cancelled_when_the_bytes_had_been_taken(ends: tuple[int, FifoReceiveStream], receive: Receive):
    """A receive cancelled in the turn in which bytes came leaves them to the next one, and those after them to it."""
    writer, stream = ends
    tasks: list[asyncio.Task[None]] = []

    async def wait() -> None:
        tasks.append(asyncio.current_task())
        with pytest.raises(asyncio.CancelledError):
            await receive(stream)
        tasks[0].uncancel()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        while stream._arrivals._waiter is None:
            await asyncio.sleep(0)
        os.write(writer, b"taken")
        while not stream._arrivals._waiter.done():
            await asyncio.sleep(0)
        tasks[0].cancel()
    os.write(writer, b"more")
    assert await into(stream) == b"taken"
    assert await into(stream) == b"more"


async def test_nobody_waits(ends: tuple[int, FifoReceiveStream]):
    """Bytes that nobody waits for do not keep the loop busy: it forgets the descriptor until somebody does."""
    writer, stream = ends
    async with anyio.create_task_group() as group:
        group.start_soon(whole, stream)
        await anyio.sleep(0.01)
        os.write(writer, b"one")
    os.write(writer, b"two")
    await anyio.sleep(0.01)
    assert stream._arrivals._loop is None
    assert await stream.receive() == b"two"


@pytest.mark.parametrize("how", ["closed", "to end when empty"])
async def test_a_waiter_is_woken(ends: tuple[int, FifoReceiveStream], how: str):
    """Who waits while the stream is closed, or told to end, does not wait any longer."""
    stream = ends[1]
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                with pytest.raises((EndOfStream, anyio.ClosedResourceError)):
                    await stream.receive()

            group.start_soon(wait)
            await anyio.sleep(0.01)
            stream.close() if how == "closed" else stream.end_when_empty()
