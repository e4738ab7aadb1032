"""One host asked about one repository: URLs, authentication, refusals. Knows the registry protocol's frame only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from containerd_py.errors import RegistryAuthenticationError, RegistryError
from containerd_py.references import Reference
from containerd_py.remotes.answers import Answer, error_of
from containerd_py.remotes.auth import Authorizer
from containerd_py.remotes.credentials import key_of
from containerd_py.remotes.exchange import Attempts, send_patiently
from containerd_py.remotes.limits import MAX_ERROR_SIZE
from containerd_py.remotes.responses import Response
from containerd_py.remotes.retries import parse_retry_after
from containerd_py.remotes.session import Request, Session

_UNAUTHORIZED: Final = 401
_WHO_ARE_YOU: Final = frozenset({401, 403})
_MAX_CHALLENGES: Final = 2  # one for not having shown anything, one for a token that went stale


class HostClient:
    """Asks one host about the repository of a reference."""

    def __init__(self, session: Session, authorizer: Authorizer, reference: Reference) -> None:
        self.session = session
        self.host = session.host
        self._authorizer = authorizer
        self._scopes = (f"repository:{reference.path}:pull",)
        self._root = f"{self.host.origin}{self.host.path.rstrip('/')}/{reference.path}"
        # A mirror must be told which registry it stands in for.
        self._query = f"?{urlencode({'ns': reference.domain})}" if self.host.is_mirror_of(reference.domain) else ""

    @property
    def name(self) -> str:
        """The host as messages know it."""
        return self.host.name

    def url(self, kind: str, name: str) -> str:
        """Write the URL of a manifest or blob; the name is a checked tag or digest."""
        return f"{self._root}/{kind}/{name}{self._query}"

    async def send(self, method: str, url: str, headers: Mapping[str, str], attempts: Attempts) -> Response:
        """Ask the host, authenticating as it demands; the answer, of whatever status, is to be closed by the caller.

        Raises:
            RegistryError: No answer came, or the host cannot be satisfied about who we are.
        """
        for _ in range(_MAX_CHALLENGES):
            used = await self._authorizer.authorization(self._scopes)
            request = Request(method=method, url=url, headers=headers, authorization=used)
            response = await send_patiently(self.session, request, attempts)
            if response.status != _UNAUTHORIZED or response.led_away:
                return response
            refusal = await self.refusal(response)
            try:
                await self._authorizer.answer(response.headers("WWW-Authenticate"), self._scopes, used)
            except RegistryAuthenticationError as error:
                error.code, error.detail = refusal.code, refusal.detail
                error.args = (f"{error}: {refusal.detail}" if refusal.detail else str(error),)
                raise
        last = await self._authorizer.authorization(self._scopes)
        request = Request(method=method, url=url, headers=headers, authorization=last)
        return await send_patiently(self.session, request, attempts)

    async def send_elsewhere(self, url: str, headers: Mapping[str, str]) -> Response:
        """Ask a place that a manifest names, showing nothing of ours; the answer is to be closed by the caller.

        Raises:
            RegistryError: No answer came, or the place is none to ask.
        """
        request = Request(method="GET", url=url, headers=headers, for_host=False)
        return await send_patiently(self.session, request, Attempts(self.session.limits, last_host=False))

    async def refusal(self, response: Response) -> RegistryError:
        """Read a refusal to its end, close it, and make the error for it."""
        with response:
            try:
                body = await response.read(MAX_ERROR_SIZE) if not response.is_head else b""
            except RegistryError:
                body = b""  # the status says enough
        answer = Answer(
            host=self.name,
            asked=response.asked,
            status=response.status,
            body=body,
            retry_after=parse_retry_after(response.header("Retry-After")),
        )
        error = error_of(answer, *self._authorizer.secrets)
        if response.status in _WHO_ARE_YOU and self._authorizer.is_anonymous:
            error.args = (f"{error} [no credentials are configured for {key_of(self.host.origin)}]",)
        return error
