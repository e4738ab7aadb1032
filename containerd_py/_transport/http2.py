"""grpclib's HTTP/2 protocol with the defects that matter here mended, by subclassing at its own seams.

What differs from stock grpclib: a stream that a server ended first keeps what it sent; calls waiting to be sent wake when
the connection dies; unknown HTTP/2 events are ignored; a dead connection can still be read from.
"""

from __future__ import annotations

import weakref
from asyncio import Transport
from typing import Final

from grpclib.config import Configuration
from grpclib.exceptions import StreamTerminatedError
from grpclib.protocol import Connection as _GrpclibConnection
from grpclib.protocol import EventsProcessor, H2Protocol, Stream
from grpclib.utils import Wrapper
from h2.connection import H2Connection
from h2.events import Event as H2Event
from h2.events import StreamReset

_STATUS_HEADER: Final = "grpc-status"


def is_answered(stream: Stream) -> bool:
    """Tell whether the server's last word, the status, has arrived."""
    if stream.trailers is not None:
        return True
    return stream.headers is not None and any(name == _STATUS_HEADER for name, _ in stream.headers)


class Http2Connection(_GrpclibConnection):
    """Knows every call that was begun on it, also those that have not reached the wire."""

    def __init__(self, connection: H2Connection, transport: Transport, *, config: Configuration) -> None:
        super().__init__(connection, transport, config=config)
        self.guards: weakref.WeakSet[Wrapper] = weakref.WeakSet()

    def create_stream(self, *, stream_id: int | None = None, wrapper: Wrapper | None = None) -> Stream:
        """Make the stream of a call and remember who waits for it."""
        if wrapper is not None:
            self.guards.add(wrapper)
        return super().create_stream(stream_id=stream_id, wrapper=wrapper)

    def ack(self, stream_id: int, size: int) -> None:
        """Give flow-control window back, as long as there is somebody to give it to."""
        if not self.is_closing():
            super().ack(stream_id, size)

    def flush(self) -> None:
        """Write what HTTP/2 has to say, unless the connection has gone."""
        if hasattr(self, "_transport"):
            super().flush()


class Http2Processor(EventsProcessor):
    """Dispatches HTTP/2 events to streams."""

    connection: Http2Connection

    def process(self, event: H2Event) -> None:
        """Handle one event; kinds this client has no use for are ignored."""
        processors = getattr(self, "processors", None)
        if processors is not None and event.__class__ in processors:
            processors[event.__class__](event)

    def process_stream_reset(self, event: StreamReset) -> None:
        """End a stream, unless the server reset it after having answered, which only says that it reads no more."""
        stream = self.streams.get(event.stream_id)
        if stream is not None and is_answered(stream):
            stream.window_updated.set()  # a sender waiting for window finds the stream closed
            return
        super().process_stream_reset(event)

    def close(self, reason: str = "Connection closed") -> None:
        """Wake everybody: calls that were answered keep their answer, the others learn the reason."""
        streams, self.streams = self.streams, {}  # each call holds the old table and still releases its own stream there
        answered = {id(stream.wrapper) for stream in streams.values() if is_answered(stream)}
        for stream in streams.values():
            stream.window_updated.set()
        super().close(reason)
        for guard in list(self.connection.guards):
            if id(guard) not in answered:
                guard.cancel(StreamTerminatedError(reason))


class Http2Protocol(H2Protocol):
    """What asyncio drives: grpclib's protocol with our connection and processor in it."""

    def connection_made(self, transport: object) -> None:
        """Set HTTP/2 up as grpclib does, then replace the two parts."""
        super().connection_made(transport)  # type: ignore[arg-type]
        stock = self.connection
        self.connection = Http2Connection(stock._connection, stock._transport, config=self.config)  # noqa: SLF001
        self.processor = Http2Processor(self.handler, self.connection)
