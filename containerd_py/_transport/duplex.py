"""A bidirectional call whose two directions are in the caller's hands.

The generated stub for such calls hangs when its request iterator raises, and loses what a server that ends first had
sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Generic, TypeVar, cast

import grpclib.const
from grpclib.exceptions import StreamTerminatedError
from h2.exceptions import ProtocolError as Http2ProtocolError

from containerd_py._transport.channel import Call, Channel

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")


class Duplex(Generic[RequestT, ReplyT]):
    """Messages go out with `send`, come in with `receive`. Made by `open_duplex`."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def send(self, message: RequestT, *, end: bool = False) -> None:
        """Send one message; `end=True` half-closes with it. Quiet if the server has finished: its status decides."""
        with self._sending():
            await self._call.send_message(message, end=end)

    async def send_with_bytes(self, message: RequestT, field: int, data: memoryview) -> None:
        """Send one message with its bytes field of that number set to `data`, which is not copied on the way to HTTP/2.

        Quiet if the server has finished: its status decides.
        """
        with self._sending():
            await self._call.send_with_bytes(message, field, data)

    async def end(self) -> None:
        """Half-close: say that nothing more will be sent."""
        with self._sending():
            await self._call.end()

    async def receive(self) -> ReplyT | None:
        """Return the next message, or None when the server has finished well.

        Raises:
            ContainerdError: The server finished with an error, or the connection was lost.
        """
        with self._translating():
            message = await self._call.recv_message()
            if message is None:
                await self._call.finish()
            return cast("ReplyT | None", message)

    @contextmanager
    def _sending(self) -> Iterator[None]:
        with self._translating():
            try:
                yield
            except (Http2ProtocolError, StreamTerminatedError):
                if not self._call.is_answered:
                    raise

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            made = self._call.translated(error)
            if made is None:
                raise
            raise made from error


@asynccontextmanager
async def open_duplex(
    channel: Channel, route: str, request_type: type[RequestT], reply_type: type[ReplyT], metadata: dict[str, str]
) -> AsyncIterator[Duplex[RequestT, ReplyT]]:
    """Open a bidirectional call at `route`; leaving early resets it."""
    request: Any = channel.request(
        route, grpclib.const.Cardinality.STREAM_STREAM, request_type, reply_type, metadata=metadata
    )
    async with request as call:
        await call.send_request()
        yield Duplex(call)
