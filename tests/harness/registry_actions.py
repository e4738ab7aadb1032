"""What can go wrong with one HTTP exchange: small actions, each of which spoils one thing. They combine."""

import gzip
import json
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Literal

import attrs

from tests.harness.http_wire import NO_BODY, Headers, Request, Response

End = Literal["keep", "close", "reset"]  # of the connection, after the response


@attrs.define(kw_only=True)
class Exchange:
    """One request, its response, and how the response will be sent."""

    request: Request
    response: Response | None = None
    respond: Callable[[Request], Awaitable[Response]] | None = None  # in place of the server's own handler
    delay: float = 0.0  # seconds before anything is sent
    raw: bytes | None = None  # sent as it is, instead of a response
    declared_length: int | None = None  # instead of the body's own
    chunked: bool = False
    filler: int = 0  # zero bytes after the body
    pace: tuple[int, float] | None = None  # bytes at a time, seconds between
    stall_at: int | None = None  # body bytes after which nothing more comes; -1: not even headers
    cut_at: int | None = None  # body bytes after which the connection ends; -1: not even headers
    end: End = "keep"
    upload_limit: int | None = None  # bytes read of the request's body, then the connection ends

    def must_respond(self) -> Response:
        if self.response is None:
            raise RuntimeError("no response yet")
        return self.response


class Action:
    """Spoil an exchange before the request is handled, or after."""

    def before(self, exchange: Exchange) -> None:
        """Change the request, or answer it."""

    def after(self, exchange: Exchange) -> None:
        """Change the response, or how it is sent."""


@attrs.frozen
class Pass(Action):
    """Change nothing: a rule that only counts."""


@attrs.frozen
class Respond(Action):
    """Answer with this status; ``code`` makes the body a distribution-spec error document."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    code: str = attrs.field(default="", kw_only=True)
    message: str = attrs.field(default="the harness says no", kw_only=True)

    def before(self, exchange: Exchange) -> None:
        if self.code:
            exchange.response = error_response(self.status, self.code, self.message)
        else:
            exchange.response = Response(status=self.status, body=self.body)
        for name, value in self.headers.items():
            exchange.response.headers.set(name, value)


def unauthorized(challenge: str) -> Respond:
    """Answer 401 with a WWW-Authenticate challenge."""
    return Respond(401, code="UNAUTHORIZED", headers={"WWW-Authenticate": challenge})


def too_many_requests(retry_after: str | int) -> Respond:
    """Answer 429 with Retry-After: seconds, an HTTP date, or whatever else is to be tried."""
    return Respond(429, code="TOOMANYREQUESTS", headers={"Retry-After": str(retry_after)})


def range_not_satisfiable() -> Respond:
    """Answer 416."""
    return Respond(416, code="RANGE_INVALID")


@attrs.frozen
class Redirect(Action):
    """Send the client to ``location``, in which ``{target}`` stands for the request's own target."""

    location: str
    status: int = 307

    def before(self, exchange: Exchange) -> None:
        location = self.location.replace("{target}", exchange.request.target)
        exchange.response = Response(status=self.status, headers=Headers({"Location": location}))


@attrs.frozen
class Call(Action):
    """Let a function of the test answer."""

    respond: Callable[[Request], Awaitable[Response]]

    def before(self, exchange: Exchange) -> None:
        exchange.respond = self.respond


@attrs.frozen
class Delay(Action):
    """Wait so many seconds before the headers."""

    seconds: float

    def after(self, exchange: Exchange) -> None:
        exchange.delay += self.seconds


@attrs.frozen
class Drop(Action):
    """End the connection after ``after`` body bytes (Content-Length stays right); None: before the headers.

    ``reset`` ends it with RST instead of FIN.
    """

    after_bytes: int | None = 0
    reset: bool = attrs.field(default=False, kw_only=True)

    def after(self, exchange: Exchange) -> None:
        exchange.cut_at = -1 if self.after_bytes is None else self.after_bytes
        exchange.end = "reset" if self.reset else "close"


@attrs.frozen
class Stall(Action):
    """Send nothing more after ``after`` body bytes, until the client leaves; None: not even headers."""

    after_bytes: int | None = None

    def after(self, exchange: Exchange) -> None:
        exchange.stall_at = -1 if self.after_bytes is None else self.after_bytes


@attrs.frozen
class Slow(Action):
    """Send the body in pieces of ``size`` bytes, one every ``interval`` seconds."""

    size: int = 1
    interval: float = 1.0

    def after(self, exchange: Exchange) -> None:
        exchange.pace = (self.size, self.interval)


@attrs.frozen
class Corrupt(Action):
    """Flip one byte of the body: same length, another digest."""

    at: int = 0

    def after(self, exchange: Exchange) -> None:
        response = exchange.must_respond()
        body = bytearray(response.body)
        body[self.at] ^= 0xFF
        response.body = bytes(body)


@attrs.frozen
class ReplaceBody(Action):
    """Send another body, with its own right length."""

    body: bytes

    def after(self, exchange: Exchange) -> None:
        exchange.must_respond().body = self.body


@attrs.frozen
class Shorten(Action):
    """Send only the first ``size`` bytes, and say so in Content-Length."""

    size: int

    def after(self, exchange: Exchange) -> None:
        response = exchange.must_respond()
        response.body = memoryview(response.body)[: self.size]


@attrs.frozen
class Lengthen(Action):
    """Send ``extra`` zero bytes after the body.

    ``declared`` counts them into Content-Length; otherwise they follow a response that looks complete, and the
    connection ends after them.
    """

    extra: int
    declared: bool = attrs.field(default=True, kw_only=True)

    def after(self, exchange: Exchange) -> None:
        exchange.filler = self.extra
        if not self.declared:
            exchange.declared_length = len(exchange.must_respond().body)
            exchange.end = "close"


@attrs.frozen
class DeclareLength(Action):
    """Say another Content-Length than the body has, and end the connection after the body."""

    length: int

    def after(self, exchange: Exchange) -> None:
        exchange.declared_length = self.length
        exchange.end = "close"


@attrs.frozen
class Chunked(Action):
    """Send the body in chunks, without a length."""

    def after(self, exchange: Exchange) -> None:
        exchange.chunked = True


@attrs.frozen
class Encode(Action):
    """Send the body with a Content-Encoding, asked for or not; ``bomb`` bytes of zeros take its place if given."""

    coding: Literal["gzip", "deflate"] = "gzip"
    bomb: int = attrs.field(default=0, kw_only=True)

    def after(self, exchange: Exchange) -> None:
        response = exchange.must_respond()
        if self.bomb:
            response.body = _compressed_zeros(self.bomb, self.coding)
        else:
            compress = gzip.compress if self.coding == "gzip" else zlib.compress
            response.body = compress(bytes(response.body))
        response.headers.set("Content-Encoding", self.coding)


@attrs.frozen
class IgnoreRange(Action):
    """Handle the request as if it had no Range."""

    def before(self, exchange: Exchange) -> None:
        exchange.request.headers.remove("Range")


@attrs.frozen
class SetHeaders(Action):
    """Change the response's headers: a value to set, several to send side by side, None to leave out."""

    values: Mapping[str, "str | Sequence[str] | None"]

    def after(self, exchange: Exchange) -> None:
        headers = exchange.must_respond().headers
        for name, value in self.values.items():
            headers.remove(name)
            if value is not None:
                headers.fields += [(name, each) for each in ([value] if isinstance(value, str) else value)]


@attrs.frozen
class Raw(Action):
    """Send these bytes and end the connection: no HTTP, or bad HTTP."""

    data: bytes

    def before(self, exchange: Exchange) -> None:
        exchange.response = Response(status=0)
        exchange.raw = self.data
        exchange.end = "close"


@attrs.frozen
class DropUpload(Action):
    """End the connection after ``after`` bytes of the request's body have been read."""

    after_bytes: int = 0
    reset: bool = attrs.field(default=False, kw_only=True)

    def before(self, exchange: Exchange) -> None:
        exchange.response = Response(status=0)
        exchange.raw = b""
        exchange.upload_limit = self.after_bytes
        exchange.end = "reset" if self.reset else "close"


ZEROS: Final = memoryview(bytes(1 << 18))


def error_response(status: int, code: str, message: str) -> Response:
    """Answer with the error document of the distribution specification."""
    document = {"errors": [{"code": code, "message": message, "detail": None}]}
    return json_response(document, status=status)


def json_response(document: object, *, status: int = 200) -> Response:
    """Answer with a JSON document."""
    headers = Headers({"Content-Type": "application/json"})
    return Response(status=status, headers=headers, body=json.dumps(document).encode() if document else NO_BODY)


def _compressed_zeros(size: int, coding: str) -> bytes:
    """Compress zeros quickly: one run of them, flushed so that it stands alone, is repeated."""
    count, rest = divmod(size, len(ZEROS))
    packer = zlib.compressobj(9, wbits=-15)
    run = packer.compress(ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, wbits=-15)
    packed = run * count + packer.compress(ZEROS[:rest]) + packer.flush()
    if coding == "deflate":  # that is zlib's format; the Adler checksum of zeros is known
        return b"\x78\xda" + packed + struct.pack(">I", (size % 65521) << 16 | 1)
    checksum = 0
    for start in range(0, size, len(ZEROS)):
        checksum = zlib.crc32(ZEROS[: size - start], checksum)
    return b"\x1f\x8b\x08\0\0\0\0\0\2\xff" + packed + struct.pack("<II", checksum, size & 0xFFFFFFFF)
