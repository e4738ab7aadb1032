"""Authentication with one registry host: its challenges, the tokens for them, and who we are there.

Source: distribution, "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import quote_plus, urlencode

import anyio
import attrs

from containerd_py.errors import InvalidArgumentError, RegistryAuthenticationError
from containerd_py.oci.strict_json import load_object
from containerd_py.remotes.answers import Answer, error_of
from containerd_py.remotes.challenges import Challenge, strongest
from containerd_py.remotes.credentials import Credential, CredentialSource, key_of, look_up
from containerd_py.remotes.exchange import Attempts, again_if_dropped, send_patiently
from containerd_py.remotes.limits import MAX_ERROR_SIZE, MAX_TOKEN_SIZE
from containerd_py.remotes.realms import check_realm
from containerd_py.remotes.responses import Response
from containerd_py.remotes.retries import parse_retry_after
from containerd_py.remotes.secret import Secret
from containerd_py.remotes.session import Request, Session

CLIENT_ID: Final = "containerd-py"
DEFAULT_LIFETIME: Final = 60.0  # seconds of a token that does not say (token specification, `expires_in`)
MAX_LIFETIME: Final = 86400.0

_EARLY: Final = 0.1  # of a token's life: it is renewed so much before its end, at most 10 s
_MAX_EARLY: Final = 10.0
_MAX_SCOPES: Final = 16
_TOKEN_RE: Final = re.compile(r"[!-~]+", re.ASCII)  # what may stand in a header
_SCOPE_RE: Final = re.compile(r"[!-~]{1,512}", re.ASCII)
# Registries without the POST form answer so: GCR 404, Artifactory 401, ACR 400 (containerd, authorizer).
_POST_UNKNOWN: Final = frozenset({400, 401, 404, 405})


@attrs.frozen(kw_only=True)
class _Token:
    header: Secret
    expires: float  # of time.monotonic(): the clock may be set meanwhile

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() < self.expires


class Authorizer:
    """Answers one host's challenges. Tokens are kept for each set of scopes; one task at a time fetches one."""

    def __init__(
        self, session: Session, source: CredentialSource | None, *, token_servers: Collection[str] | None = None
    ) -> None:
        self._session = session
        self._source = source
        self._token_servers = token_servers
        self._challenge: Challenge | None = None
        self._basic: Secret | None = None
        self._tokens: dict[tuple[str, ...], _Token] = {}
        self._credential: Credential | None = None
        self._asked_credential = False
        self._lock = anyio.Lock()

    @property
    def secrets(self) -> tuple[Secret | None, ...]:
        """What must not be shown of a server's answer."""
        shown = forms_of(self._credential) if self._credential else ()
        return *shown, *(token.header for token in self._tokens.values())

    @property
    def is_anonymous(self) -> bool:
        """Whether credentials were looked for and there are none."""
        return self._asked_credential and self._credential is None

    async def authorization(self, scopes: Collection[str]) -> Secret | None:
        """Give the Authorization header for requests needing the scopes; None as long as the host did not ask.

        Raises:
            RegistryError: The token service refused, or could not be asked.
        """
        if self._challenge is None or self._challenge.scheme == "basic":
            return self._basic
        wanted = self._with_challenged(scopes)
        token = self._tokens.get(wanted)
        if token is not None and token.is_fresh:
            return token.header
        async with self._lock:
            token = self._tokens.get(wanted)
            if token is None or not token.is_fresh:
                token = await self._fetch_token(self._challenge, wanted)
                self._tokens[wanted] = token
            return token.header

    async def answer(self, headers: Sequence[str], scopes: Collection[str], used: Secret | None) -> None:
        """Take in a 401 that came although `used` was sent, so that the next `authorization` is another one.

        Raises:
            RegistryError: There is nothing more to offer; the message says why.
        """
        async with self._lock:
            if self._challenge is not None and used != self._current(scopes):
                return  # another task has taken it in already
            challenge = strongest(headers)
            if challenge is None:
                raise self._error("it wants an authentication that is not spoken here")
            if challenge.scheme == "basic":
                await self._take_basic(used)
            else:
                self._check(challenge)
                self._tokens.pop(self._with_challenged(scopes), None)
            self._challenge = challenge

    def _current(self, scopes: Collection[str]) -> Secret | None:
        if self._challenge is None or self._challenge.scheme == "basic":
            return self._basic
        token = self._tokens.get(self._with_challenged(scopes))
        return token.header if token else None

    async def _take_basic(self, used: Secret | None) -> None:
        credential = await self._look_up()
        if credential is None or not credential.username:
            raise self._error(f"it wants a password, and none is configured for {key_of(self._session.host.origin)}")
        basic = basic_header(credential)
        if used == basic:
            raise self._error(f"it refuses the credentials configured for {key_of(self._session.host.origin)}")
        self._basic = basic

    def _check(self, challenge: Challenge) -> None:
        realm = challenge.parameters.get("realm", "")
        try:
            check_realm(realm, self._session.host.origin, self._token_servers)
        except ValueError as error:
            raise self._error(f"it names a token service that is not asked: {error}") from None

    def _with_challenged(self, scopes: Collection[str]) -> tuple[str, ...]:
        challenged = self._challenge.parameters.get("scope", "").split() if self._challenge else []
        extra = [scope for scope in challenged[:_MAX_SCOPES] if _SCOPE_RE.fullmatch(scope)]
        return tuple(sorted({*scopes, *extra}))

    async def _fetch_token(self, challenge: Challenge, scopes: tuple[str, ...]) -> _Token:
        credential = await self._look_up()
        attempts = Attempts(self._session.limits)
        return await again_if_dropped(attempts, lambda: self._ask_for_token(challenge, scopes, credential, attempts))

    async def _ask_for_token(
        self, challenge: Challenge, scopes: tuple[str, ...], credential: Credential | None, attempts: Attempts
    ) -> _Token:
        if credential is None or not credential.secret:
            return await self._read_token(await self._send(self._get_form(challenge, scopes, None), attempts))
        response = await self._send(self._post_form(challenge, scopes, credential), attempts)
        # Without a user name there is nothing to show in a GET to one who only dislikes the method.
        if response.status not in _POST_UNKNOWN or (response.status == 405 and not credential.username):
            return await self._read_token(response)
        with response:
            refused = f"{response.asked} was answered with status {response.status} before"
        try:
            return await self._read_token(await self._send(self._get_form(challenge, scopes, credential), attempts))
        except RegistryAuthenticationError as error:
            error.add_note(refused)
            raise

    def _get_form(self, challenge: Challenge, scopes: tuple[str, ...], credential: Credential | None) -> Request:
        service = challenge.parameters.get("service", "")
        query = [("service", service)] * bool(service) + [("scope", scope) for scope in scopes]
        realm = challenge.parameters["realm"].partition("#")[0]
        return Request(
            method="GET",
            url=f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}" if query else realm,
            headers={"Accept": "application/json"},
            authorization=basic_header(credential) if credential else None,
            for_host=self._is_own(realm),
        )

    def _post_form(self, challenge: Challenge, scopes: tuple[str, ...], credential: Credential) -> Request:
        realm = challenge.parameters["realm"].partition("#")[0]
        return Request(
            method="POST",
            url=realm,
            headers={"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"},
            body=form_of(challenge.parameters.get("service", ""), scopes, credential),
            for_host=self._is_own(realm),
        )

    def _is_own(self, realm: str) -> bool:
        origin = self._session.host.origin
        return check_realm(realm, origin, self._token_servers) == origin

    async def _send(self, request: Request, attempts: Attempts) -> Response:
        return await send_patiently(self._session, request, attempts)

    async def _read_token(self, response: Response) -> _Token:
        started = time.monotonic()
        with response:
            if response.status != 200:
                raise self._refusal(response, await response.read(MAX_ERROR_SIZE))
            token = token_of(await response.read(MAX_TOKEN_SIZE))
        if isinstance(token, str):
            raise self._error(f"the token service's answer {token}")
        header, life = token
        return _Token(header=header, expires=started + life)

    def _refusal(self, response: Response, body: bytes) -> Exception:
        later = parse_retry_after(response.header("Retry-After"))
        answer = Answer(
            host=self._session.host.name, asked=response.asked, status=response.status, body=body, retry_after=later
        )
        error = error_of(answer, *self.secrets)
        if response.status in {401, 403} or (300 <= response.status < 500 and response.status not in {408, 425, 429}):
            return self._error(f"its token service refuses: {error}")
        return error

    async def _look_up(self) -> Credential | None:
        if not self._asked_credential:
            self._credential = await look_up(self._source, self._session.host.origin)
            self._asked_credential = True
        return self._credential

    def _error(self, reason: str) -> RegistryAuthenticationError:
        host = self._session.host.name
        return RegistryAuthenticationError(f"{host} cannot be authenticated with: {reason}", host=host, status=401)


def basic_header(credential: Credential) -> Secret:
    """Write user name and password as an Authorization header (RFC 7617).

    Raises:
        InvalidArgumentError: The user name has a colon, which would end it early.
    """
    if ":" in credential.username:
        raise InvalidArgumentError("a user name for a registry cannot have a colon")
    pair = f"{credential.username}:{credential.secret.reveal()}"
    return Secret(f"Basic {base64.b64encode(pair.encode()).decode()}")


def forms_of(credential: Credential) -> tuple[Secret, ...]:
    """List the ways in which a credential goes over the wire, and may come back in a server's words."""
    plain = credential.secret.reveal()
    pair = f"{credential.username}:{plain}".encode()
    return credential.secret, Secret(quote_plus(plain)), Secret(base64.b64encode(pair).decode())


def form_of(service: str, scopes: tuple[str, ...], credential: Credential) -> Secret:
    """Write the form that asks a token service for a token."""
    form = {"scope": " ".join(scopes), "service": service, "client_id": CLIENT_ID}
    if credential.username:
        form |= {"grant_type": "password", "username": credential.username, "password": credential.secret.reveal()}
    else:
        form |= {"grant_type": "refresh_token", "refresh_token": credential.secret.reveal()}
    return Secret(urlencode(form))


def token_of(body: bytes) -> tuple[Secret, float] | str:
    """Read a token service's answer: the Authorization header it makes and how long (seconds) to use it.

    What is wrong with it is told as text and not raised, lest a traceback shows the answer.
    """
    if len(body) > MAX_TOKEN_SIZE:
        return f"is longer than {MAX_TOKEN_SIZE} bytes"
    try:
        answer = load_object(body, what="answer", max_size=MAX_TOKEN_SIZE)
    except InvalidArgumentError:
        return "is no JSON object"
    token = answer.get("access_token") or answer.get("token")
    if not isinstance(token, str) or not _TOKEN_RE.fullmatch(token):
        return "has no usable token"
    return Secret(f"Bearer {token}"), lifetime_of(answer.get("expires_in"))


def lifetime_of(expires_in: object) -> float:
    """Tell how long (seconds) to use a token whose answer says `expires_in`: a tenth less, nonsense as a minute."""
    life = DEFAULT_LIFETIME
    if isinstance(expires_in, int | float) and not isinstance(expires_in, bool) and expires_in > 0:
        life = min(expires_in, MAX_LIFETIME)
    return life - min(life * _EARLY, _MAX_EARLY)
