"""Authentication: credentials reach whom they are for and nobody else, tokens are fetched once, nothing loops."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import anyio
import attrs
import pytest
from anyio.abc import ByteStream

from containerd_py.errors import (
    RegistryAuthenticationError,
    RegistryError,
    RegistryRateLimitedError,
    RegistryStalledError,
    RegistryUnavailableError,
)
from containerd_py.remotes.limits import MAX_TOKEN_SIZE
from tests.faults.registry_content import BLOB, QUICK, ROOT, honest, open_at, read, serve_registry
from tests.harness.scripted_http import Asked, Reply, ScriptedServer, serve_http

USER, PASSWORD = "me", "c4n4ry-p4ssw0rd"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SCOPE = "repository:team/app:pull"


@attrs.define(slots=False)
class TokenRegistry:
    """A registry and its token service, which may be elsewhere; fields change how they behave."""

    server: ScriptedServer = None  # type: ignore[assignment]
    realm: str = ""
    parameters: str = f'service="reg",scope="{SCOPE}"'
    answer: dict[str, Any] = attrs.field(factory=lambda: {"expires_in": 300})
    token_reply: Reply | None = None
    post: int = 200  # status of POST
    needs_password: bool = False
    accepts: set[str] = attrs.field(factory=set)  # tokens handed out and still good
    tokens: list[Asked] = attrs.field(factory=list)  # what the token service was asked

    async def handle(self, asked: Asked, stream: ByteStream) -> Reply | None:  # noqa: ARG002  a Handler
        if asked.path == "/token":
            return self.give_token(asked)
        if asked.headers.get("authorization", "").removeprefix("Bearer ") in self.accepts:
            return honest(asked)
        realm = self.realm or f"{self.server.origin}/token"
        return Reply(
            401,
            {"WWW-Authenticate": f'Bearer realm="{realm}",{self.parameters}'},
            b'{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}',
        )

    def give_token(self, asked: Asked) -> Reply:
        self.tokens.append(asked)
        if self.token_reply is not None:
            return self.token_reply
        if asked.method == "POST" and self.post != 200:
            return Reply(self.post)
        form = parse_qs(asked.body.decode())
        shown = form.get("password") == [PASSWORD] or asked.headers.get("authorization") == BASIC
        if self.needs_password and not shown and form.get("refresh_token") != [PASSWORD]:
            return Reply(401, {}, b'{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}')
        token = f"token-{len(self.tokens)}"
        self.accepts.add(token)
        return Reply(body=json.dumps({"token": token, **self.answer}).encode())


@asynccontextmanager
async def serve_tokens(**fields: Any) -> AsyncIterator[TokenRegistry]:
    registry = TokenRegistry(**fields)
    async with serve_http(registry.handle) as registry.server:
        yield registry


async def test_anonymous_token() -> None:
    """Without credentials a token is asked for with GET, for our scope, showing nothing."""
    async with serve_tokens() as registry, open_at(registry.server) as repository:
        assert await repository.resolve() == ROOT
        assert await read(repository) == BLOB
    (asked,) = registry.tokens
    assert asked.method == "GET"
    assert asked.query == {"service": ["reg"], "scope": [SCOPE]}
    assert "authorization" not in asked.headers
    sent = [asked.headers.get("authorization") for asked in registry.server.asked if asked.path != "/token"]
    assert sent == [None, "Bearer token-1", "Bearer token-1"]


async def test_password_by_post() -> None:
    """With credentials the token is asked for with a form, which holds them; the registry itself never sees them."""
    async with serve_tokens(needs_password=True) as registry:
        credentials = {registry.server.authority: (USER, PASSWORD)}
        async with open_at(registry.server, credentials=credentials) as repository:
            assert await repository.resolve() == ROOT
    (asked,) = registry.tokens
    assert asked.method == "POST"
    form = parse_qs(asked.body.decode())
    assert form == {
        "grant_type": ["password"], "username": [USER], "password": [PASSWORD], "scope": [SCOPE], "service": ["reg"],
        "client_id": ["containerd-py"],
    }  # fmt: skip
    assert PASSWORD not in str([asked.headers for asked in registry.server.asked])


@pytest.mark.parametrize("status", [400, 401, 404, 405])
async def test_get_where_post_is_unknown(status: int) -> None:
    """A token service that does not know the form is asked with GET and a password."""
    async with serve_tokens(needs_password=True, post=status) as registry:
        credentials = {registry.server.authority: (USER, PASSWORD)}
        async with open_at(registry.server, credentials=credentials) as repository:
            assert await repository.resolve() == ROOT
    assert [asked.method for asked in registry.tokens] == ["POST", "GET"]
    assert registry.tokens[1].headers["authorization"] == BASIC


async def test_refresh_token() -> None:
    """A secret without a user name is exchanged as a refresh token."""
    async with serve_tokens(needs_password=True) as registry:
        credentials = {registry.server.authority: ("", PASSWORD)}
        async with open_at(registry.server, credentials=credentials) as repository:
            assert await repository.resolve() == ROOT
    assert b"grant_type=refresh_token" in registry.tokens[0].body


async def test_basic() -> None:
    """A registry that wants a password gets it with every request, once it asked."""

    async def handle(asked: Asked, stream: ByteStream) -> Reply:
        if asked.headers.get("authorization") == BASIC:
            return honest(asked)
        return Reply(401, {"WWW-Authenticate": 'Basic realm="reg"'})

    async with (
        serve_http(handle) as server,
        open_at(server, credentials={server.authority: (USER, PASSWORD)}) as repository,
    ):
        assert await repository.resolve() == ROOT
        assert await read(repository) == BLOB
    assert [asked.headers.get("authorization") for asked in server.asked] == [None, BASIC, BASIC]


@pytest.mark.parametrize(
    "challenge", ['Basic realm="x"', "Negotiate", 'Digest realm="x"', None, "Bearer", 'Bearer realm=""']
)
async def test_nothing_to_offer(challenge: str | None) -> None:
    """A challenge we cannot answer, for want of credentials or of the scheme, ends after one request, with a reason."""

    async def handle(asked: Asked, stream: ByteStream) -> Reply:
        return Reply(
            401, {"WWW-Authenticate": challenge} if challenge else {}, b'{"errors":[{"code":"WHO","message":"who?"}]}'
        )

    async with serve_http(handle) as server, open_at(server) as repository:
        with pytest.raises(RegistryAuthenticationError) as caught:
            await read(repository)
    assert len(server.asked) == 1
    assert caught.value.status == 401
    assert (caught.value.code, caught.value.detail) == ("WHO", "who?")


async def test_wrong_password() -> None:
    """Credentials that are refused are offered once, and the error says so, without them."""

    async def handle(asked: Asked, stream: ByteStream) -> Reply:
        return Reply(401, {"WWW-Authenticate": 'Basic realm="x"'})

    async with (
        serve_http(handle) as server,
        open_at(server, credentials={server.authority: (USER, "no")}) as repository,
    ):
        with pytest.raises(RegistryAuthenticationError, match="refuses the credentials"):
            await repository.resolve()
    assert len(server.asked) == 2


async def test_wrong_password_at_the_token_service() -> None:
    """A token service's refusal is the registry's, with its words."""
    async with (
        serve_tokens(needs_password=True) as registry,
        open_at(registry.server, credentials={registry.server.authority: (USER, "no")}) as repository,
    ):
        with pytest.raises(RegistryAuthenticationError, match="wrong password"):
            await repository.resolve()
    assert [asked.method for asked in registry.tokens] == ["POST", "GET"]


async def test_no_credentials_are_said() -> None:
    """Where access is denied and no credentials are configured, the error says that too."""
    async with serve_tokens() as registry, open_at(registry.server) as repository:
        registry.give_token = lambda _: Reply(body=b'{"token":"useless"}')  # type: ignore[method-assign]
        with pytest.raises(RegistryAuthenticationError, match="no credentials are configured"):
            await read(repository)


async def test_callback_is_asked_once() -> None:
    """The source of credentials is asked when a registry first wants them, by its name, and once."""
    asked_for: list[str] = []

    def source(host: str) -> tuple[str, str]:
        asked_for.append(host)
        return USER, PASSWORD

    async with (
        serve_tokens(needs_password=True, answer={"expires_in": 1}) as registry,
        open_at(registry.server, credentials=source) as repository,
    ):
        assert asked_for == []
        await repository.resolve()
        await read(repository)
    assert asked_for == [registry.server.authority]


async def test_failing_callback() -> None:
    """What the source of credentials raises reaches the caller as it is."""

    def source(host: str) -> None:
        raise KeyError(host)

    async with serve_tokens() as registry, open_at(registry.server, credentials=source) as repository:
        with pytest.raises(KeyError):
            await repository.resolve()


# ── tokens' lives ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_token_for_many() -> None:
    """However many requests need it, a token is fetched once: at first, and when it went stale."""
    async with serve_tokens() as registry, open_at(registry.server) as repository:
        for expected in (1, 2):
            registry.accepts.clear()  # what was handed out is worth nothing now
            async with anyio.create_task_group() as group:
                for _ in range(24):
                    group.start_soon(repository.fetch_manifest, ROOT)
            assert len(registry.tokens) == expected


async def test_expiring_token() -> None:
    """A token is renewed before its life ends, without being refused first."""
    async with serve_tokens(answer={"expires_in": 1}) as registry, open_at(registry.server) as repository:
        await repository.fetch_manifest(ROOT)
        await anyio.sleep(0.95)
        await repository.fetch_manifest(ROOT)
    assert len(registry.tokens) == 2
    assert [asked.headers.get("authorization") for asked in registry.server.asked if asked.path != "/token"] == [
        None,
        "Bearer token-1",
        "Bearer token-2",
    ]


async def test_token_refused_for_ever() -> None:
    """A registry that accepts no token it sent us for ends in an error after two of them."""
    async with serve_tokens() as registry, open_at(registry.server) as repository:
        registry.give_token = lambda asked: registry.tokens.append(asked) or Reply(body=b'{"token":"useless"}')  # type: ignore[method-assign]
        with pytest.raises(RegistryAuthenticationError, match="who"):
            await read(repository)
    assert len(registry.tokens) == 2
    assert len(registry.server.asked) - len(registry.tokens) == 3


async def test_wider_scope() -> None:
    """A scope the challenge asks for is asked for besides our own."""
    other = "repository:team/base:pull"
    parameters = f'service="reg",scope="{other}"'
    async with serve_tokens(parameters=parameters) as registry, open_at(registry.server) as repository:
        assert await repository.resolve() == ROOT
    assert sorted(registry.tokens[0].query["scope"]) == sorted([SCOPE, other])


async def test_boundless_scope() -> None:
    """A challenge with ever so many scopes is not followed to its end."""
    scopes = " ".join(f"repository:x/{number}:pull" for number in range(300))
    async with serve_tokens(parameters=f'scope="{scopes}"') as registry, open_at(registry.server) as repository:
        assert await repository.resolve() == ROOT
    assert len(registry.tokens[0].query["scope"]) <= 17


async def test_cancelled_while_fetching_a_token() -> None:
    """When the task that fetches a token is cancelled, the next one fetches it."""
    async with serve_tokens() as registry, open_at(registry.server) as repository:
        slow = anyio.Event()
        give = registry.handle

        async def handle(asked: Asked, stream: ByteStream) -> Reply | None:
            if asked.path == "/token" and not slow.is_set():
                slow.set()
                await stream.receive()
            return await give(asked, stream)

        registry.server.handler = handle
        async with anyio.create_task_group() as first, anyio.create_task_group() as second:
            first.start_soon(repository.fetch_manifest, ROOT)
            await slow.wait()
            second.start_soon(repository.fetch_manifest, ROOT)
            first.cancel_scope.cancel()
        assert await repository.fetch_manifest(ROOT)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"<html>log in</html>"),
        Reply(body=b"{}"),
        Reply(body=b'{"token":"a\\r\\nX-Evil: 1"}'),
        Reply(body=b'{"token":"' + b"a" * MAX_TOKEN_SIZE + b'"}'),
        Reply(body=b" " * 10_000_000),
        Reply(403),
        Reply(404),
        Reply(302, {"Location": "/token"}),
    ],
)
async def test_useless_token_service(reply: Reply) -> None:
    """A token service that refuses, rambles or loops is an authentication error, in bounded memory and requests."""
    async with serve_tokens(token_reply=reply) as registry, open_at(registry.server) as repository:
        with pytest.raises(RegistryError) as caught:
            await read(repository)
    assert "X-Evil" not in str(caught.value)
    assert len(registry.tokens) <= 11


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_token_service_that_recovers(status: int) -> None:
    """A token service that is broken, or wants patience, is tried again."""
    async with serve_tokens() as registry, open_at(registry.server) as repository:
        registry.token_reply = Reply(status)

        async def recover() -> None:
            while len(registry.tokens) < 2:
                await anyio.sleep(0.001)
            registry.token_reply = None

        async with anyio.create_task_group() as group:
            group.start_soon(recover)
            assert await repository.resolve() == ROOT


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(500), RegistryUnavailableError),
        (Reply(429, {"Retry-After": "999"}), RegistryRateLimitedError),
        (Reply(200, body=b'{"token":', length=500, cut_after=9), RegistryUnavailableError),
    ],
)
async def test_token_service_that_does_not(reply: Reply, kind: type[RegistryError]) -> None:
    """A token service that stays broken is given up after five tries."""
    async with serve_tokens(token_reply=reply) as registry, open_at(registry.server) as repository:
        with pytest.raises(kind):
            await repository.resolve()
    assert len(registry.tokens) <= 5


async def test_token_answer_cut_off_once() -> None:
    """A token whose answer breaks off is asked for again."""
    async with serve_tokens() as registry, open_at(registry.server) as repository:
        give = registry.give_token

        def give_half(asked: Asked) -> Reply:
            reply = give(asked)
            return attrs.evolve(reply, cut_after=5) if len(registry.tokens) == 1 else reply

        registry.give_token = give_half  # type: ignore[method-assign]
        assert await repository.resolve() == ROOT
    assert len(registry.tokens) == 2


async def test_stalled_token_service() -> None:
    """A token service that says nothing is given up after the stall timeout."""
    async with serve_tokens() as registry, open_at(registry.server) as repository:
        give = registry.handle

        async def handle(asked: Asked, stream: ByteStream) -> Reply | None:
            if asked.path == "/token":
                await stream.receive()
            return await give(asked, stream)

        registry.server.handler = handle
        with anyio.fail_after(QUICK.stall_timeout + 2), pytest.raises(RegistryStalledError):
            await repository.resolve()


# ── where credentials go ────────────────────────────────────────────────────────────────────────────────────────────


async def test_token_service_elsewhere_on_loopback() -> None:
    """A registry on loopback, asked in the clear, may name a token service on loopback."""
    async with serve_tokens(needs_password=True) as service, serve_tokens() as registry:
        registry.realm = f"{service.server.origin}/token"
        registry.accepts = service.accepts
        async with open_at(registry.server, credentials={registry.server.authority: (USER, PASSWORD)}) as repository:
            assert await repository.resolve() == ROOT
    assert len(service.tokens) == 1
    assert registry.tokens == []


@pytest.mark.parametrize("listed", [True, False])
async def test_permitted_token_servers(listed: bool) -> None:
    """A list of token servers narrows down whom a registry may name."""
    async with serve_tokens() as service, serve_tokens() as registry:
        registry.realm = f"{service.server.origin}/token"
        registry.accepts = service.accepts
        servers = {service.server.authority if listed else "auth.example"}
        async with open_at(registry.server, token_servers=servers) as repository:
            if listed:
                assert await repository.resolve() == ROOT
            else:
                with pytest.raises(RegistryAuthenticationError, match="permitted token servers"):
                    await repository.resolve()
    assert len(service.server.asked) == listed


@pytest.mark.parametrize(
    "realm",
    [
        "file:///etc/passwd",
        "gopher://x/",
        "/token",
        "",
        "http://u:p@127.0.0.1/token",
        "http://auth.example/token",
        "http://127.0.0.1/" + "a" * 9000,
    ],
)
async def test_untrusted_realms(realm: str) -> None:
    """A realm that is no place for credentials is refused with a reason, and nothing is sent anywhere."""
    async with (
        serve_tokens(realm=realm or " ") as registry,
        open_at(registry.server, credentials={registry.server.authority: (USER, PASSWORD)}) as repository,
    ):
        with pytest.raises(RegistryAuthenticationError):
            await repository.resolve()
    assert len(registry.server.asked) == 1


async def test_credentials_of_another_registry() -> None:
    """A registry that names our other registry's token service gets a token made without any credentials."""
    async with serve_tokens() as victim, serve_tokens() as evil:
        evil.realm = f"{victim.server.origin}/token"
        async with open_at(evil.server, credentials={victim.server.authority: (USER, PASSWORD)}) as repository:
            with pytest.raises(RegistryAuthenticationError):
                await repository.resolve()
    assert all(not asked.body and "authorization" not in asked.headers for asked in victim.tokens)


async def test_form_does_not_follow_redirects_elsewhere() -> None:
    """A token service that redirects the form with the password to another origin does not get it sent there."""
    async with serve_tokens() as elsewhere, serve_tokens() as registry:
        registry.token_reply = Reply(307, {"Location": f"{elsewhere.server.origin}/token"})
        async with open_at(registry.server, credentials={registry.server.authority: (USER, PASSWORD)}) as repository:
            with pytest.raises(RegistryError, match="another origin"):
                await repository.resolve()
    assert elsewhere.server.asked == []


async def test_password_does_not_follow_redirects_elsewhere() -> None:
    """A token service asked with GET that redirects to another origin gets the password itself, the other does not."""
    async with serve_tokens() as elsewhere, serve_tokens(post=404) as registry:
        give = registry.give_token

        def redirect(asked: Asked) -> Reply:
            return (
                Reply(302, {"Location": f"{elsewhere.server.origin}/token"}) if asked.method == "GET" else give(asked)
            )

        registry.give_token = redirect  # type: ignore[method-assign]
        registry.accepts = elsewhere.accepts
        async with open_at(registry.server, credentials={registry.server.authority: (USER, PASSWORD)}) as repository:
            assert await repository.resolve() == ROOT
    assert "authorization" not in elsewhere.tokens[0].headers
    assert elsewhere.tokens[0].body == b""


async def test_secrets_are_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Neither password nor token shows in errors, their notes, tracebacks with local variables, or logs."""
    caplog.set_level(logging.DEBUG)
    token = "c4n4ry-t0k3n"
    spoilers: list[dict[str, Any]] = [
        {"token_reply": Reply(401, {}, f'{{"errors":[{{"code":"X","message":"not {PASSWORD}, {BASIC}"}}]}}'.encode())},
        {"token_reply": Reply(body=f'{{"token":"{token} broken"}}'.encode())},
        {"token_reply": Reply(body=f'{{"token":"{token}","x":'.encode())},
        {"token_reply": Reply(body=f'{{"token":"{token}"}}'.encode())},
        {"token_reply": Reply(500, {}, f"{PASSWORD}".encode())},
        {"realm": "http://auth.example/"},
    ]
    for spoiler in spoilers:
        async with AsyncExitStack() as stack:
            registry = await stack.enter_async_context(serve_tokens(**spoiler))
            options = {"credentials": {registry.server.authority: (USER, PASSWORD)}}
            repository = await stack.enter_async_context(open_at(registry.server, **options))
            with pytest.raises(RegistryError) as caught:
                await read(repository)
        shown = shown_by(caught.value)
        for hidden in (PASSWORD, BASIC, BASIC.split()[1], token, PASSWORD[::-1]):
            assert hidden not in shown, shown
            assert hidden not in str(caught.value)
            assert hidden not in caplog.text


def shown_by(error: BaseException) -> str:
    """Write an error with its causes and the local variables of all frames but the tests' own, who know secrets."""
    told, lines = traceback.TracebackException.from_exception(error, capture_locals=True), []
    while told is not None:
        told.stack = traceback.StackSummary.from_list(
            [frame for frame in told.stack if "/tests/" not in frame.filename]
        )
        lines += told.format(chain=False)
        told = told.__cause__ or told.__context__
    return "".join(lines)


@pytest.mark.parametrize("stray", ["Basic", "Bearer"])
async def test_mixed_challenges(stray: str) -> None:
    """Of several challenges the token's is answered, wherever it stands."""
    async with serve_tokens() as registry, open_at(registry.server) as repository:
        give = registry.handle

        async def handle(asked: Asked, stream: ByteStream) -> Reply | None:
            reply = await give(asked, stream)
            if reply is not None and reply.status == 401:
                bearer = reply.headers["WWW-Authenticate"]
                both = [bearer, 'Basic realm="x"'] if stray == "Basic" else ['Basic realm="x"', "Negotiate", bearer]
                return attrs.evolve(reply, headers={"WWW-Authenticate": ", ".join(both)})
            return reply

        registry.server.handler = handle
        assert await repository.resolve() == ROOT


async def test_registry_without_authentication_never_sees_credentials() -> None:
    """Credentials are shown to nobody who does not ask."""
    async with (
        serve_registry() as server,
        open_at(server, credentials={server.authority: (USER, PASSWORD)}) as repository,
    ):
        assert await read(repository) == BLOB
    assert all("authorization" not in asked.headers for asked in server.asked)
