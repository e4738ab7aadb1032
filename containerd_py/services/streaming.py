"""Streams the daemon finds by name: how transfers report progress, ask for credentials and move archives.

Knows the Streaming service and the framing of bytes on it; knows nothing of transfers.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from containerd_py._generated.containerd.services.streaming.v1 import StreamInit
from containerd_py._generated.containerd.types.transfer import Data, WindowUpdate
from containerd_py._generated.google.protobuf import Any as WireAny
from containerd_py._transport.connection import Rpc
from containerd_py._transport.duplex import Duplex
from containerd_py.errors import ProtocolError
from containerd_py.typeurl import TypedValue

STREAM_ROUTE: Final = "/containerd.services.streaming.v1.Streaming/Stream"
_INIT: Final = "containerd.services.streaming.v1.StreamInit"
_DATA: Final = "containerd.types.transfer.Data"
_WINDOW_UPDATE: Final = "containerd.types.transfer.WindowUpdate"
# Bytes we allow ahead when we receive, as many as the HTTP/2 stream: containerd's own 64 KiB are two messages.
WINDOW_SIZE: Final = 4 * 1024 * 1024
_LARGEST_PIECE: Final = 32 * 1024  # bytes in one message


def new_stream_id(purpose: str) -> str:
    """Return an ID that no other stream of the namespace has."""
    return f"{purpose}-{time.time_ns() % 10**9}-{secrets.token_urlsafe(9)}"


class DaemonStream:
    """A named stream of typed values between us and the daemon. Made by `StreamingService.open`."""

    def __init__(self, duplex: Duplex[WireAny, WireAny], id: str) -> None:  # noqa: A002
        self._duplex = duplex
        self.id = id

    async def send(self, value: TypedValue) -> None:
        """Send one value."""
        await self._duplex.send(WireAny(type_url=value.type_url, value=value.value))

    async def receive(self) -> TypedValue | None:
        """Return the next value, None when the daemon has finished."""
        message = await self._duplex.receive()
        return None if message is None else TypedValue(type_url=message.type_url, value=message.value)

    async def end(self) -> None:
        """Say that nothing more will be sent."""
        await self._duplex.end()

    async def send_bytes(self, chunks: AsyncIterator[bytes]) -> None:
        """Send bytes as fast as the daemon allows, then end: the sending half of an import."""
        window = 0
        async for chunk in chunks:
            view = memoryview(chunk)
            while view:
                while window <= 0:
                    window += await self._granted()
                piece = view[: min(len(view), window, _LARGEST_PIECE)]
                await self.send(TypedValue(type_url=_DATA, value=bytes(Data(data=bytes(piece)))))
                window -= len(piece)
                view = view[len(piece) :]
        await self.end()

    async def _granted(self) -> int:
        value = await self.receive()
        if value is None or value.name != _WINDOW_UPDATE:
            raise ProtocolError(f"the daemon stopped reading stream {self.id!r} before its end")
        return WindowUpdate.parse(value.value).update

    async def receive_bytes(self) -> AsyncGenerator[bytes]:
        """Yield the bytes the daemon sends to its end: the receiving half of an export.

        The end says nothing about success: a sender that failed ends as well. What was received must be verified.
        """
        window = 0
        while True:
            if window <= WINDOW_SIZE // 2:
                update = bytes(WindowUpdate(update=WINDOW_SIZE - window))
                await self.send(TypedValue(type_url=_WINDOW_UPDATE, value=update))
                window = WINDOW_SIZE
            value = await self.receive()
            if value is None:
                return
            if value.name != _DATA:
                raise ProtocolError(f"stream {self.id!r} carried a {value.name} instead of data")
            data = Data.parse(value.value).data
            window -= len(data)
            yield data


class StreamingService:
    """The Streaming service, typed (containerd.services.streaming.v1.Streaming, from containerd 1.7 on)."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @asynccontextmanager
    async def open(self, id: str) -> AsyncIterator[DaemonStream]:  # noqa: A002
        """Lend a stream that the daemon knows by `id` once this is entered (Streaming.Stream).

        Raises:
            AlreadyExistsError: The ID is taken in this namespace.
            NotSupportedError: The daemon has no streams.
        """
        async with self._rpc.duplex(STREAM_ROUTE, WireAny, WireAny) as duplex:
            await duplex.send(WireAny(type_url=_INIT, value=bytes(StreamInit(id=id))))
            if await duplex.receive() is None:  # an empty acknowledgement: from now on the daemon finds it
                raise ProtocolError(f"the daemon closed stream {id!r} before taking it")
            yield DaemonStream(duplex, id)
