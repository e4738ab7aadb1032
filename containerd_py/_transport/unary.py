"""A unary call: one request, one answer, and the answer's status with it. What generated stubs get for such calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled
from grpclib.const import Cardinality

from containerd_py import errors
from containerd_py._transport.entries import EntryReader
from containerd_py._transport.message_codec import PIECE, BigMessage
from containerd_py._transport.unary_streams import UnaryStream, UnaryStreams

if TYPE_CHECKING:  # it makes these
    from containerd_py._transport.channel import Call, Channel

T = TypeVar("T")
_NO_MESSAGE: Final = "the daemon answered OK without a message"
_ANSWER: Final = {b":status": b"200", b"content-type": b"application/grpc"}
_OK: Final = ({b"grpc-status": b"0", b"grpc-message": b""}, {b"grpc-status": b"0"})


class UnaryCall:
    """Behaves as `Call` does for stubs: enter, send one message, receive one, leave. Raises this package's errors.

    Where the connection takes no plain request at the moment, it is a `Call` that does the work.
    """

    _stream: UnaryStream | None = None
    _streams: UnaryStreams
    _call: Call | None = None

    def __init__(
        self, channel: Channel, route: str, metadata: Mapping[str, Any], request_type: type[Any], reply_type: type[Any]
    ) -> None:
        self._channel = channel
        self.route = route
        self._metadata = metadata
        self._request_type = request_type
        self._reply_type = reply_type

    async def __aenter__(self) -> Self:
        self._channel.check_usable()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        if self._call is not None:
            await self._call.__aexit__(exc_type, exc_val, exc_tb)
        elif self._stream is not None:
            self._streams.leave(self._stream)

    async def send_message(self, message: Any, *, end: bool = True) -> None:
        """Send the request.

        Raises:
            InvalidArgumentError: A value is none its field can hold.
            DaemonConnectError: The daemon cannot be connected.
        """
        data = self._channel.codec.encode(message, self._request_type)
        self._streams = await self._channel.unary_streams()
        self._stream = self._streams.begin(self._channel.request_block(self.route, self._metadata), data)
        if self._stream is None:
            self._call = await self._as_call().__aenter__()
            await self._call.send_message(message, end=end)

    async def recv_message(self) -> Any:
        """Return the answer.

        Raises:
            ContainerdError: The daemon refused, or went away meanwhile.
        """
        if self._call is not None:
            return await self._call.recv_message()
        stream = self._stream
        assert stream is not None
        await self._end(stream)
        data = stream.message()
        if data is None:
            raise errors.ProtocolError(_NO_MESSAGE)
        message = self._channel.codec.decode(data, self._reply_type)
        return await message.decoded() if isinstance(message, BigMessage) else message

    async def recv_entries(self, reader: EntryReader[T]) -> AsyncGenerator[list[T]]:
        """Yield what the reader makes of the entries of a list; of a long one as they arrive, a few at a time.

        Raises:
            ContainerdError: The daemon refused, or went away meanwhile.
        """
        if self._call is not None:
            async for made in self._call.recv_entries(reader):
                yield made
            return
        stream, rest, has_ended = self._stream, b"", False
        assert stream is not None
        while True:
            wanted = max(PIECE, reader.wanted) - len(rest)
            if not has_ended:
                await stream.arrived(wanted)
                if has_ended := stream.done.done():
                    await self._end(stream)
            data = stream.take(wanted, rest)
            if len(data) == len(rest):
                break
            made, end = reader.take(data)
            rest = data[end:]
            if made:
                yield made
            if stream.here:
                await checkpoint()
        reader.end()
        if not reader.messages:
            raise errors.ProtocolError(_NO_MESSAGE)

    async def _end(self, stream: UnaryStream) -> None:
        try:
            await stream.done
            if dict(stream.headers or ()) != _ANSWER or dict(stream.trailers or ()) not in _OK:
                self._as_call().judge(stream.headers, stream.trailers)
            stream.check_whole()
        except Exception as error:
            await checkpoint_if_cancelled()  # a cancellation wins
            made = self._channel.translated(error, self.route, self._metadata)
            if made is None:
                raise
            raise made from error

    def _as_call(self) -> Call:
        return self._channel.call(
            self.route, Cardinality.UNARY_UNARY, self._request_type, self._reply_type, self._metadata
        )
