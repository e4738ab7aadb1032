"""FIFOs as byte streams, the receiving end: nothing lost, nothing invented, no end before the end."""

from __future__ import annotations

import asyncio
import hashlib
import os

import anyio
import pytest
from anyio import BusyResourceError, ClosedResourceError, EndOfStream

from containerd_py.cio import streams
from containerd_py.cio.fifos import attach_fifos, open_fifos

from .fifo_peers import OPEN_AS_SHIM, WRITE_RANDOM, peer, said

TRICKLE = (
    OPEN_AS_SHIM
    + "for i in range(int(sys.argv[2])):\n    os.write(w, b'%08d' % i)\n    if i % 32 == 0: time.sleep(0.002)\n"
)


@pytest.fixture
async def io(tmp_path):
    async with open_fifos(directory=tmp_path) as opened:
        yield opened


async def test_no_end_before_a_writer_has_opened(io):
    """A FIFO without a writer yet is empty, not at its end."""
    with anyio.move_on_after(0.05) as waiting:
        await io.stdout.receive()
    assert waiting.cancelled_caught


async def test_output_of_a_late_writer_arrives_whole(io):
    """A reader that waits from before the writer opened gets every byte, then the end, and the end again."""
    script = (
        "import time; time.sleep(0.2)\n" + OPEN_AS_SHIM + "os.write(w, b'hello'); time.sleep(0.1); os.write(w, b'!')"
    )
    async with peer(script, io.config.stdout):
        assert b"".join([chunk async for chunk in io.stdout]) == b"hello!"
    with pytest.raises(EndOfStream):
        await io.stdout.receive()


async def test_a_writer_that_writes_nothing_ends_the_stream(io):
    """Opening and closing is an end, even without a byte."""
    async with peer(OPEN_AS_SHIM, io.config.stdout):
        with pytest.raises(EndOfStream):
            await io.stdout.receive()


async def test_64_mib_through_a_slow_reader_are_exact(io):
    """A reader slower than the writer loses and doubles nothing (sha256 of 64 MiB)."""
    digest, count = hashlib.sha256(), 0
    async with peer(OPEN_AS_SHIM + WRITE_RANDOM, io.config.stdout, 1024) as writer:
        async for chunk in io.stdout:
            digest.update(chunk)
            count += 1
            if count % 64 == 0:
                await anyio.sleep(0.005)
        assert await said(writer) == digest.hexdigest()


async def test_an_unread_output_makes_the_writer_wait(io):
    """Who does not receive holds the writer up: the FIFO's capacity is buffered and nothing more."""
    script = OPEN_AS_SHIM + "for i in range(64):\n    os.write(w, b'x' * (1 << 16)); print(i, flush=True)"
    async with peer(script, io.config.stdout) as writer:
        reported = await writer.stdout.receive()
        with anyio.move_on_after(0.5):
            while True:
                reported += await writer.stdout.receive()
        assert 1 <= len(reported.split()) <= streams.FIFO_CAPACITY >> 16
        assert sum([len(chunk) async for chunk in io.stdout]) == 64 << 16


async def test_a_receive_cancelled_by_a_scope_loses_nothing(io):
    """Time limits far shorter than the output takes leave every byte in its place."""
    received, cancelled = bytearray(), 0
    async with peer(TRICKLE, io.config.stdout, 10_000):
        while True:
            with anyio.move_on_after(0.0003) as limit:
                try:
                    received += await io.stdout.receive(1000)
                except EndOfStream:
                    break
            cancelled += limit.cancelled_caught
    assert received == b"".join(b"%08d" % i for i in range(10_000))
    assert cancelled > 50


async def test_a_receive_cancelled_as_a_task_loses_nothing(io):
    """asyncio's own time limits (task.cancel) leave every byte in its place."""
    received, cancelled = bytearray(), 0
    buffer = bytearray(1000)
    async with peer(TRICKLE, io.config.stdout, 10_000):
        while True:
            try:
                async with asyncio.timeout(0.0003):
                    received += buffer[: await io.stdout.receive_into(buffer)]
            except TimeoutError:
                cancelled += 1
            except EndOfStream:
                break
    assert received == b"".join(b"%08d" % i for i in range(10_000))
    assert cancelled > 50


async def test_receive_takes_at_most_max_bytes(io):
    """max_bytes bounds what is returned; what is left comes next."""
    async with peer(OPEN_AS_SHIM + "os.write(w, b'abcdef')", io.config.stdout):
        parts = [await io.stdout.receive(4), await io.stdout.receive(4)]
    assert parts == [b"abcd", b"ef"]


@pytest.mark.parametrize("size", [0, -1])
async def test_receive_refuses_to_take_nothing(io, size):
    """A request for no bytes is a mistake, not an end."""
    with pytest.raises(ValueError, match="positive"):
        await io.stdout.receive(size)
    with pytest.raises(ValueError, match="room"):
        await io.stdout.receive_into(bytearray())


async def test_two_receives_at_once_are_refused(io):
    """The second of two concurrent receives raises; the first goes on."""
    async with anyio.create_task_group() as group:
        group.start_soon(io.stdout.receive)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(BusyResourceError):
            await io.stdout.receive()
        group.cancel_scope.cancel()


async def test_closing_wakes_a_receive(io):
    """A receive that waits when the stream is closed ends with ClosedResourceError."""

    async def receive() -> None:
        with pytest.raises(ClosedResourceError):
            await io.stdout.receive()

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        await io.stdout.aclose()


async def test_a_closed_stream_stays_closed(io):
    """Closing twice is fine; receiving afterwards is not."""
    await io.stdout.aclose()
    await io.stdout.aclose()
    io.stdout.close()
    with pytest.raises(ClosedResourceError):
        await io.stdout.receive()


async def test_abandoned_outputs_end(io):
    """Where no process came of it, a waiting receive sees the end."""

    async def receive() -> None:
        with pytest.raises(EndOfStream):
            await io.stderr.receive()

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        io.abandon()


async def test_an_output_that_nobody_opened_ends_at_release(io):
    """When the process runs and its shim has not opened an output, there is none to come."""
    await io.release()
    with pytest.raises(EndOfStream):
        await io.stdout.receive()


async def test_release_does_not_end_an_open_output(io):
    """Releasing while the shim has the FIFO open changes nothing for its reader."""
    async with peer(OPEN_AS_SHIM + "os.write(w, b'a'); time.sleep(0.3); os.write(w, b'b')", io.config.stdout):
        first = await io.stdout.receive()
        await io.release()
        assert first + b"".join([chunk async for chunk in io.stdout]) == b"ab"


async def test_end_when_empty_takes_what_is_there(io):
    """Output still held open by somebody ends once it is empty, also for a receive that waits already."""
    received = bytearray()

    async def receive() -> None:
        async for chunk in io.stdout:
            received.extend(chunk)

    script = OPEN_AS_SHIM + "os.write(w, b'x' * 300000); print('done', flush=True); time.sleep(60)"
    async with peer(script, io.config.stdout) as writer, anyio.create_task_group() as group:
        group.start_soon(receive)
        await writer.stdout.receive()
        await anyio.sleep(0.05)
        io.stdout.end_when_empty()
    assert received == b"x" * 300_000


async def test_attached_output_goes_on_where_the_former_reader_stopped(io):
    """A second reader of a running process gets what the first one left, and the end."""
    async with peer(OPEN_AS_SHIM + "os.write(w, b'abc'); time.sleep(0.3); os.write(w, b'def')", io.config.stdout):
        assert await io.stdout.receive() == b"abc"
        io.stdout.close()
        async with attach_fifos(io.config) as again:
            assert b"".join([chunk async for chunk in again.stdout]) == b"def"


async def test_attaching_to_a_process_that_has_gone_ends_at_once(io):
    """An attached output without a writer is at its end: its shim opened long ago."""
    async with attach_fifos(io.config, stdin=False) as again:
        with pytest.raises(EndOfStream):
            await again.stdout.receive()
        assert again.stdin is None


async def test_the_fifo_is_enlarged(io):
    """A FIFO holds 1 MiB where the kernel allows it."""
    written = 0
    fd = os.open(io.config.stdout, os.O_WRONLY | os.O_NONBLOCK)
    try:
        while True:
            written += os.write(fd, bytes(1 << 16))
    except BlockingIOError:
        pass
    finally:
        os.close(fd)
    assert written == streams.FIFO_CAPACITY
