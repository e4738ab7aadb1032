"""One host asked about one repository: URLs, authentication, refusals. Knows the registry protocol's frame only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlencode

from containerd_py.errors import RegistryAuthenticationError, RegistryError
from containerd_py.references import Reference
from containerd_py.remotes.answers import Answer, error_of
from containerd_py.remotes.auth import Authorizer
from containerd_py.remotes.credentials import key_of
from containerd_py.remotes.exchange import Attempts, send_patiently
from containerd_py.remotes.limits import MAX_ERROR_SIZE
from containerd_py.remotes.origins import origin_of
from containerd_py.remotes.responses import Response
from containerd_py.remotes.retries import parse_retry_after
from containerd_py.remotes.secret import Secret
from containerd_py.remotes.sending import Content
from containerd_py.remotes.session import Request, Session
from containerd_py.types import NO_LABELS

_UNAUTHORIZED: Final = 401
_WHO_ARE_YOU: Final = frozenset({401, 403})
_MAX_CHALLENGES: Final = 2  # one for not having shown anything, one for a token that went stale


class HostClient:
    """Asks one host about the repository of a reference."""

    def __init__(self, session: Session, authorizer: Authorizer, reference: Reference) -> None:
        self.session = session
        self.host = session.host
        self._authorizer = authorizer
        self._pull_scopes = (f"repository:{reference.path}:pull",)
        self.push_scopes = (f"repository:{reference.path}:pull,push",)
        self.delete_scopes = (f"repository:{reference.path}:pull,delete",)
        self._base = f"{self.host.origin}{self.host.path.rstrip('/')}"
        self._repository = reference.path
        # A mirror must be told which registry it stands in for.
        self._query = {"ns": reference.domain} if self.host.is_mirror_of(reference.domain) else {}

    @property
    def name(self) -> str:
        """The host as messages know it."""
        return self.host.name

    def url(self, kind: str, name: str, query: Mapping[str, str] = NO_LABELS) -> str:
        """Write a URL of the repository; the name is a checked tag or digest."""
        return self.registry_url(f"{self._repository}/{kind}/{name}", query)

    def registry_url(self, path: str, query: Mapping[str, str] = NO_LABELS) -> str:
        """Write a URL of the registry."""
        values = {**self._query, **query}
        return f"{self._base}/{path}{'?' if values else ''}{urlencode(values)}"

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        attempts: Attempts,
        *,
        scopes: Collection[str] | None = None,
        content: bytes | None = None,
    ) -> Response:
        """Ask the host, authenticating as it demands; the answer, of whatever status, is to be closed by the caller.

        `scopes` None asks for what pulling needs.

        Raises:
            RegistryError: No answer came, or the host cannot be satisfied about who we are.
        """
        needed = self._pull_scopes if scopes is None else scopes
        for _ in range(_MAX_CHALLENGES):
            used = await self._authorizer.authorization(needed)
            request = Request(method=method, url=url, headers=headers, authorization=used, content=content)
            response = await send_patiently(self.session, request, attempts)
            if response.status != _UNAUTHORIZED or response.led_away:
                return response
            await self._take_challenge(response, needed, used)
        last = await self._authorizer.authorization(needed)
        request = Request(method=method, url=url, headers=headers, authorization=last, content=content)
        return await send_patiently(self.session, request, attempts)

    async def send_once(
        self, method: str, url: str, headers: Mapping[str, str], content: Content, scopes: Collection[str]
    ) -> Response | None:
        """Send content to wherever the host said it goes; the answer is to be closed by the caller.

        None says that other credentials were wanted, which the next time brings. A place of another origin than the
        host's is shown nothing of ours but the content.

        Raises:
            RegistryError: No answer came, the place is none to go to, or we cannot satisfy the host about who we are.
            SizeMismatchError: The content has another size than it was said to have.
        """
        is_own = origin_of(url) == self.host.origin
        used = await self._authorizer.authorization(scopes) if is_own else None
        request = Request(method=method, url=url, headers=headers, authorization=used, content=content, for_host=is_own)
        response = await self.session.send(request)
        if response.status != _UNAUTHORIZED or not is_own:
            return response
        await self._take_challenge(response, scopes, used)
        return None

    async def _take_challenge(self, response: Response, scopes: Collection[str], used: Secret | None) -> None:
        """Take in a 401, and close it, so that the next request brings what it asks for."""
        refusal = await self.refusal(response)
        try:
            await self._authorizer.answer(response.headers("WWW-Authenticate"), scopes, used)
        except RegistryAuthenticationError as error:
            error.code, error.detail = refusal.code, refusal.detail
            error.args = (f"{error}: {refusal.detail}" if refusal.detail else str(error),)
            raise

    async def send_elsewhere(
        self, url: str, headers: Mapping[str, str], *, method: str = "GET", content: bytes | None = None
    ) -> Response:
        """Ask a place that somebody named, showing nothing of ours; the answer is to be closed by the caller.

        Raises:
            RegistryError: No answer came, or the place is none to ask.
        """
        request = Request(method=method, url=url, headers=headers, content=content, for_host=False)
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
