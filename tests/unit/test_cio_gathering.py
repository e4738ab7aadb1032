"""Output that comes fast is gathered and looked at by a clock: nothing of it is lost, and the clock ends with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio import ClosedResourceError, EndOfStream

from containerd_py.cio import arrivals, streams
from containerd_py.cio.streams import FifoReceiveStream

from .fifo_peers import WRITE_RANDOM, open_descriptors, peer, said

CHUNK = b"c" * 32768


@pytest.fixture
def ends() -> Iterator[tuple[int, FifoReceiveStream]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    stream = FifoReceiveStream(reader, writer_expected=False)
    yield writer, stream
    stream.close()
    if writer in map(int, open_descriptors()):
        os.close(writer)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch):
    """However slow the machine, what these tests send comes fast."""
    monkeypatch.setattr(arrivals, "TICK", 0.01)


def has_clock() -> bool:
    return any("timerfd" in name for name in open_descriptors().values())


@asynccontextmanager
async def receiving(stream: FifoReceiveStream) -> AsyncIterator[list[bytes]]:
    """Receive into a list as long as the block lasts."""
    received: list[bytes] = []

    async def receive() -> None:
        while True:
            received.append(await stream.receive())

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.sleep(0.01)
        yield received
        group.cancel_scope.cancel()


async def rush(writer: int, received: list[bytes]) -> int:
    """Write one chunk after the other until they are gathered; return how many."""
    for count in range(1, 1000):
        os.write(writer, CHUNK)
        while len(b"".join(received)) < count * len(CHUNK):
            await anyio.sleep(0)
        await anyio.sleep(0)
        if has_clock():
            return count
    raise AssertionError("nothing was gathered")


async def test_chunks_in_a_row_are_gathered(ends: tuple[int, FifoReceiveStream]):
    """What is written between two ticks is received at once, and in order."""
    writer, stream = ends
    async with receiving(stream) as received:
        count = await rush(writer, received)
        del received[:]
        os.write(writer, b"a" * 1000)
        os.write(writer, b"b" * 1000)
        while not received:
            await anyio.sleep(0.001)
    assert count == arrivals._RUSH + 1
    assert received == [b"a" * 1000 + b"b" * 1000]


async def test_small_chunks_are_not_gathered(ends: tuple[int, FifoReceiveStream]):
    """What a person or a protocol says comes without any delay, however often."""
    writer, stream = ends
    async with receiving(stream) as received:
        for count in range(1, 200):
            os.write(writer, b"word")
            while len(received) < count:
                await anyio.sleep(0)
        assert not has_clock()


async def test_chunks_now_and_then_are_not_gathered(ends: tuple[int, FifoReceiveStream], monkeypatch):
    """Large chunks that do not come within a tick of each other wait for none."""
    monkeypatch.setattr(arrivals, "TICK", 0.0)
    writer, stream = ends
    async with receiving(stream) as received:
        for count in range(1, 100):
            os.write(writer, CHUNK)
            while len(received) < count:
                await anyio.sleep(0)
        assert not has_clock()


async def test_a_rush_that_is_over(ends: tuple[int, FifoReceiveStream]):
    """When nothing comes any more the clock stops, and what comes later arrives as ever."""
    writer, stream = ends
    async with receiving(stream) as received:
        await rush(writer, received)
        while has_clock():
            await anyio.sleep(0.001)
        os.write(writer, b"later")
        while received[-1] != b"later":
            await anyio.sleep(0.001)


async def test_nobody_receives_any_more(ends: tuple[int, FifoReceiveStream]):
    """The clock does not go on for nobody; what was written meanwhile is there for whoever comes."""
    writer, stream = ends
    async with receiving(stream) as received:
        await rush(writer, received)
    os.write(writer, b"meanwhile")
    while has_clock():
        await anyio.sleep(0.001)
    assert await stream.receive() == b"meanwhile"


@pytest.mark.parametrize("how", ["closed", "to end when empty", "closed by the writer"])
async def test_the_end_of_a_rush(ends: tuple[int, FifoReceiveStream], how: str):
    """An end is seen while output is gathered as well, and takes the clock away."""
    writer, stream = ends
    received: list[bytes] = []

    async def receive() -> None:
        with pytest.raises((EndOfStream, ClosedResourceError)):
            while True:
                received.append(await stream.receive())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            await anyio.sleep(0.01)
            count = await rush(writer, received)
            if how == "closed":
                stream.close()
            elif how == "to end when empty":
                stream.end_when_empty()
            else:
                os.close(writer)
    assert len(b"".join(received)) == count * len(CHUNK)
    stream.close()
    assert not has_clock()


async def test_no_descriptor_is_left_for_a_clock(ends: tuple[int, FifoReceiveStream], monkeypatch):
    """Without a clock output is received chunk by chunk."""

    def refuse(_: int) -> None:
        raise OSError(24, "timerfd_create")

    monkeypatch.setattr(arrivals, "Ticks", refuse)
    writer, stream = ends
    async with receiving(stream) as received:
        for count in range(1, 100):
            os.write(writer, CHUNK)
            while len(received) < count:
                await anyio.sleep(0)


async def test_a_fifo_without_room_is_not_gathered(monkeypatch):
    """A FIFO that could not be enlarged would be full before the tick, so it is read as it comes."""
    monkeypatch.setattr(streams, "FIFO_CAPACITY", 2**31 - 1)  # more than the kernel gives anybody
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    stream = FifoReceiveStream(reader, writer_expected=False)
    try:
        async with receiving(stream) as received:
            for count in range(1, 100):
                os.write(writer, CHUNK)
                while len(received) < count:
                    await anyio.sleep(0)
            assert not has_clock()
    finally:
        stream.close()
        os.close(writer)


@pytest.mark.parametrize("size", [65536, 1 << 20])
async def test_32_mib_with_time_limits_are_exact(tmp_path, monkeypatch, size: int):
    """Receives that are cancelled before, at and after ticks lose and double nothing (sha256 of 32 MiB)."""
    monkeypatch.setattr(arrivals, "TICK", 0.0005)
    path = tmp_path / "output"
    os.mkfifo(path)
    stream = FifoReceiveStream(os.open(path, os.O_RDONLY | os.O_NONBLOCK), writer_expected=True)
    digest, buffer, has_ended, cancelled = hashlib.sha256(), bytearray(size), False, 0
    script = "import hashlib, os, random, sys\nw = os.open(sys.argv[1], os.O_WRONLY)\n" + WRITE_RANDOM
    async with peer(script, path, 512) as writer:
        while not has_ended:
            with anyio.move_on_after(0.0002 + 0.0001 * (cancelled % 11)) as scope:
                try:
                    while True:
                        digest.update(buffer[: await stream.receive_into(buffer)])
                except EndOfStream:
                    has_ended = True
            cancelled += scope.cancelled_caught
        assert await said(writer) == digest.hexdigest()
    stream.close()
    assert cancelled > 0
