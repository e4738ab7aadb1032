"""grpclib's channel as this package needs it: typed errors at the exit of every call, guarded waits, wide windows."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

import anyio
import grpclib.client
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled
from betterproto2 import encode_varint
from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.exceptions import StreamTerminatedError
from grpclib.metadata import Deadline, _Metadata, _MetadataLike, decode_metadata
from grpclib.protocol import H2Protocol
from h2.exceptions import ProtocolError as Http2ProtocolError
from multidict import MultiDict

from containerd_py import errors
from containerd_py._transport.address import explain
from containerd_py._transport.entries import PREFIX, EntryReader
from containerd_py._transport.guard import CallGuard
from containerd_py._transport.http2 import Http2Protocol, Http2Stream, is_answered
from containerd_py._transport.message_codec import LENGTH_DELIMITED, PIECE, BigMessage, MessageCodec, head_before
from containerd_py._transport.request_headers import request_block
from containerd_py._transport.status import NO_STATUS, STATUS_HEADER, DetailsCodec, translate
from containerd_py._transport.unary import UnaryCall
from containerd_py._transport.unary_streams import Header, UnaryStreams

# One unread stream must not stop the others: the connection's window is as wide as HTTP/2 allows, a stream's is not.
CONNECTION_WINDOW: Final = 2**31 - 1
STREAM_WINDOW: Final = 4 * 1024 * 1024
SEND_BUFFER: Final = 1024 * 1024  # bytes
_SO_SNDBUFFORCE: Final = 32  # Linux, asm-generic/socket.h; the socket module lacks it
_FULL_BACKLOG_PAUSE: Final = 0.01  # seconds between attempts while the daemon has no room for another connection
_TURN: Final = 4  # messages of a stream that are taken without letting others run
_DETAILS_HEADER: Final = "grpc-status-details-bin"
T = TypeVar("T")


@contextmanager
def _damage_reported() -> Iterator[None]:
    """Raise ProtocolError where grpclib trips over headers that no daemon sends."""
    try:
        yield
    except (LookupError, ValueError) as error:
        if isinstance(error, errors.ContainerdError):
            raise
        raise errors.ProtocolError(f"the daemon's answer has headers that make no sense: {error!r}") from error


class Call(grpclib.client.Stream[Any, Any]):
    """One RPC. Leaving it raises this package's errors, never grpclib's."""

    _channel: Channel
    _wrapper: CallGuard
    _stream: Http2Stream
    _is_status_told = False  # an error that was raised inside the call, and dealt with there, is not raised again

    async def __aenter__(self) -> Self:
        self._channel.check_usable()
        await super().__aenter__()
        self._wrapper = CallGuard()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        try:
            await self._leave(exc_type, exc_val, exc_tb)
        except errors.ContainerdError:
            raise
        except Exception as error:
            await self._let_cancellation_win()
            self._raise_translated(error)
            raise
        if isinstance(exc_val, Exception):
            await self._let_cancellation_win()
            self._raise_translated(exc_val)

    async def _leave(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        answered = self._send_request_done and self.is_answered
        is_news = not self._is_status_told
        if exc_val is None and answered:
            self._end_done = True  # the server has finished: there is nobody left to half-close towards
        elif exc_val is None and self._send_request_done and not self._awaits_its_status:
            self._cancel_done = True  # left before the end: the reset below is all the server needs to know
        await super().__aexit__(exc_type, exc_val, exc_tb)
        if answered and is_news and (exc_val is None or isinstance(exc_val, (Http2ProtocolError, AssertionError))):
            self._maybe_raise()  # a status that arrived counts, also when the connection has gone meanwhile
        if exc_val is None and is_news and self._lacks_its_reply:
            raise errors.ProtocolError("the daemon answered OK without a message")

    async def _let_cancellation_win(self) -> None:
        if self._wrapper.error is not None:
            await checkpoint_if_cancelled()

    @property
    def _awaits_its_status(self) -> bool:
        return self._is_half_closed and not self._cardinality.client_streaming  # `Duplex` receives it as its last

    @property
    def _lacks_its_reply(self) -> bool:
        return self._is_half_closed and not self._cardinality.server_streaming and not self._messages_received

    @property
    def is_answered(self) -> bool:
        """Whether the daemon's status has arrived."""
        return is_answered(self._stream)

    async def finish(self) -> None:
        """Wait for the status after the last message and raise it if it is an error."""
        self._end_done = True
        if not self._recv_trailing_metadata_done:
            await self.recv_trailing_metadata()

    async def send_with_bytes(self, message: Any, field: int, data: memoryview) -> None:
        """Send a message with its bytes field of that number set to `data`, past grpclib's and betterproto's copies."""
        encoded = bytes(message) + encode_varint(field << 3 | LENGTH_DELIMITED) + encode_varint(len(data))
        prefix = PREFIX.pack(False, len(encoded) + len(data))
        with self._wrapper:
            await self._stream.send_after(prefix + encoded, data)
        self._send_message_done = True

    async def recv_message(self) -> Any:
        """Return the next message, None after the last. What has arrived already does not keep others from running."""
        message = await super().recv_message()
        if isinstance(message, BigMessage):
            return await message.decoded()
        if self._messages_received % _TURN == 0 and message is not None:
            await checkpoint()
        return message

    async def recv_bytes(self, field: int, name: str) -> bytes | None:
        """Return a bytes field of the next message, None after the last; its last field is copied once."""
        if not self._recv_initial_metadata_done:
            await self.recv_initial_metadata()
        with self._wrapper:
            prefix = await self._stream.recv_data(PREFIX.size)
            if not prefix:
                return None
            compressed, size = PREFIX.unpack(prefix)
            if compressed:
                raise errors.ProtocolError("the daemon sent a compressed message")
            head, tail = await self._stream.recv_tail(size, partial(head_before, field))
            self._messages_received += 1
        if self._messages_received % _TURN == 0:
            await checkpoint()
        if head:
            return tail
        message = self._codec.decode(tail, self._recv_type)
        found = await message.decoded() if isinstance(message, BigMessage) else message
        return cast("bytes", getattr(found, name))

    async def recv_entries(self, reader: EntryReader[T]) -> AsyncGenerator[list[T]]:
        """Yield what the reader makes of the entries of a list as they arrive, a few at a time."""
        if not self._recv_initial_metadata_done:
            await self.recv_initial_metadata()
        since_turn = 0
        while True:
            with self._wrapper:
                data = await self._stream.recv_part(reader.wanted, PIECE)
            if not data:
                break
            made, end = reader.take(data)
            self._stream.unread(data[end:])
            self._messages_received = reader.messages
            if made:
                yield made
            since_turn += end
            if since_turn >= PIECE:
                since_turn = 0
                await checkpoint()
        reader.end()

    async def recv_initial_metadata(self) -> None:
        """Wait for the answer's headers."""
        with _damage_reported():
            await super().recv_initial_metadata()

    async def recv_trailing_metadata(self) -> None:
        """Wait for the answer's end."""
        with _damage_reported():
            await super().recv_trailing_metadata()

    def judge(self, headers: Iterable[Header] | None, trailers: Iterable[Header] | None) -> None:
        """Raise what an answer's headers and trailers amount to, as grpclib reads them; nothing if all is well."""
        if headers is None:
            raise StreamTerminatedError(NO_STATUS)
        with _damage_reported():
            first = _text(headers)
            self._raise_for_status(first)
            self._raise_for_content_type(first)
            if STATUS_HEADER not in first:
                if trailers is None:
                    raise StreamTerminatedError(NO_STATUS)
                first = _text(trailers)
            self._raise_for_grpc_status(*self._process_grpc_status(first))
            decode_metadata([*first.items()])

    def _process_grpc_status(self, headers_map: dict[str, str]) -> tuple[Status, str | None, Any]:
        try:
            return super()._process_grpc_status(headers_map)
        except ValueError:  # details that are not even base64 must not hide the status
            return super()._process_grpc_status({k: v for k, v in headers_map.items() if k != _DETAILS_HEADER})

    def _raise_for_grpc_status(self, status: Status, message: str | None, details: Any) -> None:
        self._is_status_told = status is not Status.OK
        super()._raise_for_grpc_status(status, message, details)

    @property
    def _is_half_closed(self) -> bool:
        return self._end_done or (not self._cardinality.client_streaming and self._send_message_done)

    def translated(self, error: BaseException) -> errors.ContainerdError | None:
        """Return this package's error for what grpclib raised during this call, None if it is not grpclib's."""
        return self._channel.translated(error, self._method_name, self._metadata)

    def _raise_translated(self, error: BaseException) -> None:
        if isinstance(error, errors.ContainerdError):
            return
        made = self.translated(error)
        if made is not None:
            raise made from error


def _text(headers: Iterable[Header]) -> dict[str, str]:
    return {name.decode("ascii"): value.decode("ascii") for name, value in headers}


class Channel(grpclib.client.Channel):
    """One HTTP/2 connection on a unix socket; made again by itself when it is gone."""

    def __init__(self, path: str) -> None:
        config = Configuration(http2_connection_window_size=CONNECTION_WINDOW, http2_stream_window_size=STREAM_WINDOW)
        self.codec = MessageCodec()
        super().__init__(path=path, codec=self.codec, status_details_codec=DetailsCodec(), config=config)
        self._running_loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._is_closed = False
        self.daemon_version = ""  # as its Version call said on the present connection
        self.on_connected: Callable[[], object] | None = None  # told of every new connection

    def check_usable(self) -> None:
        """Refuse use where it could only hang or do harm.

        Raises:
            ClientClosedError: The client was closed, or belongs to another event loop or to the parent process.
        """
        if self._is_closed:
            raise errors.ClientClosedError("this client is closed: use it inside its `async with connect()` block")
        if self._pid != os.getpid():
            raise errors.ClientClosedError("this client belongs to the parent process: connect again after a fork")
        if asyncio.get_running_loop() is not self._running_loop:
            raise errors.ClientClosedError(
                "this client belongs to another event loop: connect in the loop that uses it"
            )

    def request(
        self,
        name: str,
        cardinality: Cardinality,
        request_type: type[Any],
        reply_type: type[Any],
        *,
        timeout: float | None = None,
        deadline: Deadline | None = None,
        metadata: _MetadataLike | None = None,
    ) -> Any:
        """Begin a call; what generated stubs use. Time limits belong to the caller's cancel scopes, so none is sent."""
        if timeout is not None or deadline is not None:
            raise errors.InvalidArgumentError("no gRPC deadlines: put the call under `anyio.fail_after(seconds)`")
        sent: dict[str, Any] = dict(metadata or {})
        if cardinality is Cardinality.UNARY_UNARY:
            return UnaryCall(self, name, sent, request_type, reply_type)
        return self.call(name, cardinality, request_type, reply_type, sent)

    def call(
        self,
        name: str,
        cardinality: Cardinality,
        request_type: type[Any],
        reply_type: type[Any],
        metadata: Mapping[str, Any],
    ) -> Call:
        """Begin a call of any kind, grpclib's way."""
        return Call(
            self,
            name,
            cast("_Metadata", MultiDict(metadata)),
            cardinality,
            request_type,
            reply_type,
            codec=self._codec,
            status_details_codec=self._status_details_codec,
            dispatch=self.__dispatch__,
        )

    async def unary_streams(self) -> UnaryStreams:
        """Connect if need be, and return what sends unary calls.

        Raises:
            DaemonConnectError: The daemon cannot be connected.
        """
        protocol = await self.__connect__()
        return cast("Http2Protocol", protocol).connection.unary

    def request_block(self, route: str, metadata: Mapping[str, Any]) -> bytes:
        """Return the packed headers of a request."""
        return request_block(self._scheme, self._authority, route, tuple(metadata.items()))

    def translated(
        self, error: BaseException, route: str, metadata: Mapping[str, Any]
    ) -> errors.ContainerdError | None:
        """Return this package's error for what grpclib or h2 raised during a call, None if it is not theirs."""
        return translate(error, method=route, metadata=metadata, version=self.daemon_version)

    def _protocol_factory(self) -> H2Protocol:
        return Http2Protocol(grpclib.client.Handler(), self._config, self._h2_config)

    @property
    def _connected(self) -> bool:
        return super()._connected and self._protocol is not None and not self._protocol.connection.is_closing()

    async def __connect__(self) -> H2Protocol:
        protocol = self._protocol
        if isinstance(protocol, Http2Protocol) and protocol.connection.is_used_up:
            self._protocol = None
            protocol.processor.retire()
        return await super().__connect__()

    async def _create_connection(self) -> H2Protocol:
        assert self._path is not None
        self.daemon_version = ""
        try:
            connected = await _connected_socket(self._path)
            _, protocol = await self._loop.create_unix_connection(self._protocol_factory, sock=connected)
        except OSError as error:
            raise explain(error, self._path) from error
        if self._is_closed:
            protocol.processor.close()
            self.check_usable()
        if self.on_connected is not None:
            self.on_connected()
        return protocol

    def close(self) -> None:
        """Close the connection; calls under way fail."""
        self._is_closed = True
        if self._pid == os.getpid():
            super().close()


async def _connected_socket(path: str) -> socket.socket:
    """Connect to a unix socket. Where the listener's backlog is full, wait: asyncio takes that for success."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        _widen(made)
        while True:
            try:
                made.connect(path)
            except BlockingIOError:
                await anyio.sleep(_FULL_BACKLOG_PAUSE)
            else:
                return made
    except BaseException:
        made.close()
        raise


def _widen(made: socket.socket) -> None:
    """Let the kernel hold as many bytes as a message has; without the right to, as many as it lets everybody."""
    try:
        made.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BUFFER)
    except OSError:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
