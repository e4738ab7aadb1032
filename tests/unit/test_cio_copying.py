"""Pumps between byte streams: bounded, lossless, quiet about a reader that has had enough."""

from __future__ import annotations

import random

import anyio
import pytest
from anyio import BrokenResourceError, EndOfStream
from anyio.abc import ByteReceiveStream, ByteSendStream

from containerd_py.cio.copying import Capture, LineSplitter, collect, copy, discard, lines, send_all
from containerd_py.cio.fifos import open_fifos

from .fifo_peers import OPEN_AS_SHIM, OPEN_STDIN, READ_ALL, peer, said


class Chunks(ByteReceiveStream):
    """A stream of given chunks."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        if not self._chunks:
            raise EndOfStream
        assert len(self._chunks[0]) <= max_bytes
        return self._chunks.pop(0)

    async def aclose(self) -> None:
        self._chunks.clear()


class Sink(ByteSendStream):
    """Takes so many bytes, then breaks."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.taken = bytearray()
        self.closed = 0
        self._room = room

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if len(self.taken) + len(item) > self._room:
            raise BrokenResourceError
        self.taken += item

    async def aclose(self) -> None:
        self.closed += 1


async def test_collect_returns_everything():
    """Without a limit all chunks are joined."""
    assert await collect(Chunks(b"ab", b"c")) == b"abc"
    assert await collect(Chunks()) == b""


@pytest.mark.parametrize(
    ("limit", "kept", "truncated"), [(0, b"", True), (2, b"ab", True), (3, b"abc", False), (4, b"abc", False)]
)
async def test_a_capture_keeps_up_to_its_limit(limit, kept, truncated):
    """At the limit nothing is missing, one byte past it the capture says so; the stream is read to its end."""
    capture = Capture(limit)
    stream = Chunks(b"ab", b"c")
    await capture.take(stream)
    assert (capture.data, capture.is_truncated) == (kept, truncated)
    with pytest.raises(EndOfStream):
        await stream.receive()


def test_a_negative_limit_is_refused():
    """A limit is a number of bytes."""
    with pytest.raises(ValueError, match="negative"):
        Capture(-1)


async def test_a_cancelled_capture_keeps_what_it_has(tmp_path):
    """Giving up waiting for more output does not give up the output."""
    capture = Capture()
    async with (
        open_fifos(stdin=False, stderr=False, directory=tmp_path) as io,
        peer(OPEN_AS_SHIM + "os.write(w, b'some'); time.sleep(60)", io.config.stdout),
    ):
        with anyio.move_on_after(0.5):
            await capture.take(io.stdout)
    assert capture.data == b"some"


async def test_output_past_the_limit_does_not_hold_the_process_up(tmp_path):
    """A process that writes 64 MiB into a capture of 1 KiB ends by itself."""
    capture = Capture(1024)
    async with (
        open_fifos(stdin=False, stderr=False, directory=tmp_path) as io,
        peer(OPEN_AS_SHIM + "for _ in range(64): os.write(w, b'x' * (1 << 20))", io.config.stdout) as writer,
    ):
        await capture.take(io.stdout)
        assert await writer.wait() == 0
    assert (capture.data, capture.is_truncated) == (b"x" * 1024, True)


async def test_discard_reads_to_the_end():
    """Nothing is kept and nothing is left."""
    stream = Chunks(b"ab", b"c")
    await discard(stream)
    with pytest.raises(EndOfStream):
        await stream.receive()


async def test_copy_passes_everything_and_closes_neither():
    """The number of bytes comes back; both streams stay the caller's."""
    sink = Sink()
    assert await copy(Chunks(b"ab", b"c"), sink) == 3
    assert (sink.taken, sink.closed) == (b"abc", 0)


async def test_copy_tells_of_a_broken_sink():
    """A sink that has gone is the caller's to judge."""
    with pytest.raises(BrokenResourceError):
        await copy(Chunks(b"ab", b"c"), Sink(room=2))


@pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc"), Chunks(b"a", b"bc")])
async def test_send_all_sends_and_closes(data):
    """Bytes or a stream of them go in whole, then the input ends."""
    sink = Sink()
    assert await send_all(sink, data)
    assert (sink.taken, sink.closed) == (b"abc", 1)


@pytest.mark.parametrize("data", [b"abc", Chunks(b"a", b"bc", b"d")])
async def test_a_reader_that_has_had_enough_is_no_error(data):
    """A process that stops reading its input ends the sending quietly, with False, and the input is closed."""
    sink = Sink(room=1)
    assert not await send_all(sink, data)
    assert sink.closed == 1


async def test_a_failing_source_is_an_error():
    """A source that breaks is told, also where it breaks as a reader would."""

    async def source():
        yield b"a"
        raise BrokenResourceError

    with pytest.raises(BrokenResourceError):
        await send_all(Sink(), source())


async def test_input_of_a_real_reader_that_leaves_early(tmp_path):
    """As with `head -c`: 64 MiB offered, a part read, and sending ends quietly."""
    async with (
        open_fifos(stdout=False, stderr=False, directory=tmp_path) as io,
        peer(OPEN_STDIN + "os.read(r, 10)", io.config.stdin),
    ):
        await io.release()
        assert not await send_all(io.stdin, bytes(64 << 20))


async def test_copy_from_process_to_process(tmp_path):
    """One process's output is the other's input, byte for byte."""
    async with open_fifos(stderr=False, directory=tmp_path) as io:
        writer = peer(OPEN_AS_SHIM + "for _ in range(9): os.write(w, bytes(range(256)) * 4096)", io.config.stdout)
        reader = peer(OPEN_STDIN + READ_ALL, io.config.stdin)
        async with writer, reader as reading:
            assert await copy(io.stdout, io.stdin) == 9 << 20
            await io.stdin.aclose()
            await io.release()
            assert (await said(reading)).startswith(f"{9 << 20} ")


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([], []),
        ([b"a\nb\n"], [b"a\n", b"b\n"]),
        ([b"a", b"b\nc"], [b"ab\n", b"c"]),
        ([b"a\r\n\n", b"\n"], [b"a\r\n", b"\n", b"\n"]),
        ([b"12345678\n"], [b"12345678", b"\n"]),
        ([b"1234567\n"], [b"1234567\n"]),
        ([b"123456789"], [b"12345678", b"9"]),
        ([b"1234", b"56789012", b"3456\nab"], [b"12345678", b"90123456", b"\n", b"ab"]),
        ([b"\xff\x00\n"], [b"\xff\x00\n"]),
    ],
)
async def test_lines_keep_their_ends_and_are_cut_at_the_limit(chunks, expected):
    r"""Lines keep b"\n", wherever chunks are cut; more than max_line bytes come in pieces."""
    assert [line async for line in lines(Chunks(*chunks), max_line=8)] == expected


def test_lines_lose_no_byte_however_chunked():
    """Any cutting of any bytes gives the same lines, and joined they are what came (seed 5)."""
    rng = random.Random(5)
    for _ in range(300):
        data = bytes(rng.choice(b"ab\n") for _ in range(rng.randrange(60)))
        whole, cut = LineSplitter(7), LineSplitter(7)
        expected = whole.feed(data) + whole.rest()
        found, rest = [], data
        while rest:
            size = rng.randrange(1, 9)
            found += cut.feed(rest[:size])
            assert len(cut._partial) <= 7
            rest = rest[size:]
        found += cut.rest()
        assert found == expected
        assert b"".join(found) == data
        assert all(len(line) <= 7 for line in found)


def test_a_line_needs_room():
    """A limit below one byte is a mistake."""
    with pytest.raises(ValueError, match="positive"):
        LineSplitter(0)


async def test_ten_mib_without_a_newline_stay_bounded(tmp_path):
    """An endless line comes in pieces of 1 MiB; no more than one is held."""
    async with (
        open_fifos(stdin=False, stderr=False, directory=tmp_path) as io,
        peer(OPEN_AS_SHIM + "os.write(w, b'x' * (10 << 20))", io.config.stdout),
    ):
        found = [len(line) async for line in lines(io.stdout)]
    assert found == [1 << 20] * 10


async def test_cancelled_lines_go_on(tmp_path):
    """An iteration given up in the middle of a line goes on there."""
    script = OPEN_AS_SHIM + "os.write(w, b'on'); time.sleep(0.5); os.write(w, b'e\\ntwo\\n')"
    async with open_fifos(stdin=False, stderr=False, directory=tmp_path) as io, peer(script, io.config.stdout):
        reading = lines(io.stdout)
        found = []
        while not found:
            with anyio.move_on_after(0.05):
                found += [await anext(reading)]
        found += [line async for line in reading]
    assert found == [b"one\n", b"two\n"]
