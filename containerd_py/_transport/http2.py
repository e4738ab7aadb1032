"""grpclib's HTTP/2 protocol with the defects that matter here mended, by subclassing at its own seams.

What differs from stock grpclib: a stream that a server ended first keeps what it sent; calls waiting to be sent, or to
send on, wake when the connection dies; a peer that speaks something else is found out by its first bytes; unknown
HTTP/2 events are ignored; a dead connection can still be read from, and no call begins on one.
"""

from __future__ import annotations

import weakref
from asyncio import BaseTransport, Transport
from collections.abc import Callable
from functools import partial
from typing import Final, cast

from grpclib.config import Configuration
from grpclib.exceptions import StreamTerminatedError
from grpclib.protocol import Connection as _GrpclibConnection
from grpclib.protocol import EventsProcessor, H2Protocol
from grpclib.protocol import Stream as _GrpclibStream
from grpclib.utils import Wrapper
from h2.connection import H2Connection
from h2.events import Event as H2Event
from h2.events import StreamEnded, StreamReset
from h2.exceptions import FrameTooLargeError, ProtocolError, StreamClosedError
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, Frame

from containerd_py import errors
from containerd_py._transport.bursts import BURST, take_burst
from containerd_py._transport.outbox import Outbox
from containerd_py._transport.reception import Reception, StreamBuffer
from containerd_py._transport.reply_headers import ReplyDecoder
from containerd_py._transport.request_headers import RequestEncoder
from containerd_py._transport.status import NO_STATUS, STATUS_HEADER
from containerd_py._transport.unary_streams import RECEIVE_LIMIT, UnaryStreams

# Stream ids go up by 2 to 2^31 and are not used twice: past half of them the next call gets a new connection.
LAST_FRESH_STREAM: Final = 2**30
CONNECTION_LOST: Final = "Connection lost"
_LENGTH_BYTES: Final = 3  # of a frame's header: the length of what follows the header


def is_answered(stream: _GrpclibStream) -> bool:
    """Tell whether the server's last word, the status, has arrived."""
    if stream.trailers is not None:
        return True
    return stream.headers is not None and any(name == STATUS_HEADER for name, _ in stream.headers)


class Http2Stream(_GrpclibStream):
    """One call's stream. Whoever waits to send on it wakes when it has been answered."""

    def init_stream(self, stream_id: int, connection: _GrpclibConnection) -> None:
        """Begin, with a buffer of our own."""
        super().init_stream(stream_id, connection)
        self.buffer = StreamBuffer(partial(connection.ack, stream_id))

    async def recv_data(self, size: int) -> bytes:
        """Return exactly so many bytes, or none at the end.

        Raises:
            ProtocolError: No message can be that large.
        """
        _check_announced(size)
        return await super().recv_data(size)

    async def recv_tail(self, size: int, length_of_head: Callable[[bytes, int], int]) -> tuple[int, bytes]:
        """Return a message of so many bytes without its head, and how long that was; so the tail is copied but once.

        `length_of_head` is given the message's first bytes and its size.
        """
        _check_announced(size)
        buffer = cast("StreamBuffer", self.buffer)
        await buffer.wait(size)
        head = min(size, length_of_head(buffer.peek(), size))
        buffer.take(head)
        return head, buffer.take(size - head)

    async def recv_part(self, least: int, most: int) -> bytes:
        """Return what has arrived, between so many bytes, or none at the end."""
        buffer = cast("StreamBuffer", self.buffer)
        await buffer.wait(least)
        return buffer.take(min(buffer.size, max(least, most)))

    def unread(self, rest: bytes) -> None:
        """Put back what was received too early."""
        cast("StreamBuffer", self.buffer).put_back(rest)

    async def send_data(self, data: bytes, end_stream: bool = False) -> None:
        """Send a message's bytes as fast as the peer takes them.

        Raises:
            StreamClosedError: The peer has answered and reads no more.
        """
        await self._send_rest(memoryview(data), end_stream=end_stream)

    async def send_after(self, head: bytes, data: memoryview) -> None:
        """Send `head` and then `data`, which is not copied to stand behind it; as `send_data` otherwise."""
        assert self.id is not None
        frame_size = self._h2_connection.max_outbound_frame_size
        if len(head) >= frame_size or len(data) <= frame_size:
            await self._send_rest(memoryview(head + data))
            return
        while (room := await self._room()) <= len(head):  # no use in sending less
            self.window_updated.clear()
            await self.window_updated.wait()
        size = min(room, BURST, len(data)) - len(head)
        self._transport.writelines(take_burst(self._h2_connection, self.id, data[:size], head))
        await self._send_rest(data[size:])

    async def _send_rest(self, rest: memoryview, *, end_stream: bool = False) -> None:
        assert self.id is not None
        frame_size = self._h2_connection.max_outbound_frame_size
        last_frame = len(rest) % frame_size or min(frame_size, len(rest))
        while (before_last := len(rest) - last_frame) > 0:
            size = min(await self._room(), before_last, BURST)
            self._transport.writelines(take_burst(self._h2_connection, self.id, rest[:size]))
            rest = rest[size:]
        while True:  # the last frame goes h2's own way, which knows what the end of a stream means
            size = min(await self._room(), len(rest))
            is_last = size == len(rest)
            self._h2_connection.send_data(self.id, bytes(rest[:size]), end_stream=end_stream and is_last)
            self._transport.write(self._h2_connection.data_to_send())
            if is_last:
                return
            rest = rest[size:]

    async def _room(self) -> int:
        """Wait until bytes may be sent and return how many."""
        assert self.id is not None
        while True:
            await self.connection.write_ready.wait()
            if is_answered(self):
                raise StreamClosedError(self.id)
            window = self._h2_connection.local_flow_control_window(self.id)
            if window > 0:
                return window
            self.window_updated.clear()
            await self.window_updated.wait()


def _check_announced(size: int) -> None:
    if size > RECEIVE_LIMIT:
        raise errors.ProtocolError(f"a message of {size} bytes was announced, more than any daemon sends")


class _Http2(H2Connection):
    """h2 without its eagerness to print every frame for a log that nobody keeps, which cost half of a read's time."""

    def _receive_frame(self, frame: Frame) -> list[H2Event]:
        if not isinstance(frame, DataFrame):
            return super()._receive_frame(frame)
        frames, events = self._receive_data_frame(frame)
        self._prepare_for_sending(frames)
        return events


class Http2Connection(_GrpclibConnection):
    """Knows every call that was begun on it, also those that have not reached the wire."""

    def __init__(self, connection: H2Connection, transport: Transport, *, config: Configuration) -> None:
        super().__init__(connection, transport, config=config)
        self.guards: weakref.WeakSet[Wrapper] = weakref.WeakSet()
        self.unary = UnaryStreams(connection, transport.write, self.write_ready)

    @property
    def is_used_up(self) -> bool:
        """Whether it has served so many calls that the next one should get a new connection."""
        return self._connection.highest_outbound_stream_id > LAST_FRESH_STREAM

    def create_stream(self, *, stream_id: int | None = None, wrapper: Wrapper | None = None) -> Http2Stream:
        """Make the stream of a call and remember who waits for it."""
        if self.is_closing():  # it was made a moment ago and has gone already
            raise StreamTerminatedError(CONNECTION_LOST)
        if wrapper is not None:
            self.guards.add(wrapper)
        return Http2Stream(self, self._connection, self._transport, stream_id=stream_id, wrapper=wrapper)

    def feed(self, data: bytes) -> list[H2Event]:
        """Take what came in.

        Raises:
            h2.exceptions.ProtocolError: It is not HTTP/2.
        """
        try:
            events = super().feed(data)
        except ProtocolError:
            raise
        except Exception as error:  # such as text that is none: what h2 does not foresee ends the connection as well
            raise ProtocolError(repr(error)) from error
        # h2 looks at a frame when all of it is there. What is no HTTP/2 announces megabytes, and would never be.
        begun = self._connection.incoming_buffer
        announced = int.from_bytes(begun._data[:_LENGTH_BYTES], "big") if len(begun._data) >= _LENGTH_BYTES else 0  # noqa: SLF001
        if announced > begun.max_frame_size:
            raise FrameTooLargeError(f"a frame of {announced} bytes was announced")
        return events

    def ack(self, stream_id: int, size: int) -> None:
        """Give flow-control window back, as long as there is somebody to give it to."""
        if not self.is_closing():
            super().ack(stream_id, size)

    def resume_writing(self) -> None:
        """Let writers go on, and send the resets of calls that ended while nothing could be written."""
        super().resume_writing()
        self.flush()

    def flush(self) -> None:
        """Write what HTTP/2 has to say, unless the connection has gone."""
        if hasattr(self, "_transport"):
            super().flush()


class Http2Processor(EventsProcessor):
    """Dispatches HTTP/2 events to streams."""

    connection: Http2Connection
    is_retired: bool = False

    def register(self, stream: _GrpclibStream) -> Callable[[], None]:
        """Remember the stream of a call; return what forgets it."""
        release = super().register(stream)

        def release_stream() -> None:
            release()
            if self.is_retired:
                self.retire()

        return release_stream

    def retire(self) -> None:
        """Close as soon as the calls under way have ended."""
        self.is_retired = True
        self.connection.unary.on_idle = self.retire
        if not self.streams and not self.connection.unary:
            self.close()

    def process(self, event: H2Event) -> None:
        """Handle one event; kinds this client has no use for are ignored."""
        processors = getattr(self, "processors", None)
        if processors is not None and event.__class__ in processors:
            processors[event.__class__](event)

    def deliver(self, stream_id: int, pieces: list[memoryview], size: int) -> None:
        """Hand bytes to the call they are for; of one that has ended, only the window is of interest."""
        stream = self.streams.get(stream_id)
        if stream is None:
            self.connection.ack(stream_id, size)
        else:
            cast("StreamBuffer", stream.buffer).extend(pieces, size, size)
            stream.data_received += size
        self.connection.data_received += size

    def process_stream_ended(self, event: StreamEnded) -> None:
        """End a stream; one that ends without a status has failed, and nobody must wait for it."""
        super().process_stream_ended(event)
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.window_updated.set()  # a sender waiting for window finds the stream answered
            if not is_answered(stream):
                stream.__terminated__(NO_STATUS)

    def process_stream_reset(self, event: StreamReset) -> None:
        """End a stream, unless the server reset it after having answered, which only says that it reads no more."""
        stream = self.streams.get(event.stream_id)
        if stream is not None and is_answered(stream):
            stream.window_updated.set()
            return
        super().process_stream_reset(event)

    def close(self, reason: str = "Connection closed") -> None:
        """Wake everybody: calls that were answered keep their answer, the others learn the reason."""
        streams, self.streams = (
            self.streams,
            {},
        )  # each call holds the old table and still releases its own stream there
        answered = {id(stream.wrapper) for stream in streams.values() if is_answered(stream)}
        super().close(reason)
        self.connection.unary.close(reason)
        self.connection.write_ready.set()
        for stream in streams.values():
            stream.window_updated.set()
        for guard in list(self.connection.guards):
            if id(guard) not in answered:
                guard.cancel(StreamTerminatedError(reason))


class Http2Protocol(H2Protocol):
    """What asyncio drives: grpclib's protocol with our connection and processor in it."""

    connection: Http2Connection
    processor: Http2Processor

    def connection_made(self, transport: BaseTransport) -> None:
        """Set HTTP/2 up as grpclib does, with our own parts and the windows that the channel chose."""
        http2 = _Http2(config=self.h2_config)
        http2.encoder = RequestEncoder()
        http2.decoder = ReplyDecoder()
        http2.decoder.max_header_list_size = http2.DEFAULT_MAX_HEADER_LIST_SIZE
        http2.initiate_connection()
        initial = http2.local_settings.initial_window_size
        http2.increment_flow_control_window(self.config.http2_connection_window_size - initial)
        http2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: self.config.http2_stream_window_size})
        outbox = Outbox(cast("Transport", transport))
        self.connection = Http2Connection(http2, outbox, config=self.config)
        self.connection.flush()
        self.processor = Http2Processor(self.handler, self.connection)
        self._reception = Reception(
            http2,
            lambda: self.processor.streams,
            self.processor.deliver,
            super().data_received,
            self.connection.unary,
            outbox.write,
        )

    def data_received(self, data: bytes) -> None:
        """Take what came in."""
        try:
            self._reception.receive(data)
        except ProtocolError:
            self.processor.close("Protocol error")
