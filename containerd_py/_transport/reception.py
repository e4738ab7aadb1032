"""What arrives: plain DATA frames go straight to their stream's buffer, everything else goes h2's own way.

So do frames of unary calls, which have a place of their own, pings, and what opens the connection's window. h2 takes
dozens of Python calls and two copies for every 16 KiB. Reaches into its accounts, which pyproject pins and
tests/unit/test_reception.py watches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from grpclib.protocol import Buffer
from grpclib.protocol import Stream as _GrpclibStream
from h2.connection import ConnectionState, H2Connection
from h2.exceptions import ProtocolError
from h2.stream import StreamState

from containerd_py._transport.unary_streams import (
    CONTINUATION,
    CREDIT,
    DATA,
    HEADERS,
    RECEIVE_LIMIT,
    RST_STREAM,
    UnaryStreams,
)

HEADER: Final = 9  # bytes before every frame: length, type, flags, stream
PEEKED: Final = 64  # bytes: more than any head of a message with one large field has
_PLAIN_DATA: Final = b"\0\0"  # type DATA, no flags
_PING: Final = b"\0\0\x08\x06\0\0\0\0\0"  # a daemon asks with each burst it sends how long the way is
_PING_ANSWER: Final = b"\0\0\x08\x06\1\0\0\0\0"
_WINDOW_UPDATE: Final = b"\0\0\4\x08\0\0\0\0\0"  # of the connection's
_LARGEST_WINDOW: Final = 2**31 - 1
_UNARY_KINDS: Final = frozenset({DATA, HEADERS, RST_STREAM, CONTINUATION})
_RECEIVING: Final = (StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL)


class StreamBuffer(Buffer):
    """What has arrived on a stream and was not read. Gives window back for what was read, or is being waited for."""

    def __init__(self, ack: Callable[[int], None]) -> None:
        self._ack = ack
        self._pieces: deque[bytes | memoryview] = deque()
        self._size = 0
        self._owed = 0  # bytes of window to be given back
        self._has_ended = False
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None

    def add(self, data: bytes | memoryview, ack_size: int) -> None:
        """Append what arrived; `ack_size` is what it took from the window."""
        self.extend((data,), len(data), ack_size)

    def extend(self, pieces: Iterable[bytes | memoryview], size: int, ack_size: int) -> None:
        """Append pieces of `size` bytes together."""
        self._pieces.extend(pieces)
        self._size += size
        self._owed += ack_size
        if self._waiter is None:
            return
        if self._size >= self._wanted:
            self._wake()
        elif self._owed >= CREDIT:
            self._settle()  # a message larger than the window would never be whole

    def eof(self) -> None:
        """Note that nothing more will arrive."""
        self._has_ended = True
        self._wake()

    async def read(self, size: int) -> bytes:
        """Return so many bytes once they are here, none at the end."""
        await self.wait(size)
        return self.take(size) if self._size else b""

    async def wait(self, size: int) -> None:
        """Wait until so many bytes are here, or none and the end.

        Raises:
            h2.exceptions.ProtocolError: The end came within them.
        """
        while self._size < size and not self._has_ended:
            self._settle()
            self._wanted, self._waiter = size, asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if 0 < self._size < size:
            raise ProtocolError(f"the stream ended {size - self._size} bytes early")
        if self._owed >= CREDIT:
            self._settle()

    def unacked_size(self) -> int:
        """Take over the window that is still to be given back."""
        owed, self._owed = self._owed, 0
        return owed

    def peek(self) -> bytes:
        """Look at the first bytes that are here, a few that lie together."""
        return bytes(self._pieces[0][:PEEKED]) if self._pieces else b""

    def take(self, size: int) -> bytes:
        """Return bytes that are here."""
        self._size -= size
        taken: list[bytes | memoryview] = []
        while size > 0:
            piece = self._pieces.popleft()
            if len(piece) > size:
                rest = memoryview(piece)
                self._pieces.appendleft(rest[size:])
                piece = rest[:size]
            taken.append(piece)
            size -= len(piece)
        return b"".join(taken)

    def put_back(self, rest: bytes) -> None:
        """Undo the end of `take`."""
        if rest:
            self._pieces.appendleft(rest)
            self._size += len(rest)

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return self._size

    def _settle(self) -> None:
        if self._owed:
            self._ack(self.unacked_size())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Reception:
    """Tells plain DATA frames from all others.

    `streams` are those that somebody reads. `deliver` is told a stream's id and bytes for it, `pass_on` whole frames.
    """

    def __init__(
        self,
        http2: H2Connection,
        streams: Callable[[], Mapping[int, _GrpclibStream]],
        deliver: Callable[[int, list[memoryview], int], None],
        pass_on: Callable[[bytes], None],
        unary: UnaryStreams,
        write: Callable[[bytes], object],
    ) -> None:
        self._http2 = http2
        self._streams = streams
        self._deliver = deliver
        self._pass_on = pass_on
        self._unary = unary
        self._write = write
        self._begun = b""  # of a frame, or of a frame's header
        self._stream_id = 0  # whose DATA frame is being received
        self._left = 0  # bytes of it still to come

    def receive(self, data: bytes) -> None:
        """Take what came in.

        Raises:
            h2.exceptions.ProtocolError: It is not HTTP/2.
        """
        if self._begun:
            data, self._begun = self._begun + data, b""
        size, at = len(data), 0
        if self._left:
            at = min(self._left, size)
            self._left -= at
            self._hand_over(self._stream_id, [memoryview(data)[:at]], at)
        others = at  # where frames begin that are h2's
        while size - at >= HEADER:
            is_plain = data[at + 3 : at + 5] == _PLAIN_DATA and not self._unary.is_within_headers
            end = at + HEADER + int.from_bytes(data[at : at + 3], "big")
            if is_plain or (end <= size and self._is_ours(data, at)):
                if others < at:
                    self._pass_on(data[others:at])
                    others = at
                if taken := self._take_run(data, at) if is_plain else self._take_frame(data, at, end):
                    others = at = at + taken
                    continue
            if end > size:
                break
            at = end
        if others < at:
            self._pass_on(data[others:at])
        if at < size:
            self._keep(data[at:])

    def _is_ours(self, data: bytes, at: int) -> bool:
        """Tell whether a frame is a unary call's, a ping, or more of the connection's window."""
        if self._unary.is_within_headers:
            return True
        kind = data[at + 3]
        if kind in _UNARY_KINDS:
            return self._unary.owns(int.from_bytes(data[at + 5 : at + HEADER], "big"))
        return data[at : at + HEADER] in {_PING, _WINDOW_UPDATE}

    def _take_frame(self, data: bytes, at: int, end: int) -> int:
        """Take a frame that `_is_ours` and return its size; 0 if h2 knows better what to say of it."""
        head, payload = data[at : at + HEADER], data[at + HEADER : end]
        if self._is_within_headers or len(payload) > self._http2.max_inbound_frame_size:
            return 0
        if self._unary.is_within_headers or head[3] in _UNARY_KINDS:
            self._unary.take_frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
        elif head == _PING:
            self._write(_PING_ANSWER + payload)
        elif not self._open_window(int.from_bytes(payload, "big")):
            return 0
        return end - at

    def _open_window(self, size: int) -> bool:
        """Let the peer take so many more bytes; return False, having done nothing, if that makes no sense."""
        opened = self._http2.outbound_flow_control_window + size
        if not size or opened > _LARGEST_WINDOW:
            return False
        self._http2.outbound_flow_control_window = opened
        for stream in self._streams().values():
            stream.window_updated.set()
        return True

    def _hand_over(self, stream_id: int, pieces: list[memoryview], size: int) -> None:
        if self._unary.owns(stream_id):
            self._unary.take_data(stream_id, pieces, size)
        else:
            self._deliver(stream_id, pieces, size)

    def _take_run(self, data: bytes, at: int) -> int:
        """Take the DATA frames that follow each other on one stream; return how many bytes they are with headers."""
        start, size, like_it = at, len(data), data[at + 3 : at + HEADER]
        stream_id = int.from_bytes(like_it[2:], "big")
        frame_limit, room = self._http2.max_inbound_frame_size, self._room(stream_id)
        view, pieces, total = memoryview(data), [], 0
        while size - at >= HEADER and data[at + 3 : at + HEADER] == like_it:
            length = int.from_bytes(data[at : at + 3], "big")
            if length > frame_limit or total + length > room:
                break
            total += length
            begin = at + HEADER
            at = begin + length
            pieces.append(view[begin:at])
        if pieces:
            self._stream_id, self._left = stream_id, max(0, at - size)
            self._debit(stream_id, total)
            self._hand_over(stream_id, pieces, total - self._left)
        return min(at, size) - start

    def _room(self, stream_id: int) -> int:
        """Say how many bytes may come on a stream; none if anything is odd about it, for h2 knows what to say then."""
        http2 = self._http2
        if self._unary.owns(stream_id):
            return -1 if self._is_within_headers else RECEIVE_LIMIT
        stream = http2.streams.get(stream_id)
        if (
            stream is None
            or stream_id not in self._streams()
            or stream.state_machine.state not in _RECEIVING
            or stream._expected_content_length is not None  # noqa: SLF001
            or http2.state_machine.state is not ConnectionState.CLIENT_OPEN
            or self._is_within_headers
        ):
            return -1
        return min(
            http2._inbound_flow_control_window_manager.current_window_size,  # noqa: SLF001
            stream._inbound_window_manager.current_window_size,  # noqa: SLF001
        )

    @property
    def _is_within_headers(self) -> bool:
        return bool(self._http2.incoming_buffer._headers_buffer)  # noqa: SLF001

    def _debit(self, stream_id: int, size: int) -> None:
        if self._unary.owns(stream_id):
            return
        self._http2._inbound_flow_control_window_manager.window_consumed(size)  # noqa: SLF001
        self._http2.streams[stream_id]._inbound_window_manager.window_consumed(size)  # noqa: SLF001

    def _keep(self, begun: bytes) -> None:
        """Keep the beginning of a frame; one too large to come from HTTP/2 is found out at once."""
        if len(begun) >= 3 and int.from_bytes(begun[:3], "big") > self._http2.max_inbound_frame_size:
            self._pass_on(begun)
        else:
            self._begun = begun
