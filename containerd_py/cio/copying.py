"""Pumps between byte streams: capture, copy, send all, lines. Knows nothing of FIFOs, paths or tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

from anyio import BrokenResourceError, EndOfStream
from anyio.abc import ByteReceiveStream, ByteSendStream

from containerd_py.cio.streams import FifoReceiveStream

MAX_LINE: Final = 1 << 20  # bytes
_CHUNK: Final = 1 << 16  # bytes: what fits the processor's cache copies fastest, measured up to 1 MiB


class Capture:
    """What a stream has given so far: kept also when taking it is cancelled.

    Past `limit` bytes the rest is read and dropped, so that the process can end; `is_truncated` tells.
    """

    def __init__(self, limit: int | None = None) -> None:
        """Keep at most `limit` bytes; None keeps all."""
        if limit is not None and limit < 0:
            raise ValueError("limit must not be negative")
        self._limit = limit
        self._data = bytearray()
        self.is_truncated: bool = False

    @property
    def data(self) -> bytes:
        """The bytes kept, as a copy."""
        return bytes(self._data)

    @property
    def size(self) -> int:
        """Bytes kept."""
        return len(self._data)

    async def take(self, stream: ByteReceiveStream) -> None:
        """Receive to the end of the stream."""
        if isinstance(stream, FifoReceiveStream):
            await self._take_fast(stream)
        else:
            async for chunk in stream:
                self._keep(chunk)

    async def _take_fast(self, stream: FifoReceiveStream) -> None:
        buffer = memoryview(bytearray(_CHUNK))
        while True:
            try:
                count = await stream.receive_into(buffer)
            except EndOfStream:
                return
            self._keep(buffer[:count])

    def _keep(self, chunk: bytes | memoryview) -> None:
        if self._limit is not None and len(self._data) + len(chunk) > self._limit:
            self.is_truncated = True
            chunk = chunk[: self._limit - len(self._data)]
        self._data += chunk


async def collect(stream: ByteReceiveStream, limit: int | None = None) -> bytes:
    """Receive to the end and return everything, or the first `limit` bytes where there are more."""
    capture = Capture(limit)
    await capture.take(stream)
    return capture.data


async def discard(stream: ByteReceiveStream) -> None:
    """Receive to the end and keep nothing, so that a process is not held up by output nobody wants."""
    await Capture(limit=0).take(stream)


async def copy(source: ByteReceiveStream, sink: ByteSendStream) -> int:
    """Send what the source gives until it ends; return the number of bytes. Neither is closed.

    Raises: BrokenResourceError where the sink's other end has gone; what was on its way is lost.
    """
    count = 0
    async for chunk in source:
        await sink.send(chunk)
        count += len(chunk)
    return count


async def send_all(stdin: ByteSendStream, data: bytes | bytearray | memoryview | AsyncIterable[bytes]) -> bool:
    """Send all input, then close `stdin`; tell whether all was taken.

    A process need not read all its input: a reader that has gone ends this quietly.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        was_taken = await _was_taken(stdin, bytes(data))
    else:
        was_taken = True
        async for chunk in data:
            was_taken = await _was_taken(stdin, chunk)
            if not was_taken:
                break
    await stdin.aclose()
    return was_taken


def lines(stream: ByteReceiveStream, *, max_line: int = MAX_LINE) -> Lines:
    r"""Iterate over the lines of a stream, each with its b"\n"; the last one may lack it.

    A line of more than `max_line` bytes comes in pieces of that many, all but its last without b"\n". Cancelling the
    iteration loses nothing: it can go on.
    """
    return Lines(stream, max_line=max_line)


class Lines(AsyncIterator[bytes]):
    """An iteration over lines; see `lines`."""

    def __init__(self, stream: ByteReceiveStream, *, max_line: int = MAX_LINE) -> None:
        """Read from the stream; closing it is the caller's."""
        self._stream = stream
        self._splitter = LineSplitter(max_line)
        self._ready: deque[bytes] = deque()
        self._at_end = False

    def __aiter__(self) -> Lines:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            if self._at_end:
                raise StopAsyncIteration
            try:
                self._ready.extend(self._splitter.feed(await self._stream.receive()))
            except EndOfStream:
                self._at_end = True
                self._ready.extend(self._splitter.rest())
        return self._ready.popleft()


class LineSplitter:
    """Cuts chunks of bytes into lines, holding at most one line's worth between two chunks."""

    def __init__(self, max_line: int = MAX_LINE) -> None:
        """Cut lines of more than `max_line` bytes into pieces."""
        if max_line < 1:
            raise ValueError("max_line must be positive")
        self._max_line = max_line
        self._partial = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines and pieces that are complete now."""
        *whole, last = chunk.split(b"\n")
        done: list[bytes] = []
        for text in whole:
            line = text + b"\n"
            if not self._partial and len(line) <= self._max_line:
                done.append(line)
            else:
                self._append(line, done)
                done.extend(self.rest())
        self._append(last, done)
        return done

    def rest(self) -> list[bytes]:
        """Return what is held back, if anything, and forget it."""
        held, self._partial = self._partial, bytearray()
        return [bytes(held)] if held else []

    def _append(self, text: bytes, done: list[bytes]) -> None:
        self._partial += text
        while len(self._partial) > self._max_line:
            done.append(bytes(self._partial[: self._max_line]))
            del self._partial[: self._max_line]


async def _was_taken(stdin: ByteSendStream, data: bytes) -> bool:
    try:
        await stdin.send(data)
    except BrokenResourceError:
        return False
    return True
