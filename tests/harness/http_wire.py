"""HTTP/1.1 by hand: requests read from a stream, responses as values. Knows RFC 9112; knows no registry."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final, Self
from urllib.parse import parse_qsl

import anyio
import anyio.abc
import attrs

READ_SIZE: Final = 1 << 18
HEAD_LIMIT: Final = 1 << 18  # bytes of a request line with its headers
NO_BODY: Final = memoryview(b"")
_BODILESS: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class Headers:
    """Header fields in their order; names compare without case."""

    def __init__(self, fields: "Mapping[str, str] | Iterable[tuple[str, str]]" = ()) -> None:
        self.fields = list(fields.items() if isinstance(fields, Mapping) else fields)

    def get(self, name: str, default: str = "") -> str:
        return next(iter(self.get_all(name)), default)

    def get_all(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def set(self, name: str, value: str) -> None:
        self.remove(name)
        self.fields.append((name, value))

    def remove(self, name: str) -> None:
        self.fields = [field for field in self.fields if field[0].lower() != name.lower()]

    def copy(self) -> Self:
        return type(self)(self.fields)

    def __contains__(self, name: str) -> bool:
        return bool(self.get_all(name))

    def __repr__(self) -> str:
        return repr(self.fields)


@attrs.define(kw_only=True)
class Request:
    """What a client asked; ``target`` is as sent, ``path`` without the query, not decoded."""

    method: str
    target: str
    headers: Headers
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of a repeated one, the last."""
        return dict(self.query_pairs)

    @property
    def query_pairs(self) -> list[tuple[str, str]]:
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)


@attrs.define(kw_only=True)
class Response:
    """What a server answers, as it ought to be; faults spoil it on the way out."""

    status: int
    headers: Headers = attrs.field(factory=Headers)
    body: bytes | memoryview = NO_BODY

    @property
    def has_body(self) -> bool:
        return self.status >= HTTPStatus.OK and self.status not in _BODILESS


class ProtocolError(Exception):
    """The client does not speak HTTP/1.1."""


class RequestReader:
    """Read requests from a byte stream, heads and bodies apart."""

    def __init__(self, stream: anyio.abc.ByteReceiveStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def read_head(self) -> Request | None:
        """Read the next request up to its body; None at the end of the stream."""
        searched = 0
        while (end := self._buffer.find(b"\r\n\r\n", searched)) < 0:
            searched = max(0, len(self._buffer) - 3)
            if len(self._buffer) > HEAD_LIMIT:
                raise ProtocolError(f"no end of headers in {HEAD_LIMIT} bytes")
            if not await self._fill():
                if self._buffer.strip():
                    raise ProtocolError(f"half a request: {bytes(self._buffer[:200])!r}")
                return None
        lines = bytes(self._buffer[:end]).decode("latin-1").lstrip("\r\n").split("\r\n")
        del self._buffer[: end + 4]
        try:
            method, target, _version = lines[0].split(" ")
        except ValueError:
            raise ProtocolError(f"request line {lines[0][:200]!r}") from None
        fields = [line.partition(":")[::2] for line in lines[1:]]
        return Request(method=method, target=target, headers=Headers((name, value.strip()) for name, value in fields))

    async def read_body(self, request: Request, limit: int | None = None) -> bytes:
        """Read the request's body, or only its first ``limit`` bytes."""
        if request.headers.get("Transfer-Encoding").lower() == "chunked":
            return await self._read_chunks(limit)
        size = int(request.headers.get("Content-Length", "0"))
        return await self._read_exactly(size if limit is None else min(size, limit))

    async def wait_closed(self) -> None:
        """Wait until the client has closed its side."""
        while await self._fill():
            pass

    async def _read_chunks(self, limit: int | None) -> bytes:
        body = bytearray()
        while limit is None or len(body) < limit:
            line = await self._read_line()
            size = int(line.partition(b";")[0], 16)
            body += await self._read_exactly(size)
            if await self._read_line():
                raise ProtocolError("no line end after a chunk")
            if size == 0:
                break
        return bytes(body if limit is None else body[:limit])

    async def _read_line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            await self._must_fill()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    async def _read_exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._must_fill()
        data = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return data

    async def _must_fill(self) -> None:
        if not await self._fill():
            raise ProtocolError("the request ends early")

    async def _fill(self) -> bool:
        try:
            self._buffer += await self._stream.receive(READ_SIZE)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return False
        return True
