"""Where a registry may lead us, and what we take along: redirects, foreign layers, addresses of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from anyio.abc import ByteStream

from containerd_py.errors import RegistryAuthenticationError, RegistryError
from containerd_py.references import Reference
from containerd_py.remotes import session as session_module
from containerd_py.remotes.origins import Origin, Reach
from containerd_py.remotes.registry import Registry
from containerd_py.remotes.repository import Repository
from tests.faults.registry_content import (
    BLOB,
    LAYER,
    QUICK,
    ROOT,
    Script,
    honest,
    open_at,
    part_of,
    read,
    serve_registry,
)
from tests.harness.scripted_http import Asked, Reply, ScriptedServer, serve_http

CANARY = "c4n4ry"
SENSITIVE = ("authorization", "cookie", "x-canary", "proxy-authorization")


def redirecting(*locations: str, status: int = 307) -> Script:
    """Send blob requests on: the first one to the first place, and so on, the last place staying."""
    seen: list[str] = []

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        if "/blobs/" not in asked.path:
            return reply
        seen.append(asked.path)
        location = locations[min(len(seen), len(locations)) - 1]
        return Reply(status, {"Location": location, "Set-Cookie": f"session={CANARY}"}) if location else reply

    return script


def leaks(server: ScriptedServer) -> list[str]:
    """List what a server was shown that was not for it."""
    return [name for asked in server.asked for name in SENSITIVE if name in asked.headers]


@asynccontextmanager
async def with_secrets(folder: Path, server: ScriptedServer, **options: Any) -> AsyncIterator[Repository]:
    """Open a repository with configured headers, one of them a credential, for the server alone."""
    (folder / server.authority).mkdir()
    headers = f'[header]\nX-Canary = "{CANARY}"\nAuthorization = "Basic {CANARY}"'
    (folder / server.authority / "hosts.toml").write_text(f'server = "{server.origin}"\n{headers}')
    async with open_at(server, hosts_dir=folder, **options) as repository:
        yield repository


async def storage(asked: Asked, stream: ByteStream) -> Reply:
    """Serve the layer at any path, as an object store does."""
    return part_of(BLOB, asked)


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the registry under test, which is on loopback, pass for one far away."""

    async def far_away(origin: Origin) -> Reach:
        return Reach.PUBLIC

    monkeypatch.setattr(session_module, "reach_of_origin", far_away)


# ── redirects ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_storage_elsewhere(tmp_path: Path, status: int) -> None:
    """A blob is fetched from where the registry says, range and all, showing nothing of what is the registry's."""
    async with (
        serve_http(storage) as store,
        serve_registry(redirecting(f"{store.origin}/x", status=status)) as server,
        with_secrets(tmp_path, server) as repository,
    ):
        assert await read(repository, offset=1000) == BLOB[1000:]
    assert len(leaks(server)) == 2  # the registry itself is shown both headers
    assert leaks(store) == []
    assert store.asked[0].headers["range"] == "bytes=1000-"
    assert store.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1"])
async def test_origins_are_told_apart(tmp_path: Path, host: str) -> None:
    """Another port, address or notation of this machine is another origin."""
    async with (
        serve_http(storage, host=host) as store,
        serve_registry(redirecting(f"{store.origin}/x")) as server,
        with_secrets(tmp_path, server) as repository,
    ):
        assert await read(repository) == BLOB
    assert leaks(store) == []


async def test_same_address_by_another_name(tmp_path: Path) -> None:
    """The registry's own address under another name is another origin."""
    async with serve_registry() as server:
        server_name = f"http://localhost:{server.port}/v2/team/app/blobs/{LAYER.digest}"
        locations = iter([server_name])

        async def handle(asked: Asked, stream: ByteStream) -> Reply:
            if asked.headers["host"].startswith("localhost"):
                assert not any(name in asked.headers for name in SENSITIVE)
                return honest(asked)
            return Reply(307, {"Location": next(locations)})

        server.handler = handle
        async with with_secrets(tmp_path, server) as repository:
            assert await read(repository) == BLOB


async def test_within_the_registry(tmp_path: Path) -> None:
    """A redirect within the registry's origin keeps what is the registry's; cookies are never kept."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        if asked.query:
            return reply
        return Reply(307, {"Location": f"{asked.path}?moved=1", "Set-Cookie": "a=b"})

    async with serve_registry(script) as server, with_secrets(tmp_path, server) as repository:
        assert await read(repository) == BLOB
    assert [asked.headers.get("x-canary") for asked in server.asked] == [CANARY, CANARY]
    assert "cookie" not in server.asked[1].headers


async def test_there_and_back(tmp_path: Path) -> None:
    """A redirect away from the registry and back to it does not get the credentials back."""
    async with serve_registry() as server:

        async def bounce(asked: Asked, stream: ByteStream) -> Reply:
            return Reply(302, {"Location": f"{server.origin}/v2/team/app/blobs/{LAYER.digest}?back=1"})

        async with serve_http(bounce) as other:

            async def handle(asked: Asked, stream: ByteStream) -> Reply:
                return honest(asked) if asked.query else Reply(302, {"Location": other.origin + "/x"})

            server.handler = handle
            async with with_secrets(tmp_path, server) as repository:
                assert await read(repository) == BLOB
    assert "x-canary" in server.asked[0].headers
    assert not any(name in server.asked[1].headers for name in SENSITIVE)
    assert leaks(other) == []


@pytest.mark.parametrize(("hops", "works"), [(10, True), (11, False), (1000, False)])
async def test_chains(hops: int, works: bool) -> None:
    """Ten redirects are followed, the eleventh is not, nor is a loop."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        hop = int(asked.query.get("hop", ["0"])[0])
        return Reply(302, {"Location": f"{asked.path}?hop={hop + 1}"}) if hop < hops else reply

    async with serve_registry(script) as server, open_at(server) as repository:
        if works:
            assert await read(repository) == BLOB
        else:
            with pytest.raises(RegistryError, match="redirect number 11"):
                await read(repository)
    assert len(server.asked) <= 11


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/x", "http://user:pw@127.0.0.1/x", "http://", "http:///x",
        "http://127.0.0.1:99999/", "http://127.0.0.1:0/", "http://[::1", "http://host\\@evil/", "http://" + "a" * 9000,
        "http://h\xf6st/", "http://127.0.0.1:1:2/", "", "http://%31/", "data:text/plain,x",
    ],
)  # fmt: skip
async def test_places_that_are_none(location: str) -> None:
    """A redirect to what is no plain http or https URL is an error."""
    async with serve_registry(redirecting(location or "//")) as server, open_at(server) as repository:
        with pytest.raises(RegistryError) as caught:
            await read(repository)
    assert len(server.asked) == 1
    assert "pw" not in str(caught.value)


async def test_redirect_without_a_place() -> None:
    """A redirect that does not say where to is a refusal."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return Reply(307)

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(RegistryError) as caught:
            await read(repository)
    assert caught.value.status == 307


async def test_signatures_stay_as_they_are() -> None:
    """A signed URL is asked for to the letter: escapes and order are part of the signature. Messages do not show it."""
    signed = "/a%2Fb/c%20d+e?X-Sig=a%2Fb+c%3D&Y=%C3%A4&Z"
    async with (
        serve_http(storage) as store,
        serve_registry(redirecting(store.origin + signed)) as server,
        open_at(server) as repository,
    ):
        assert await read(repository) == BLOB

        async def refuse(asked: Asked, stream: ByteStream) -> Reply:
            return Reply(403)

        store.handler = refuse
        async with open_at(server) as repository:
            with pytest.raises(RegistryError) as caught:
                await read(repository)
    assert store.asked[0].target == signed
    assert "a%2Fb+c" not in str(caught.value)


async def test_challenge_from_elsewhere(tmp_path: Path) -> None:
    """A place we were led to that wants to know who we are is not told, not even anonymously (CVE-2020-15157)."""
    realm: list[Asked] = []

    async def challenge(asked: Asked, stream: ByteStream) -> Reply:
        if asked.path == "/token":
            realm.append(asked)
            return Reply(body=b'{"token":"t"}')
        return Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{asked.headers["host"]}/token"'})

    async with serve_http(challenge) as store, serve_registry(redirecting(f"{store.origin}/x")) as server:
        credentials = {server.authority: ("me", CANARY), store.authority: ("me", CANARY)}
        async with with_secrets(tmp_path, server, credentials=credentials) as repository:
            with pytest.raises(RegistryAuthenticationError):
                await read(repository)
    assert realm == []
    assert leaks(store) == []
    assert len(store.asked) == 1


async def test_manifests_may_be_elsewhere(tmp_path: Path) -> None:
    """Manifests are redirected just as well, HEAD staying HEAD."""

    async def elsewhere(asked: Asked, stream: ByteStream) -> Reply:
        return honest(asked)

    async with serve_http(elsewhere) as store:

        async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
            return Reply(302, {"Location": store.origin + asked.path})

        async with serve_registry(script) as server, with_secrets(tmp_path, server) as repository:
            assert await repository.resolve() == ROOT
            assert await repository.fetch_manifest(ROOT)
    assert [asked.method for asked in store.asked] == ["HEAD", "GET"]
    assert leaks(store) == []


async def test_resumed_elsewhere() -> None:
    """A body from storage that breaks off is resumed by asking the registry again: its redirects grow old."""
    tries: list[Asked] = []

    async def flaky(asked: Asked, stream: ByteStream) -> Reply:
        tries.append(asked)
        return attrs.evolve(part_of(BLOB, asked), cut_after=1_000_000 if len(tries) == 1 else None)

    async with (
        serve_http(flaky) as store,
        serve_registry(redirecting(f"{store.origin}/x")) as server,
        open_at(server) as repository,
    ):
        assert await read(repository) == BLOB
    assert len(server.asked) == 2
    assert len(store.asked) == 2


# ── addresses nearer than the registry ──────────────────────────────────────────────────────────────────────────────

NEAR = [
    "http://127.0.0.1:{port}/x", "http://127.9.9.9:{port}/x", "http://localhost:{port}/x", "http://[::1]:{port}/x",
    "http://0.0.0.0:{port}/x", "http://[::ffff:127.0.0.1]:{port}/x", "http://2130706433:{port}/x", "http://0x7f.1:{port}/x",
    "http://0177.0.0.1:{port}/x", "http://127.1:{port}/x", "http://169.254.169.254/latest/meta-data/", "http://[fe80::1]/x",
    "http://localhost.:{port}/x",
]  # fmt: skip


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize("url", NEAR)
async def test_redirects_to_this_machine(url: str) -> None:
    """A registry far away cannot make us ask services of this machine or its link, in whatever notation."""
    async with (
        serve_http(storage) as store,
        serve_registry(redirecting(url.format(port=store.port))) as server,
        open_at(server) as repository,
    ):
        with pytest.raises(RegistryError):
            await read(repository)
    assert store.connections == 0


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize("url", [*NEAR, "http://10.0.0.1/x", "http://[fd00::1]/x", "http://100.100.100.200/x"])
async def test_foreign_layers_on_this_machine(url: str) -> None:
    """A manifest's URLs cannot either, nor ask services of our network; the registry is asked instead."""
    async with serve_http(storage) as store, serve_registry() as server, open_at(server) as repository:
        layer = attrs.evolve(LAYER, urls=(url.format(port=store.port),))
        assert await read(repository, layer) == BLOB
    assert store.connections == 0
    assert len(server.asked) == 1


@pytest.mark.usefixtures("public")
async def test_token_service_on_this_machine() -> None:
    """A registry far away cannot send us to a token service here."""

    async def challenge(asked: Asked, stream: ByteStream) -> Reply:
        return Reply(401, {"WWW-Authenticate": f'Bearer realm="{store.origin}/token"'})

    async with (
        serve_http(storage) as store,
        serve_http(challenge) as server,
        open_at(server, credentials={server.authority: ("me", CANARY)}) as repository,
    ):
        with pytest.raises(RegistryError):
            await repository.resolve()
    assert store.connections == 0


# ── URLs in descriptors ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_foreign_layer(tmp_path: Path) -> None:
    """A layer with URLs comes from there, showing nothing of the registry's, and the registry is left in peace."""
    async with (
        serve_http(storage) as store,
        serve_registry() as server,
        with_secrets(tmp_path, server) as repository,
    ):
        layer = attrs.evolve(LAYER, urls=(f"{store.origin}/layer?x=1",))
        assert await read(repository, layer, offset=7) == BLOB[7:]
    assert server.asked == []
    assert leaks(store) == []
    assert store.asked[0].target == "/layer?x=1"


async def test_foreign_layer_at_the_registry_itself(tmp_path: Path) -> None:
    """Even a URL of the registry's own origin is asked without its headers: a manifest wrote it, not we."""
    async with serve_http(storage) as server:
        layer = attrs.evolve(LAYER, urls=(f"{server.origin}/layer",))
        async with with_secrets(tmp_path, server) as repository:
            assert await read(repository, layer) == BLOB
    assert leaks(server) == []


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_foreign_layer_that_is_gone(status: int) -> None:
    """Where the URLs fail, one after the other, the registry is asked."""

    async def refuse(asked: Asked, stream: ByteStream) -> Reply:
        return Reply(status, {"WWW-Authenticate": 'Basic realm="x"'})

    async with (
        serve_http(refuse) as store,
        serve_registry() as server,
        open_at(server, credentials={store.authority: ("me", CANARY)}) as repository,
    ):
        layer = attrs.evolve(LAYER, urls=("file:///etc/passwd", f"{store.origin}/a", "nonsense", f"{store.origin}/b"))
        assert await read(repository, layer) == BLOB
    assert [asked.path for asked in store.asked] == ["/a", "/b"]
    assert leaks(store) == []


# ── the network ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_proxy_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry elsewhere is asked through the proxy that the environment names, with the proxy's own password."""

    async def proxy(asked: Asked, stream: ByteStream) -> Reply:
        return honest(asked)

    async with serve_http(proxy) as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:{CANARY}@{server.authority}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        registry = Registry(limits=QUICK, plain_http=True)
        async with registry.open_repository(Reference.parse("reg.invalid/team/app:1")) as repository:
            assert await repository.resolve() == ROOT
    (asked,) = server.asked
    assert asked.target.startswith("http://reg.invalid/v2/")
    assert "proxy-authorization" in asked.headers


async def test_netrc_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords in .netrc are not ours to use."""
    async with serve_registry() as server:
        (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login me password {CANARY}")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        async with open_at(server) as repository:
            await repository.resolve()
    assert leaks(server) == []


async def test_connections_are_used_again() -> None:
    """Requests after each other share a connection; all are closed at the end."""
    async with serve_registry() as server:
        async with open_at(server) as repository:
            for _ in range(5):
                assert await read(repository) == BLOB
            assert server.open == 1
        assert server.connections == 1
