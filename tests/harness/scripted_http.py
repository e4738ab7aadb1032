"""A small HTTP/1.1 server whose every answer is written by the test, byte by byte if need be. Knows no registry."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import anyio
import attrs
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener

MAX_HEAD = 128 * 1024  # bytes of a request's head
DROPPED = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


@attrs.define
class Asked:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

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
        self.host = host
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
                rest = b""
                while True:
                    asked, rest = await _read_request(stream, rest)
                    self.asked.append(asked)
                    reply = await self.handler(asked, stream)
                    if reply is None:
                        return
                    await stream.send(reply.encode(head_only=asked.method == "HEAD"))
                    if reply.closes:
                        return
        except DROPPED:
            pass
        finally:
            self.open -= 1


@asynccontextmanager
async def serve_http(
    handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[ScriptedServer]:
    """Serve on a free port of a loopback address until the block ends."""
    listener = await anyio.create_tcp_listener(local_host=host, backlog=128)
    port = listener.extra(SocketAttribute.local_port)
    server = ScriptedServer(handler, port, tls=tls is not None, host=f"[{host}]" if ":" in host else host)
    async with listener, anyio.create_task_group() as group:
        serving = (
            listener if tls is None else TLSListener(listener, tls, standard_compatible=False, handshake_timeout=5)
        )
        group.start_soon(serving.serve, server.serve)
        yield server
        group.cancel_scope.cancel()


async def until_closed(stream: ByteStream) -> None:
    """Say nothing more until the client closes."""
    while True:
        await stream.receive()


async def _read_request(stream: ByteStream, rest: bytes) -> tuple[Asked, bytes]:
    while b"\r\n\r\n" not in rest:
        rest += await stream.receive()
        if len(rest) > MAX_HEAD:
            raise anyio.EndOfStream
    head, _, rest = rest.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    while len(rest) < length:
        rest += await stream.receive()
    return Asked(method, target, headers, rest[:length]), rest[length:]
