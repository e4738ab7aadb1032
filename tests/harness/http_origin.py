"""An HTTP server on one address that does what its rules say, and records everything it was asked.

Knows HTTP, TLS and rules; what the answers mean is its handler's business.
"""

import base64
import re
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final, Literal, TypeVar
from urllib.parse import quote, unquote

import anyio
import anyio.abc
import attrs
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSStream

from tests.harness.background import background_tasks
from tests.harness.http_wire import Headers, ProtocolError, Request, RequestReader, Response
from tests.harness.registry_actions import ZEROS, Action, Exchange

Handler = Callable[[Request], Awaitable[Response]]
SEND_SIZE: Final = 1 << 18
KEPT_BODY: Final = 1 << 16  # bytes of a request's body that are recorded
_LOST: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, ssl.SSLError, OSError)


@attrs.define(eq=False, kw_only=True)
class Recorded:
    """One request and what it got."""

    origin: str  # scheme://host:port
    method: str
    target: str
    headers: Headers
    at: float  # time.monotonic()
    body: bytes = b""  # its beginning
    body_size: int = 0
    status: int = 0
    sent: int = 0  # body bytes handed to the kernel
    complete: bool = False  # the response went out as planned
    client_left: bool = False  # the client ended the connection while we stalled or sent
    faults: list[str] = attrs.Factory(list)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def mentions(self, secret: str) -> bool:
        """Tell whether a secret is anywhere in the request: as it is, quoted, in base64 or in a Basic header."""
        needles = {secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode().rstrip("=")}
        values = [value for _, value in self.headers.fields]
        decoded = [_decode_base64(word) for value in values for word in value.split()]
        texts = [self.target, unquote(self.target), self.body.decode("latin-1"), *values, *decoded]
        return any(needle in text for needle in needles for text in texts)


@attrs.define(eq=False, kw_only=True)
class Rule:
    """Apply ``actions`` to some requests; ``fired`` proves that it did."""

    actions: tuple[Action, ...]
    method: str | None = None
    path: re.Pattern[str] = re.compile("")
    match: Callable[[Request], bool] | None = None
    nth: Collection[int] | None = None  # of the matching requests, from 1
    times: int | None = None
    seen: int = 0
    fired: int = 0
    _event: anyio.Event = attrs.Factory(anyio.Event)

    def __str__(self) -> str:
        return f"{self.method or 'any method'} {self.path.pattern or 'any path'} -> {self.actions}"

    async def wait_fired(self) -> None:
        await self._event.wait()

    def assert_fired(self, times: int | None = None) -> None:
        """Fail unless the rule was applied, or was applied exactly ``times`` times."""
        if (times is None and not self.fired) or (times is not None and self.fired != times):
            raise AssertionError(f"fired {self.fired} times, seen {self.seen} times: {self}")

    def claims(self, request: Request) -> bool:
        """Count the request if it matches, and tell whether it is to be spoilt."""
        if self.method not in (None, request.method) or not self.path.search(request.path):
            return False
        if self.match is not None and not self.match(request):
            return False
        self.seen += 1
        if (self.nth is not None and self.seen not in self.nth) or self.fired == self.times:
            return False
        self.fired += 1
        self._event.set()
        return True


class Origin:
    """Serve one address; made inside ``listening``."""

    def __init__(self, handler: Handler, *, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.host = host
        self.port = port
        self.scheme = "http" if tls is None else "https"
        self.requests: list[Recorded] = []
        self.rules: list[Rule] = []
        self.connections = 0
        self.failed_handshakes: list[str] = []
        self.accept: Literal["serve", "close", "reset", "stall"] = "serve"  # what becomes of new connections
        self._handler = handler
        self._tls = tls

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}"

    def fault(
        self,
        *actions: Action,
        method: str | None = None,
        path: str = "",
        match: Callable[[Request], bool] | None = None,
        nth: int | Collection[int] | None = None,
        times: int | None = None,
    ) -> Rule:
        """Apply ``actions`` to the requests that match; ``path`` is a regular expression searched for.

        ``nth`` chooses among the matching requests (from 1), ``times`` limits how often.
        """
        chosen = (nth,) if isinstance(nth, int) else nth
        rule = Rule(actions=actions, method=method, path=re.compile(path), match=match, nth=chosen, times=times)
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Drop all rules."""
        self.rules.clear()

    def assert_all_fired(self) -> None:
        """Fail if a rule never applied: the test would have proved nothing."""
        for rule in self.rules:
            rule.assert_fired()

    def matching(self, path: str = "", *, method: str | None = None) -> list[Recorded]:
        """Return the recorded requests whose path matches the regular expression."""
        found = re.compile(path)
        return [each for each in self.requests if method in (None, each.method) and found.search(each.path)]

    def mentioning(self, secret: str) -> list[Recorded]:
        """Return the recorded requests that carry a secret, in whatever form."""
        return [each for each in self.requests if each.mentions(secret)]

    # -- serving ------------------------------------------------------------------------------------------------

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        self.connections += 1
        async with stream:
            if self.accept == "stall":
                await RequestReader(stream).wait_closed()
            elif self.accept == "reset":
                _reset_on_close(stream)
            elif self.accept == "serve":
                await self._serve_accepted(stream)

    async def _serve_accepted(self, stream: anyio.abc.SocketStream) -> None:
        if self._tls is None:
            await self._serve_requests(stream)
            return
        try:
            wrapped = await TLSStream.wrap(stream, server_side=True, ssl_context=self._tls, standard_compatible=False)
        except _LOST as error:
            self.failed_handshakes.append(repr(error))
            return
        await self._serve_requests(wrapped)

    async def _serve_requests(self, stream: anyio.abc.ByteStream) -> None:
        reader = RequestReader(stream)
        try:
            while (request := await reader.read_head()) is not None:
                if not await self._exchange(stream, reader, request):
                    return
        except ProtocolError as error:
            text = f"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nX-Reason: {error}\r\n\r\n"
            await _try_send(stream, text.encode("latin-1", "replace"))
        except _LOST:
            return

    async def _exchange(self, stream: anyio.abc.ByteStream, reader: RequestReader, request: Request) -> bool:
        """Handle one request; return whether the connection goes on."""
        recorded = Recorded(
            origin=self.url,
            method=request.method,
            target=request.target,
            headers=request.headers.copy(),
            at=time.monotonic(),
        )
        self.requests.append(recorded)
        actions = [action for rule in list(self.rules) if rule.claims(request) for action in rule.actions]
        recorded.faults = [str(action) for action in actions]
        exchange = Exchange(request=request)
        for action in actions:
            action.before(exchange)
        if request.headers.get("Expect").lower() == "100-continue":
            await stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.body = await reader.read_body(request, exchange.upload_limit)
        recorded.body, recorded.body_size = request.body[:KEPT_BODY], len(request.body)
        if exchange.response is None:
            exchange.response = await (exchange.respond or self._handler)(request)
        for action in actions:
            action.after(exchange)
        recorded.status = exchange.response.status
        try:
            recorded.complete = await _Sender(stream, exchange, recorded).send()
        except _LOST:
            recorded.client_left = True
            return False
        if exchange.stall_at is not None:
            await reader.wait_closed()
            recorded.client_left = True
            return False
        if exchange.end == "reset":
            _reset_on_close(stream)
        return exchange.end == "keep" and request.headers.get("Connection").lower() != "close"


OriginT = TypeVar("OriginT", bound=Origin)


class _Sender:
    """Send one response, spoilt as planned."""

    def __init__(self, stream: anyio.abc.ByteStream, exchange: Exchange, recorded: Recorded) -> None:
        self._stream = stream
        self._exchange = exchange
        self._recorded = recorded
        self._response = exchange.must_respond()

    async def send(self) -> bool:
        """Return whether everything planned went out."""
        exchange = self._exchange
        await anyio.sleep(exchange.delay)
        if exchange.raw is not None:
            await self._stream.send(exchange.raw)
            return True
        if -1 in (exchange.stall_at, exchange.cut_at):
            return False
        body = memoryview(self._response.body)
        await self._stream.send(self._head(len(body) + exchange.filler))
        if exchange.request.method == "HEAD" or not self._response.has_body:
            return exchange.stall_at is None and exchange.cut_at is None
        total = len(body) + exchange.filler
        limits = (total, exchange.stall_at, exchange.cut_at)
        limit = min(each for each in limits if each is not None)
        await self._send_body(body[:limit])
        for start in range(len(body), limit, len(ZEROS)):
            await self._send_body(ZEROS[: limit - start])
        if limit < total or exchange.stall_at is not None:
            return False
        if exchange.chunked:
            await self._stream.send(b"0\r\n\r\n")
        return True

    def _head(self, length: int) -> bytes:
        response, exchange = self._response, self._exchange
        headers = response.headers.copy()
        if exchange.chunked:
            headers.set("Transfer-Encoding", "chunked")
        elif response.has_body and "Content-Length" not in headers:
            headers.set("Content-Length", str(length if exchange.declared_length is None else exchange.declared_length))
        try:
            reason = HTTPStatus(response.status).phrase
        except ValueError:
            reason = "Unknown"
        lines = [f"HTTP/1.1 {response.status} {reason}", *(f"{name}: {value}" for name, value in headers.fields)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    async def _send_body(self, data: memoryview) -> None:
        size, interval = self._exchange.pace or (SEND_SIZE, 0.0)
        for start in range(0, len(data), size):
            part = bytes(data[start : start + size])
            if self._exchange.chunked:
                await self._stream.send(b"%x\r\n%b\r\n" % (len(part), part))
            else:
                await self._stream.send(part)
            self._recorded.sent += len(part)
            if interval:
                await anyio.sleep(interval)


@asynccontextmanager
async def listening(origin_at: Callable[[int], OriginT], *, host: str, port: int) -> AsyncIterator[OriginT]:
    """Listen on ``host`` (an IP address) and ``port`` (0: any), and serve the origin made for that port."""
    async with await anyio.create_tcp_listener(local_host=host, local_port=port) as listener:
        origin = origin_at(listener.extra(SocketAttribute.local_port))
        async with background_tasks() as group:
            group.start_soon(listener.serve, origin.serve)
            yield origin


def _reset_on_close(stream: anyio.abc.ByteStream) -> None:
    """Make closing the socket send RST, which throws away what the client has not read yet."""
    raw = stream.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _try_send(stream: anyio.abc.ByteStream, data: bytes) -> None:
    try:
        await stream.send(data)
    except _LOST:
        return


def _decode_base64(text: str) -> str:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode("latin-1")
    except ValueError:
        return ""
