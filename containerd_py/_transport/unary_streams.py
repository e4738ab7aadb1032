"""The unary calls under way on a connection, past h2: request and answer of each are a handful of plain frames.

h2 takes hundreds of Python calls for them. What is told to h2 is what its other streams need to know: the stream IDs
that are taken, the bytes that left the windows, the headers' table. Reaches into its accounts, which pyproject pins
and tests/unit/test_unary_streams.py watches. What is odd about a request goes h2's own way.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from grpclib.exceptions import StreamTerminatedError
from h2.connection import ConnectionState, H2Connection
from h2.exceptions import ProtocolError
from hpack import HPACKError
from hyperframe.frame import WindowUpdateFrame

from containerd_py import errors
from containerd_py._transport.status import NO_STATUS

RECEIVE_LIMIT: Final = 64 * 1024 * 1024  # bytes: a reply larger than any daemon sends is damage, not data
CREDIT: Final = 512 * 1024  # bytes after which flow-control window is given back
BLOCK_LIMIT: Final = 256 * 1024  # bytes of headers in one block; hpack bounds what is in them
UNLIMITED: Final = 2**31  # streams at once: what a peer that sets no limit allows

DATA, HEADERS, RST_STREAM, CONTINUATION = 0x0, 0x1, 0x3, 0x9  # types of frames (RFC 9113, 6)
END_STREAM, END_HEADERS, PADDED, PRIORITY = 0x1, 0x4, 0x8, 0x20  # their flags
_CANCEL: Final = 0x8  # error code (RFC 9113, 7)
_PRIORITY_FIELDS: Final = 5  # bytes
_PREFIX: Final = 5  # bytes before every message: compressed or not, size
_HEADERS_HEAD: Final = struct.Struct(">HBBBL")  # length in two parts, type, flags, stream
_DATA_HEAD: Final = struct.Struct(">HBBBLBL")  # and a message's prefix
_RESET: Final = struct.Struct(">HBBBLL")

Header = tuple[bytes, bytes]


class UnaryStream:
    """One call: what has arrived of its answer, and a future for the end of it."""

    __slots__ = (
        "announced",
        "done",
        "headers",
        "here",
        "owed",
        "part",
        "pieces",
        "size",
        "stream_id",
        "trailers",
        "wanted",
    )

    def __init__(self, stream_id: int, done: asyncio.Future[None]) -> None:
        self.stream_id = stream_id
        self.done = done
        self.headers: Iterable[Header] | None = None
        self.trailers: Iterable[Header] | None = None
        self.pieces: deque[bytes | memoryview] = deque()
        self.size = 0  # bytes that have arrived
        self.here = 0  # bytes of them in `pieces`
        self.wanted = 0  # bytes that somebody waits for
        self.part: asyncio.Future[None] | None = None  # told when they are here, or no more comes
        self.announced = -1  # bytes of the message and its prefix, once known
        self.owed = 0  # bytes of window to be given back

    async def arrived(self, size: int) -> None:
        """Wait until so many bytes are here, or all that there are."""
        while self.here < size and not self.done.done():
            self.wanted, self.part = size, asyncio.get_running_loop().create_future()
            try:
                await self.part
            finally:
                self.part = None

    def take(self, size: int, before: bytes) -> bytes:
        """Return so many bytes or a few more, if they are here, behind others."""
        taken: list[bytes | memoryview] = [before]
        while size > 0 and self.pieces:
            piece = self.pieces.popleft()
            taken.append(piece)
            size -= len(piece)
            self.here -= len(piece)
        return b"".join(taken)

    def message(self) -> bytes | None:
        """Return the message's bytes, None where there is none; `check_whole` before."""
        if not self.size:
            return None
        first, *others = self.pieces if len(self.pieces[0]) >= _PREFIX else [b"".join(self.pieces)]
        return b"".join((first[_PREFIX:], *others))

    def check_whole(self) -> None:
        """See that nothing is missing at the end.

        Raises:
            ProtocolError: The message is not whole.
        """
        if self.size and self.size != self.announced:
            raise errors.ProtocolError(f"the daemon's answer ended within its message, after {self.size} bytes")

    def look_at_prefix(self) -> None:
        """Learn the message's size, once its prefix is here; see that no more than it arrives.

        Raises:
            ProtocolError: It is compressed or too large, or there is more than one.
        """
        if self.announced < 0 and self.size >= _PREFIX:
            first = self.pieces[0] if len(self.pieces[0]) >= _PREFIX else b"".join(self.pieces)
            size = int.from_bytes(first[1:_PREFIX], "big")
            if first[0]:
                raise errors.ProtocolError("the daemon sent a compressed message")
            if size > RECEIVE_LIMIT:
                raise errors.ProtocolError(f"a message of {size} bytes was announced, more than any daemon sends")
            self.announced = _PREFIX + size
        if 0 <= self.announced < self.size:
            raise errors.ProtocolError("the daemon sent more than one message where one was asked for")

    def forget(self) -> None:
        """Say that nobody will look: asyncio complains of errors that nobody heard of."""
        if not self.done.cancelled():
            self.done.exception()

    def end(self, error: Exception | None = None) -> None:
        """Wake who waits."""
        if self.done.done():
            return
        self._tell_waiter()
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)

    def add(self, pieces: list[memoryview], size: int) -> None:
        """Append what arrived."""
        self.pieces += pieces
        self.size += size
        self.here += size
        if self.here >= self.wanted:
            self._tell_waiter()

    def _tell_waiter(self) -> None:
        if self.part is not None and not self.part.done():
            self.part.set_result(None)


class UnaryStreams:
    """Sends requests and takes the frames of their answers. `write` gets bytes for the peer."""

    def __init__(self, http2: H2Connection, write: Callable[[bytes], object], write_ready: asyncio.Event) -> None:
        self._http2 = http2
        self._write = write
        self._write_ready = write_ready
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, UnaryStream] = {}
        self._begun: tuple[int, int, bytes] | None = None  # headers that go on: stream, flags, what is here
        self._owed = 0  # bytes of the connection's window to be given back
        self.on_idle: Callable[[], object] | None = None  # told whenever the last call under way has ended

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, block: bytes, message: bytes) -> UnaryStream | None:
        """Send a request, its headers packed; return None, having done nothing, where it is h2 that must see to it."""
        http2, size = self._http2, _PREFIX + len(message)
        settings = http2.remote_settings
        if (
            http2.state_machine.state is not ConnectionState.CLIENT_OPEN  # nothing was sent before
            or not self._write_ready.is_set()
            or max(size, len(block)) > settings.max_frame_size
            or size > min(http2.outbound_flow_control_window, settings.initial_window_size)
            or settings.max_concurrent_streams < UNLIMITED
        ):
            return None
        stream_id = (http2.highest_outbound_stream_id + 1) | 1
        http2.highest_outbound_stream_id = stream_id
        http2.outbound_flow_control_window -= size
        self._open[stream_id] = stream = UnaryStream(stream_id, self._loop.create_future())
        self._write(
            b"".join(
                (
                    _HEADERS_HEAD.pack(len(block) >> 8, len(block) & 0xFF, HEADERS, END_HEADERS, stream_id),
                    block,
                    _DATA_HEAD.pack(size >> 8, size & 0xFF, DATA, END_STREAM, stream_id, 0, size - _PREFIX),
                    message,
                )
            )
        )
        return stream

    def leave(self, stream: UnaryStream) -> None:
        """Reset a call whose answer nobody waits for any more; nothing where it has ended."""
        if self._forget(stream.stream_id) is None:
            stream.forget()
        else:
            stream.done.cancel()
            self._write(_RESET.pack(0, 4, RST_STREAM, 0, stream.stream_id, _CANCEL))

    def close(self, reason: str) -> None:
        """End all calls: the connection has gone."""
        streams, self._open = self._open, {}
        for stream in streams.values():
            stream.end(StreamTerminatedError(reason))

    def owns(self, stream_id: int) -> bool:
        """Tell whether frames of that stream are for us, also after it has ended: h2 knows nothing of it."""
        if stream_id in self._open:
            return True
        http2 = self._http2
        return bool(
            stream_id & 1
            and stream_id <= http2.highest_outbound_stream_id
            and stream_id not in http2.streams
            and stream_id not in http2._closed_streams  # noqa: SLF001
        )

    @property
    def is_within_headers(self) -> bool:
        """Whether a block of headers has begun; nothing but its rest may come then."""
        return self._begun is not None

    def take_data(self, stream_id: int, pieces: list[memoryview], size: int, padding: int = 0) -> None:
        """Take `size` bytes of DATA frames, `padding` left out."""
        self._owed += size + padding
        if self._owed >= CREDIT:
            self._give_back()
        stream = self._open.get(stream_id)
        if stream is None:
            return
        stream.add(pieces, size)
        try:
            stream.look_at_prefix()
        except errors.ProtocolError as error:
            stream.end(error)
            self.leave(stream)
            return
        stream.owed += size + padding
        if stream.owed >= CREDIT:
            self._write(WindowUpdateFrame(stream_id, stream.owed).serialize())
            stream.owed = 0

    def take_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Take any other frame of a stream of ours.

        Raises:
            h2.exceptions.ProtocolError: It makes no sense: the connection is lost.
        """
        if self._begun is not None or kind == CONTINUATION:
            self._go_on_with_headers(kind, flags, stream_id, payload)
        elif kind == HEADERS:
            block = _without_padding(payload, flags)
            if flags & PRIORITY:
                block = block[_PRIORITY_FIELDS:]
            if flags & END_HEADERS:
                self._take_headers(stream_id, block, ends=bool(flags & END_STREAM))
            else:
                self._begun = stream_id, flags, block
        elif kind == DATA:
            data = _without_padding(payload, flags)
            self.take_data(stream_id, [memoryview(data)], len(data), len(payload) - len(data))
            if flags & END_STREAM:
                self._end(stream_id)
        elif kind == RST_STREAM:
            self._end(stream_id, f"Stream reset by remote party, error_code: {int.from_bytes(payload, 'big')}")

    def _go_on_with_headers(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._begun is None or kind != CONTINUATION or stream_id != self._begun[0]:
            raise ProtocolError("headers were interrupted, or go on without having begun")
        _, first_flags, block = self._begun
        block += payload
        if len(block) > BLOCK_LIMIT:
            raise ProtocolError(f"headers of more than {BLOCK_LIMIT} bytes")
        self._begun = None if flags & END_HEADERS else (stream_id, first_flags, block)
        if flags & END_HEADERS:
            self._take_headers(stream_id, block, ends=bool(first_flags & END_STREAM))

    def _take_headers(self, stream_id: int, block: bytes, *, ends: bool) -> None:
        try:  # of a call that was left, too: every block may change the table for the next one
            headers = self._http2.decoder.decode(block, raw=True)
        except (HPACKError, IndexError, TypeError, UnicodeDecodeError) as error:
            raise ProtocolError(f"headers that cannot be unpacked: {error!r}") from error
        stream = self._open.get(stream_id)
        if stream is None:
            return
        if stream.headers is None:
            stream.headers = headers
        else:
            stream.trailers = headers
        if ends:
            self._forget(stream_id)
            stream.end()

    def _end(self, stream_id: int, reason: str = NO_STATUS) -> None:
        stream = self._forget(stream_id)
        if stream is not None:
            stream.end(StreamTerminatedError(reason))

    def _forget(self, stream_id: int) -> UnaryStream | None:
        stream = self._open.pop(stream_id, None)
        if not self._open and self.on_idle is not None:
            self.on_idle()
        return stream

    def _give_back(self) -> None:
        manager = self._http2._inbound_flow_control_window_manager  # noqa: SLF001
        manager.window_consumed(self._owed)
        increment = manager.process_bytes(self._owed)
        self._owed = 0
        if increment:
            self._write(WindowUpdateFrame(0, increment).serialize())


def _without_padding(payload: bytes, flags: int) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolError("more padding than frame")
    return payload[1 : len(payload) - payload[0]]
