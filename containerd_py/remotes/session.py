"""HTTP with one registry host, and with wherever it sends us. Knows the HTTP client; knows nothing of registries.

Credentials and configured headers go to the origin they are meant for and nowhere else: a redirect that leaves it loses
them for good. Addresses a host leads to are asked only if they are not much nearer to us than the host itself.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Self

import anyio
import attrs

from containerd_py.errors import ClientClosedError, ContainerdError, RegistryError
from containerd_py.remotes.failures import failure_of, refused_target, stalled
from containerd_py.remotes.host_config import HostConfig
from containerd_py.remotes.limits import MAX_REDIRECTS, RegistryLimits
from containerd_py.remotes.origins import Origin, Reach, literal, origin_of, target_of
from containerd_py.remotes.proxies import Proxies
from containerd_py.remotes.resolving import is_allowed, reach_of_origin
from containerd_py.remotes.responses import Response
from containerd_py.remotes.secret import Secret
from containerd_py.remotes.sending import Content, Sending
from containerd_py.remotes.tls import TLSContexts

if TYPE_CHECKING:
    import aiohttp  # a tenth of a second: imported when a registry is talked to

_READ_BUFFER: Final = 128 * 1024  # bytes; twice that is received ahead while a chunk is being used
_MAX_HEADER_LINE: Final = 32 * 1024  # bytes; signed redirect targets are long
_MAX_HEADERS: Final = 128
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_OURS: Final = frozenset({"accept-encoding", "range"})  # what we demand for a body's sake stays as it is
_KEEPING_METHOD: Final = frozenset({307, 308})
_READING: Final = frozenset({"GET", "HEAD"})
_CLOSE_TIME: Final = 5.0  # seconds

_log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Request:
    """What is asked. `authorization` and `body` are for the URL's origin alone.

    `for_host` says that the request is the host's own, so that it carries the configured headers while it is at the
    host's origin; a URL that somebody else wrote down is not. `content` is what is uploaded: a redirect of that is
    not followed but returned, since content is read but once.
    """

    method: str
    url: str
    headers: Mapping[str, str] = attrs.field(factory=dict)
    authorization: Secret | None = None
    body: Secret | None = None
    content: Content | bytes | None = attrs.field(default=None, repr=False)
    for_host: bool = True


@attrs.frozen(kw_only=True)
class Surroundings:
    """What the sessions of one repository have in common."""

    limits: RegistryLimits
    proxies: Proxies
    contexts: TLSContexts
    user_agent: str
    skip_verify: bool = False


class Session:
    """Connections to a host and to the origins it leads to. `async with`: all of them are closed on the way out."""

    def __init__(self, host: HostConfig, surroundings: Surroundings) -> None:
        self.host = host
        self.limits = surroundings.limits
        self._around = surroundings
        self._pools: dict[Reach | None, aiohttp.ClientSession] = {}
        self._unverified: set[Origin] = set()  # origins that were warned of
        self._closed = False
        self._reach: Reach | None = None
        self.has_answered = False  # a host that answered once is worth another try when it does not

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        with anyio.move_on_after(_CLOSE_TIME, shield=True):
            for pool in self._pools.values():
                await pool.close()
        self._pools.clear()

    async def send(self, request: Request) -> Response:
        """Send a request and follow its redirects; the answer is to be closed by the caller.

        Raises:
            RegistryError: No answer came, or the request leads where none may lead.
        """
        url, origin = request.url, self._origin(request.url)
        first, led_away = origin, False
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._send_once(request, url, origin, led_away=led_away)
            location = response.header("Location")
            if response.status not in _REDIRECTS or location is None or isinstance(request.content, Content):
                return response
            response.close()
            if request.body is not None and response.status not in _KEEPING_METHOD:
                raise refused_target(self.host.name, location, "the answer to a form is elsewhere")
            if request.method not in _READING and response.status not in _KEEPING_METHOD:
                raise refused_target(
                    self.host.name, location, f"status {response.status} turns a {request.method} into a GET"
                )
            before, url = origin, target_of(url, location)
            origin = self._origin(url)
            if before.scheme == "https" and origin.scheme == "http":
                raise refused_target(self.host.name, url, "it leaves TLS")
            led_away = led_away or origin != first
            if led_away and request.body is not None:
                raise refused_target(self.host.name, url, "credentials would go to another origin")
        raise refused_target(self.host.name, url, f"it is redirect number {MAX_REDIRECTS + 1}")

    def _origin(self, url: str) -> Origin:
        try:
            return origin_of(url)
        except ValueError as error:
            raise refused_target(self.host.name, url, str(error)) from None

    async def _send_once(self, request: Request, url: str, origin: Origin, *, led_away: bool) -> Response:
        import aiohttp
        from yarl import URL

        proxy = self._around.proxies.choose(origin)
        pool = await self._pool_for(request, url, origin, led_away=led_away, proxied=proxy is not None)
        context = await self._context_for(origin) if origin.scheme == "https" else True
        connect_timeout = self.host.dial_timeout or self.limits.connect_timeout
        raw, sending = None, None
        try:
            with anyio.move_on_after(connect_timeout + self.limits.stall_timeout) as scope:
                if isinstance(request.content, Content):
                    sending = Sending(request.content, self.limits, scope)
                raw = await pool.request(
                    request.method,
                    URL(url, encoded=True),
                    headers=self._headers(request, origin, led_away=led_away),
                    data=_data_of(request) if sending is None else sending,
                    allow_redirects=False,
                    proxy=proxy.reveal() if proxy is not None else None,
                    ssl=context,
                    timeout=aiohttp.ClientTimeout(
                        total=None,
                        connect=connect_timeout,
                        sock_connect=connect_timeout,
                        sock_read=self.limits.stall_timeout if sending is None else self.limits.commit_timeout,
                    ),
                )
        except aiohttp.SocketTimeoutError:
            failure: ContainerdError = self._stalled(sending, origin)
        except (aiohttp.ClientError, OSError) as error:
            failure = failure_of(error, host=self.host.name, asked=origin)
        else:
            if raw is not None:
                self.has_answered |= origin == self.host.origin
                return Response(raw, self.host.name, origin, led_away, self.limits)
            failure = self._stalled(sending, origin)
        if sending is not None and sending.failure is not None:
            failure = sending.failure
        raise failure

    def _stalled(self, sending: Sending | None, origin: Origin) -> RegistryError:
        if sending is None:
            reason = f"no answer within {self.limits.stall_timeout:g} s"
        elif sending.is_slow:
            reason = f"it took fewer than {self.limits.min_rate} bytes/s over a while"
        elif sending.has_ended:
            reason = f"no answer within {self.limits.commit_timeout:g} s after it had got everything"
        else:
            reason = f"it took nothing for {self.limits.stall_timeout:g} s"
        return stalled(reason, host=self.host.name, asked=origin)

    def _headers(self, request: Request, origin: Origin, *, led_away: bool) -> list[tuple[str, str]]:
        headers = [("User-Agent", self._around.user_agent), ("Accept-Encoding", "identity"), *request.headers.items()]
        if isinstance(request.content, Content):
            headers.append(("Content-Length", str(request.content.size)))
        if led_away:
            return headers
        if request.for_host and origin == self.host.origin:
            named = {name.lower() for name, _ in self.host.headers} - _OURS
            headers = [(name, value) for name, value in headers if name.lower() not in named]
            headers += [(name, value.reveal()) for name, value in self.host.headers if name.lower() not in _OURS]
        if request.authorization is not None:
            headers = [(name, value) for name, value in headers if name.lower() != "authorization"]
            headers.append(("Authorization", request.authorization.reveal()))
        return headers

    async def _pool_for(
        self, request: Request, url: str, origin: Origin, *, led_away: bool, proxied: bool
    ) -> aiohttp.ClientSession:
        """Choose the connections to use: free ones to the host itself, guarded ones to wherever it leads."""
        if request.for_host and origin == self.host.origin:
            return self._pool(None)
        reach = await self._own_reach()
        # Storage of a registry's own network is common behind redirects; this very machine is not.
        limit = max(reach, Reach.PRIVATE) if request.for_host and led_away else reach
        if not is_allowed(origin.host, limit) or (origin.host == "localhost" and limit < Reach.LOCAL):
            raise refused_target(self.host.name, url, "its address is nearer than the registry's")
        return self._pool(None if proxied else limit)  # behind a proxy the name is the proxy's to resolve

    async def _own_reach(self) -> Reach:
        """Tell how near the host itself is; behind a proxy its name is not ours to resolve, and it counts as far."""
        if self._reach is None:
            own = self.host.origin
            proxied = self._around.proxies.choose(own) is not None
            self._reach = Reach.PUBLIC if proxied and literal(own.host) is None else await reach_of_origin(own)
        return self._reach

    def _pool(self, limit: Reach | None) -> aiohttp.ClientSession:
        if limit not in self._pools:
            if self._closed:
                raise ClientClosedError("this repository is closed: its `async with` block has ended")
            import aiohttp
            from aiohttp.resolver import ThreadedResolver

            from containerd_py.remotes.guarded_resolver import GuardedResolver

            resolver = ThreadedResolver() if limit is None else GuardedResolver(limit)
            connector = aiohttp.TCPConnector(limit=0, resolver=resolver)
            self._pools[limit] = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=_READ_BUFFER,
                max_line_size=_MAX_HEADER_LINE,
                max_field_size=_MAX_HEADER_LINE,
                max_headers=_MAX_HEADERS,
            )
        return self._pools[limit]

    async def _context_for(self, origin: Origin) -> ssl.SSLContext:
        skipping = self.host.skip_verify and origin.host == self.host.origin.host
        unverified = skipping or (self._around.skip_verify and self.host.skip_verify is not False)
        if unverified and origin not in self._unverified:
            self._unverified.add(origin)
            _log.warning("the certificate of %s is not verified: skip_verify is set", origin.authority)
        own = origin == self.host.origin
        return await self._around.contexts.get(
            self.host.tls if own else self.host.tls.without_client(), verify=not unverified
        )


def _data_of(request: Request) -> bytes | None:
    if request.body is not None:
        return request.body.reveal().encode()
    return request.content if isinstance(request.content, bytes) else None
