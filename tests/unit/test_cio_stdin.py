"""FIFOs as byte streams, the sending end: everything arrives, a reader that leaves is noticed, the end comes once."""

from __future__ import annotations

import hashlib
import random

import anyio
import pytest
from anyio import BrokenResourceError, BusyResourceError, ClosedResourceError

from containerd_py.cio import streams
from containerd_py.cio.fifos import attach_fifos, open_fifos

from .fifo_peers import OPEN_STDIN, READ_ALL, open_descriptors, peer, said


@pytest.fixture
async def io(tmp_path):
    async with open_fifos(directory=tmp_path, stdout=False, stderr=False) as opened:
        yield opened


class DaemonsEnd:
    """Stands for Tasks.CloseIO: counts calls and fails as often as told."""

    def __init__(self, stdin: streams.FifoSendStream, failures: int = 0) -> None:
        self.calls = 0
        self._stdin = stdin
        self._failures = failures

    async def close(self) -> None:
        self.calls += 1
        assert self._stdin._fd < 0, "our end is closed first"
        if self.calls <= self._failures:
            raise RuntimeError("the daemon is away")


def expected(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


async def test_input_sent_before_the_reader_came_arrives(io):
    """What is sent and even closed before anybody reads is waiting for the shim."""
    await io.stdin.send(b"early")
    await io.stdin.aclose()
    async with peer("import time; time.sleep(0.2)\n" + OPEN_STDIN + READ_ALL, io.config.stdin) as reader:
        await io.release()
        assert await said(reader) == expected(b"early")


async def test_64_mib_into_a_slow_reader_are_exact(io):
    """A reader slower than the sender gets every byte; sending waits for it."""
    data = random.Random(7).randbytes(64 << 20)
    slow = READ_ALL.replace("count += len(block)", "count += len(block); time.sleep(0.0002)")
    async with peer(OPEN_STDIN + slow, io.config.stdin) as reader:
        await io.release()
        for offset in range(0, len(data), 10_000_000):
            await io.stdin.send(memoryview(data)[offset : offset + 10_000_000])
        await io.stdin.aclose()
        assert await said(reader) == expected(data)
    assert io.stdin.sent_bytes == len(data)


async def test_a_full_fifo_makes_sending_wait(io):
    """More than the FIFO holds waits until somebody reads; a cancelled send tells how much was taken."""
    with anyio.move_on_after(0.1) as limit:
        await io.stdin.send(bytes(2 * streams.FIFO_CAPACITY))
    assert limit.cancelled_caught
    assert io.stdin.sent_bytes == streams.FIFO_CAPACITY


async def test_a_waiting_send_survives_release(io):
    """A send that waits for room when the task starts goes on with the shim as its reader."""
    data = random.Random(8).randbytes(3 * streams.FIFO_CAPACITY)

    async def send() -> None:
        await io.stdin.send(data)
        await io.stdin.aclose()

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await anyio.sleep(0.05)
        async with peer("import time; time.sleep(0.1)\n" + OPEN_STDIN + READ_ALL, io.config.stdin) as reader:
            await io.release()
            assert await said(reader) == expected(data)


async def test_a_reader_that_leaves_breaks_the_stream(io):
    """When the reader goes while a send waits for room, the send raises BrokenResourceError; so does the next one."""
    async with peer(OPEN_STDIN + "os.read(r, 100000)", io.config.stdin):
        await io.release()
        with pytest.raises(BrokenResourceError):
            await io.stdin.send(bytes(4 * streams.FIFO_CAPACITY))
    with pytest.raises(BrokenResourceError):
        await io.stdin.send(b"x")
    await io.stdin.aclose()


async def test_a_reader_that_came_and_went_unseen_breaks_the_stream_at_once(io):
    """A reader that took something and left before release is known by what it took: no grace is granted."""
    async with peer(OPEN_STDIN + "os.read(r, 1)", io.config.stdin) as reader:
        await io.stdin.send(b"abc")
        await reader.wait()
    await io.release()
    with anyio.fail_after(streams.READER_GRACE / 4), pytest.raises(BrokenResourceError):
        await io.stdin.send(b"x")


async def test_a_reader_that_never_comes_breaks_the_stream(io, monkeypatch):
    """After release a shim that does not open stdin is given a moment, then sending raises BrokenResourceError."""
    monkeypatch.setattr(streams, "READER_GRACE", 0.1)
    await io.release()
    with anyio.fail_after(1), pytest.raises(BrokenResourceError):
        await io.stdin.send(b"x")


async def test_abandoned_input_is_broken(io):
    """Where no process came of it, sending raises at once, and so does a send that waits."""

    async def send() -> None:
        with pytest.raises(BrokenResourceError):
            await io.stdin.send(bytes(2 * streams.FIFO_CAPACITY))

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await anyio.sleep(0.02)
        with anyio.fail_after(0.5):
            io.abandon()
    with pytest.raises(BrokenResourceError):
        await io.stdin.send(b"x")
    await io.stdin.aclose()


async def test_closing_ends_our_side_then_the_daemons_once(io):
    """aclose closes our end, then calls the daemon's CloseIO exactly once however often it is called."""
    end = DaemonsEnd(io.stdin)
    async with peer(OPEN_STDIN + READ_ALL, io.config.stdin) as reader:
        await io.release(end.close)
        await io.stdin.send(b"x")
        await io.stdin.aclose()
        await io.stdin.aclose()
        assert await said(reader) == expected(b"x")
    assert end.calls == 1


async def test_input_closed_before_release_is_ended_by_release(io):
    """An end that came before the task did reaches the daemon when the task runs."""
    end = DaemonsEnd(io.stdin)
    await io.stdin.aclose()
    assert end.calls == 0
    await io.release(end.close)
    assert end.calls == 1


async def test_an_end_the_daemon_missed_is_told_again(io):
    """Where CloseIO failed, the error is raised and another aclose calls again."""
    end = DaemonsEnd(io.stdin, failures=1)
    await io.release(end.close)
    with pytest.raises(RuntimeError, match="away"):
        await io.stdin.aclose()
    await io.stdin.aclose()
    await io.stdin.aclose()
    assert end.calls == 2


async def test_leaving_closes_without_telling_the_daemon(tmp_path):
    """The end of the block closes our end and leaves the process alone."""
    async with open_fifos(directory=tmp_path) as io:
        end = DaemonsEnd(io.stdin)
        await io.release(end.close)
    assert end.calls == 0
    with pytest.raises(ClosedResourceError):
        await io.stdin.send(b"x")


async def test_sending_after_the_end_is_refused(io):
    """A closed stream takes nothing, also while closing waits for the task."""
    await io.stdin.aclose()
    with pytest.raises(ClosedResourceError):
        await io.stdin.send(b"x")


async def test_closing_wakes_a_send(io):
    """A send that waits when the stream is closed ends with ClosedResourceError."""

    async def send() -> None:
        with pytest.raises(ClosedResourceError):
            await io.stdin.send(bytes(2 * streams.FIFO_CAPACITY))

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await anyio.sleep(0.02)
        await io.stdin.aclose()


async def test_two_sends_at_once_are_refused(io):
    """The second of two concurrent sends raises; bytes of two senders never mix."""
    async with anyio.create_task_group() as group:
        group.start_soon(io.stdin.send, bytes(2 * streams.FIFO_CAPACITY))
        await anyio.sleep(0.02)
        with pytest.raises(BusyResourceError):
            await io.stdin.send(b"x")
        group.cancel_scope.cancel()


async def test_nothing_sent_is_fine(io):
    """An empty item is sent without a reader."""
    await io.stdin.send(b"")
    assert io.stdin.sent_bytes == 0


async def test_attached_input_reaches_the_running_process(io):
    """An attached stdin needs no release: the reader is there."""
    async with peer(OPEN_STDIN + READ_ALL, io.config.stdin) as reader:
        await io.release()
        await io.stdin.send(b"abc")
        async with attach_fifos(io.config) as again:
            io.stdin.close()
            await again.stdin.send(b"def")
            await again.stdin.aclose()
        assert await said(reader) == expected(b"abcdef")


async def test_attached_input_without_a_reader_is_broken_at_once(io):
    """Where the process reads no input any more, attaching works and sending raises."""
    await io.release()
    async with attach_fifos(io.config) as again:
        with anyio.fail_after(streams.READER_GRACE / 4), pytest.raises(BrokenResourceError):
            await again.stdin.send(b"x")


async def test_release_leaves_no_reader_of_ours(io):
    """After release only our write end is open: a read end would hide that the process's has gone."""
    await io.release()
    assert [int(fd) for fd, name in open_descriptors().items() if name == io.config.stdin] == [io.stdin._fd]
