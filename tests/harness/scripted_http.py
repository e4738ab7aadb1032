"""A small HTTP/1.1 server whose every answer a function of the test writes, byte by byte if need be.

For what ``http_origin`` and its rules cannot say; knows no registry.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import anyio
import attrs
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener

from tests.harness.background import background_tasks
from tests.harness.http_wire import ProtocolError, RequestReader

_LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, ProtocolError, OSError)


@attrs.define
class Asked:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.target.partition("?")[2], keep_blank_values=True)

    @property
    def range_start(self) -> int | None:
        """Where a Range header begins; None without one."""
        value = self.headers.get("range")
        return int(value.removeprefix("bytes=").partition("-")[0]) if value else None


@attrs.define
class Reply:
    """An ordinary answer. `length` None announces the body's own length, "" announces none and closes."""

    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    length: int | str | None = None
    cut_after: int | None = None  # bytes of the body after which the connection is dropped

    def encode(self, *, head_only: bool = False) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Because"]
        if self.length != "":
            lines.append(f"Content-Length: {len(self.body) if self.length is None else self.length}")
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        body = self.body if self.cut_after is None else self.body[: self.cut_after]
        return head if head_only else head + body

    @property
    def closes(self) -> bool:
        return self.cut_after is not None or self.length == ""


Handler = Callable[[Asked, ByteStream], Awaitable[Reply | None]]
"""Answers a request: a Reply, or None after having written to the stream itself (which is then closed)."""


class ScriptedServer:
    """See `serve_http`."""

    def __init__(self, handler: Handler, port: int, *, tls: bool, host: str) -> None:
        self.handler = handler
        self.port = port
        self.authority = f"{host}:{port}"
        self.origin = f"{'https' if tls else 'http'}://{self.authority}"
        self.asked: list[Asked] = []
        self.connections = 0  # accepted so far
        self.open = 0  # open now

    async def serve(self, stream: ByteStream) -> None:
        self.connections += 1
        self.open += 1
        try:
            async with stream:
                reader = RequestReader(stream)
                while await self._answer(reader, stream):
                    pass
        except _LOST:
            pass
        finally:
            self.open -= 1

    async def _answer(self, reader: RequestReader, stream: ByteStream) -> bool:
        """Answer one request; return whether the connection goes on."""
        request = await reader.read_head()
        if request is None:
            return False
        headers = {name.lower(): value for name, value in request.headers.fields}
        asked = Asked(request.method, request.target, headers, await reader.read_body(request))
        self.asked.append(asked)
        reply = await self.handler(asked, stream)
        if reply is None:
            return False
        await stream.send(reply.encode(head_only=asked.method == "HEAD"))
        return not reply.closes


@asynccontextmanager
async def serve_http(
    handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[ScriptedServer]:
    """Serve on a free port of a loopback address until the block ends."""
    async with await anyio.create_tcp_listener(local_host=host, backlog=128) as listener, background_tasks() as group:
        port = listener.extra(SocketAttribute.local_port)
        server = ScriptedServer(handler, port, tls=tls is not None, host=f"[{host}]" if ":" in host else host)
        secure = None if tls is None else TLSListener(listener, tls, standard_compatible=False, handshake_timeout=5)
        group.start_soon((secure or listener).serve, server.serve)
        yield server


async def until_closed(stream: ByteStream) -> None:
    """Say nothing more until the client closes."""
    while True:
        await stream.receive()
