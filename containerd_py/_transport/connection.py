"""The one way to a daemon: calls with typed errors, under a scope, repeated where repeating is harmless."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Final, Protocol, TypeVar

import anyio
import attrs
from anyio.abc import TaskGroup
from grpclib.const import Cardinality

from containerd_py._codec.message import Message
from containerd_py._transport.channel import Channel
from containerd_py._transport.comeback import Comeback
from containerd_py._transport.duplex import Duplex, open_duplex
from containerd_py._transport.entries import EntryReader
from containerd_py._transport.scope import Scope
from containerd_py.errors import ConnectionLostError, DaemonConnectError

# A daemon that restarts is away for a moment: reads wait this long (seconds) for it, in steps.
RETRY_PAUSES: Final = (0.0, 0.05, 0.1, 0.2, 0.4)

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")
T = TypeVar("T")
StubT = TypeVar("StubT", covariant=True)


class StubClass(Protocol[StubT]):
    """A generated stub's class."""

    def __call__(self, channel: Channel, *, metadata: dict[str, str]) -> StubT:
        """Make the stub."""
        ...


class Connection:
    """A daemon's address and the channel to it. Connects at the first call, and again after the daemon restarts."""

    def __init__(self, address: str, background: TaskGroup) -> None:
        self.address = address
        self.channel = Channel(address)
        self.comeback = Comeback(self.channel.__connect__)
        self.background = background  # what waits on behalf of handles lives here and ends with the connection
        self.features: frozenset[str] = frozenset()  # what the daemon serves (`_flows.capabilities`)
        self.daemon_root = ""  # where the daemon keeps its files (`_flows.capabilities`)
        self.host: object | None = None  # whether they are ours, once somebody has asked (`_flows.same_host`)
        self.data_root: str | None = None  # where directories of containers are (`_flows.state_directory`)
        self.network_settings: object | None = None  # where this host has its networks (`_flows.network_settings`)
        self.debts: list[object] = []  # what flows could not undo while the daemon was away (`_flows.undoing`)

    def __repr__(self) -> str:
        return f"<Connection {self.address}>"


@attrs.frozen
class Rpc:
    """What services call with: a connection and the scope of every call on it."""

    connection: Connection
    scope: Scope

    def stub(self, stub_class: StubClass[StubT]) -> StubT:
        """Make a generated stub whose calls run in this scope and raise typed errors."""
        return stub_class(self.connection.channel, metadata=self.scope.metadata())

    async def read(self, call: Callable[[RequestT], Awaitable[ReplyT]], request: RequestT) -> ReplyT:
        """Call what changes nothing, or nothing more when called twice: a lost connection is tried again."""
        try:
            return await call(request)
        except ConnectionLostError as error:
            lost = error
        for pause in RETRY_PAUSES:
            await anyio.sleep(pause)
            try:
                return await call(request)
            except (ConnectionLostError, DaemonConnectError) as error:
                error.__cause__ = error.__cause__ or lost
                lost_again: ConnectionLostError | DaemonConnectError = error
        raise lost_again

    def stream(
        self, call: Callable[[RequestT], AsyncIterator[ReplyT]], request: RequestT
    ) -> AbstractAsyncContextManager[AsyncGenerator[ReplyT]]:
        """Open a server's stream; leaving the context resets it, so that none is ever abandoned half-read."""
        generator = call(request)
        assert isinstance(generator, AsyncGenerator)
        return aclosing(generator)

    def chunks(
        self, route: str, request: object, reply_type: type[object], *, field: int, name: str
    ) -> AbstractAsyncContextManager[AsyncGenerator[bytes]]:
        """Open a server's stream of which only a bytes field is of interest, by number and name; else as `stream`."""

        async def generate() -> AsyncGenerator[bytes]:
            async with self._call(route, Cardinality.UNARY_STREAM, request, reply_type) as call:
                while (chunk := await call.recv_bytes(field, name)) is not None:
                    yield chunk

        return aclosing(generate())

    def entries(
        self,
        route: str,
        request: object,
        reply_type: type[Message],
        read: Callable[[bytes, int, int], T],
    ) -> AbstractAsyncContextManager[AsyncGenerator[list[T]]]:
        """Open a server's stream of which only the entries of lists are of interest; else as `stream`.

        An entry is a field of number 1; `read` makes something of it, given bytes and where it begins and ends there.
        """

        async def generate() -> AsyncGenerator[list[T]]:
            async with (
                self._call(route, Cardinality.UNARY_STREAM, request, reply_type) as call,
                aclosing(call.recv_entries(EntryReader(reply_type, read))) as found,
            ):
                async for made in found:
                    yield made

        return aclosing(generate())

    async def list(
        self,
        route: str,
        request: object,
        reply_type: type[Message],
        read: Callable[[bytes, int, int], T],
        *,
        is_stream: bool = True,
    ) -> builtins.list[T]:
        """Return all entries of a list, a stream of messages or one; a lost connection is tried again, as by `read`."""
        cardinality = Cardinality.UNARY_STREAM if is_stream else Cardinality.UNARY_UNARY

        async def entries(_: object) -> builtins.list[T]:
            async with self._call(route, cardinality, request, reply_type) as call:
                return [
                    entry async for entries in call.recv_entries(EntryReader(reply_type, read)) for entry in entries
                ]

        return await self.read(entries, request)

    @asynccontextmanager
    async def _call(
        self, route: str, cardinality: Cardinality, request: object, reply_type: type[object]
    ) -> AsyncGenerator[Any]:
        channel, metadata = self.connection.channel, self.scope.metadata()
        async with channel.request(route, cardinality, type(request), reply_type, metadata=metadata) as call:
            await call.send_message(request, end=True)
            yield call

    def duplex(
        self, route: str, request_type: type[RequestT], reply_type: type[ReplyT]
    ) -> AbstractAsyncContextManager[Duplex[RequestT, ReplyT]]:
        """Open a bidirectional call at `route`."""
        return open_duplex(self.connection.channel, route, request_type, reply_type, self.scope.metadata())


@asynccontextmanager
async def open_connection(address: str) -> AsyncIterator[Connection]:
    """Lend a connection to the daemon at the socket's path; calls under way when it is given back fail."""
    failure: BaseException | None = None
    async with anyio.create_task_group() as background:
        connection = Connection(address, background)
        try:
            yield connection
        except BaseException as error:  # noqa: BLE001  # raised below: a task group would wrap it in a group of its own
            failure = error
        finally:
            connection.channel.close()
            background.cancel_scope.cancel()
    if failure is not None:
        raise failure
