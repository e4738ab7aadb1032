"""A registry in this process that does wrong what a test tells it to, and remembers all it was asked.

One ``FaultyRegistry`` is one origin (scheme, address, port); several may share their content. Faults are actions that
apply to the requests a rule matches; see ``registry_actions``.
"""

import base64
import itertools
import re
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import parse_qsl

import attrs

from tests.harness.certificates import Authority
from tests.harness.http_origin import Origin, Recorded, Rule, listening
from tests.harness.http_wire import Request, Response
from tests.harness.registry_actions import error_response, json_response
from tests.harness.registry_content import Content, digest_of
from tests.harness.registry_service import RegistryService

__all__ = [
    "BLOBS",
    "MANIFESTS",
    "PING",
    "UPLOADS",
    "Authority",
    "Content",
    "FaultyRegistry",
    "Recorded",
    "Rule",
    "TokenServer",
    "digest_of",
    "open_registry",
    "open_token_server",
]

# Paths for rules.
PING: Final = r"^/v2/$"
MANIFESTS: Final = r"/manifests/"
BLOBS: Final = r"/blobs/sha256:"
UPLOADS: Final = r"/blobs/uploads/"


@attrs.define(kw_only=True)
class IssuedToken:
    """A token and what it is good for."""

    token: str
    scopes: frozenset[str]  # each "repository:name:action"
    user: str | None
    expires_at: float  # time.monotonic()


class TokenServer(Origin):
    """Hand out bearer tokens, by GET with Basic credentials or by POST with a form; see ``open_token_server``."""

    def __init__(self, *, users: Mapping[str, str], host: str, port: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(self._issue, host=host, port=port, tls=tls)
        self.users = dict(users)  # name: password; empty: anonymous only
        self.expires_in: int | None = 300  # seconds, as told to the client; None: not told
        self.lifetime = 300.0  # seconds, as held to by the registry
        self.field = "token"  # or "access_token"
        self.refuse_anonymous = False
        self.issued: list[IssuedToken] = []

    @property
    def realm(self) -> str:
        return f"{self.url}/token"

    def revoke_all(self) -> None:
        """Let every token issued so far be expired."""
        for token in self.issued:
            token.expires_at = 0.0

    def admits(self, token: str, scope: str) -> bool:
        """Tell whether a token is one of ours, not expired, and good for a scope."""
        now = time.monotonic()
        return any(each.token == token and each.expires_at > now and scope in each.scopes for each in self.issued)

    async def _issue(self, request: Request) -> Response:
        form = dict(parse_qsl(request.body.decode())) if request.method == "POST" else {}
        user = self._user(request, form)
        if user is None and (self.refuse_anonymous or "Authorization" in request.headers or "password" in form):
            return error_response(401, "UNAUTHORIZED", "who are you?")
        asked = [value for name, value in request.query_pairs if name == "scope"] + form.get("scope", "").split()
        issued = IssuedToken(
            token=secrets.token_urlsafe(24),
            scopes=frozenset(itertools.chain.from_iterable(_scopes(word) for text in asked for word in text.split())),
            user=user,
            expires_at=time.monotonic() + self.lifetime,
        )
        self.issued.append(issued)
        document: dict[str, object] = {self.field: issued.token}
        if self.expires_in is not None:
            document["expires_in"] = self.expires_in
        return json_response(document)

    def _user(self, request: Request, form: Mapping[str, str]) -> str | None:
        name, password = basic_credentials(request)
        if form.get("grant_type") == "password":
            name, password = form.get("username", ""), form.get("password", "")
        return name if name and self.users.get(name) == password else None


class FaultyRegistry(Origin):
    """See ``open_registry``."""

    def __init__(self, content: Content, *, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.content = content
        self.service = RegistryService(content)
        self.users: dict[str, str] = {}  # name: password; not empty: Basic authentication is asked for
        self.token_server: TokenServer | None = None
        self.token_service = "registry.test"
        super().__init__(self._guarded, host=host, port=port, tls=tls)
        self.add_image = content.add_image
        self.add_index = content.add_index
        self.add_blob = content.add_blob
        self.add_manifest = content.add_manifest

    def reference(self, name: str) -> str:
        """Return a full image reference, such as "127.0.0.1:5000/library/test:latest"."""
        return f"{self.address}/{name}"

    def require_basic(self, user: str, password: str) -> None:
        """Ask for Basic authentication."""
        self.users[user] = password

    def require_tokens(self, server: TokenServer) -> None:
        """Ask for bearer tokens of a token server."""
        self.token_server = server

    def served(self, digest: str) -> int:
        """Count the bytes sent of a blob or manifest (asked for by digest), over all requests."""
        return sum(each.sent for each in self.requests if each.method == "GET" and each.path.endswith(f"/{digest}"))

    def blob_requests(self, digest: str = "sha256:") -> list[Recorded]:
        """Return the GET requests for one blob, or for all."""
        return self.matching(f"/blobs/{re.escape(digest)}", method="GET")

    async def _guarded(self, request: Request) -> Response:
        if self.users and not self._is_known(request):
            return _challenge('Basic realm="registry.test"')
        if self.token_server is not None:
            scope = _needed_scope(request)
            kind, _, token = request.headers.get("Authorization").partition(" ")
            if kind.lower() != "bearer" or not self.token_server.admits(token, scope):
                challenge = f'Bearer realm="{self.token_server.realm}",service="{self.token_service}"'
                asked = _asked_scope(request)
                return _challenge(f'{challenge},scope="{asked}"' if asked else challenge)
        return await self.service.handle(request)

    def _is_known(self, request: Request) -> bool:
        name, password = basic_credentials(request)
        return bool(name) and self.users.get(name) == password


@asynccontextmanager
async def open_registry(
    *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None, content: Content | None = None
) -> AsyncIterator[FaultyRegistry]:
    """Serve a registry on an IP address; ``tls`` comes from ``Authority.server``, ``content`` may be another's."""
    held = Content() if content is None else content
    async with listening(
        lambda at: FaultyRegistry(held, host=host, port=at, tls=tls), host=host, port=port
    ) as registry:
        yield registry


@asynccontextmanager
async def open_token_server(
    *, users: Mapping[str, str] | None = None, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[TokenServer]:
    """Serve tokens at ``/token``; ``users`` maps names to passwords."""
    known = users or {}
    async with listening(
        lambda at: TokenServer(users=known, host=host, port=at, tls=tls), host=host, port=port
    ) as server:
        yield server


def basic_credentials(request: Request) -> tuple[str, str]:
    """Read the name and password of a Basic header; empty when there is none."""
    kind, _, encoded = request.headers.get("Authorization").partition(" ")
    if kind.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return name, password


def _challenge(text: str) -> Response:
    response = error_response(401, "UNAUTHORIZED", "authentication required")
    response.headers.set("WWW-Authenticate", text)
    return response


def _needed_scope(request: Request) -> str:
    """Return the one scope without which a request is refused; "" where any token will do."""
    found = re.match(r"/v2/(.+)/(?:blobs|manifests|tags|referrers)/", request.path)
    action = "pull" if request.method in ("GET", "HEAD") else "push"
    return f"repository:{found[1]}:{action}" if found else ""


def _asked_scope(request: Request) -> str:
    """Return the scope to be named in a challenge: whoever pushes must pull as well."""
    needed = _needed_scope(request)
    return needed.removesuffix("push") + "pull,push" if needed.endswith(":push") else needed


def _scopes(text: str) -> list[str]:
    """Split "repository:name:pull,push" by action; a token is also good for what needs no scope."""
    subject, _, actions = text.rpartition(":")
    return [f"{subject}:{action}" for action in actions.split(",")]
