"""TLS: certificates are checked, keys shown to whom they are for, and nothing falls back to plain HTTP."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Callable
from pathlib import Path

import anyio
import attrs
import pytest
import trustme
from anyio.abc import ByteStream

from containerd_py.errors import InvalidArgumentError, RegistryConnectError, RegistryError, RegistryTLSError
from containerd_py.remotes import responses
from containerd_py.remotes.registry import Registry
from tests.faults.registry_content import BLOB, LAYER, QUICK, ROOT, open_at, read, reference_at, serve_registry
from tests.harness.cancel import Mode, sweep
from tests.harness.scripted_http import Asked, Reply, serve_http

PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@attrs.frozen
class Files:
    """An authority of our own, its file, and a maker of server contexts."""

    authority: trustme.CA
    ca: Path
    context: Callable[..., ssl.SSLContext]
    client: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Make an authority and certificates for loopback."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")

    def context(*names: str, issuer: trustme.CA = authority, **options: object) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issuer.issue_cert(*(names or ("127.0.0.1", "127.0.0.2", "localhost")), **options).configure_cert(made)
        return made

    return Files(authority, folder / "ca.pem", context, folder / "client.pem")


async def test_private_authority(files: Files) -> None:
    """A registry with a private authority is trusted once that is given, on loopback without saying https."""
    async with serve_registry(tls=files.context()) as server, open_at(server, ca=files.ca) as repository:
        assert await repository.resolve() == ROOT
        assert await read(repository) == BLOB


async def test_a_large_body(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that we receive without the HTTP client comes decrypted as well, and whole."""
    monkeypatch.setattr(responses, "TAKE_OVER_FROM", 1)
    async with serve_registry(tls=files.context()) as server, open_at(server, ca=files.ca) as repository:
        async with repository.open_blob(LAYER) as blob:
            assert b"".join([bytes(view) async for view in blob.views()]) == BLOB
        assert await repository.resolve() == ROOT


async def test_skip_verify(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """Verification is skipped only when asked for, and warned of once."""
    context = files.context("other.example")
    async with serve_registry(tls=context) as server, open_at(server, skip_verify=True) as repository:
        assert await read(repository) == BLOB
        assert await read(repository) == BLOB
    assert caplog.text.count("not verified") == 1


@pytest.mark.parametrize("case", ["unknown authority", "other host", "expired", "self-signed"])
async def test_untrusted(files: Files, case: str) -> None:
    """An untrusted certificate is a typed error saying why, after one connection and without plain HTTP."""
    context = {
        "unknown authority": lambda: files.context(issuer=trustme.CA()),
        "other host": lambda: files.context("other.example"),
        "expired": lambda: files.context(not_before=PAST, not_after=PAST + dt.timedelta(days=1)),
        "self-signed": lambda: files.context(issuer=trustme.CA(organization_name="self")),
    }[case]()
    async with serve_registry(tls=context) as server, open_at(server, ca=files.ca) as repository:
        with pytest.raises(RegistryTLSError, match="certificate"):
            await repository.resolve()
    assert server.asked == []


async def test_old_protocol(files: Files) -> None:
    """TLS before 1.2 is not spoken."""
    context = files.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serve_registry(tls=context) as server, open_at(server, ca=files.ca) as repository:
        with pytest.raises(RegistryTLSError):
            await repository.resolve()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28"])
async def test_no_tls_there(files: Files, answer: bytes) -> None:
    """A port that speaks no TLS, or breaks off the handshake, is a TLS error: plain HTTP is not tried."""
    asked: list[bytes] = []

    async def serve(stream: ByteStream) -> None:
        async with stream:
            asked.append(await stream.receive())
            if answer:
                await stream.send(answer)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        server = attrs.make_class("Server", ["authority"])(f"127.0.0.1:{port}")
        async with open_at(server, ca=files.ca) as repository:
            with pytest.raises(RegistryTLSError):
                await repository.resolve()
        group.cancel_scope.cancel()
    assert all(not data.startswith((b"GET", b"HEAD")) for data in asked)


async def test_silent_handshake(files: Files) -> None:
    """A handshake that is never answered ends at the connect timeout."""

    async def serve(stream: ByteStream) -> None:
        async with stream:
            while True:
                await stream.receive()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        server = attrs.make_class("Server", ["authority"])(f"127.0.0.1:{port}")
        async with open_at(server, ca=files.ca, limits=attrs.evolve(QUICK, connect_timeout=0.5)) as repository:
            with anyio.fail_after(3), pytest.raises(RegistryConnectError):
                await repository.resolve()
        group.cancel_scope.cancel()


async def test_tls_where_plain_http_is_spoken(files: Files) -> None:
    """A loopback registry that speaks TLS though nothing said so is an error, not a hang."""
    async with serve_registry(tls=files.context()) as server, open_at(server) as repository:
        with anyio.fail_after(10), pytest.raises(RegistryError):
            await repository.resolve()


async def test_client_certificate(files: Files) -> None:
    """A registry that wants our certificate gets it; without one the error is a TLS error."""
    context = files.context()
    context.verify_mode = ssl.CERT_REQUIRED
    files.authority.configure_trust(context)
    async with serve_registry(tls=context) as server:
        async with open_at(server, ca=files.ca, client_cert=files.client) as repository:
            assert await repository.resolve() == ROOT
        async with open_at(server, ca=files.ca) as repository:
            with pytest.raises(RegistryTLSError):
                await repository.resolve()


async def test_client_certificate_is_for_the_registry_alone(files: Files) -> None:
    """Where the registry leads us elsewhere, our certificate stays behind; the private authority counts there too."""
    wanting = files.context()
    wanting.verify_mode = ssl.CERT_OPTIONAL
    files.authority.configure_trust(wanting)
    shown: list[object] = []

    async def storage(asked: Asked, stream: ByteStream) -> Reply:
        shown.append(stream.extra(anyio.streams.tls.TLSAttribute.peer_certificate))
        return Reply(body=BLOB)

    async with serve_http(storage, tls=wanting, host="127.0.0.2") as store:

        async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
            shown.append(stream.extra(anyio.streams.tls.TLSAttribute.peer_certificate))
            return Reply(307, {"Location": f"{store.origin}/x"})

        async with (
            serve_registry(script, tls=wanting) as server,
            open_at(server, ca=files.ca, client_cert=files.client) as repository,
        ):
            assert await read(repository) == BLOB
    at_registry, at_storage = shown
    assert at_registry
    assert not at_storage


async def test_unverified_registry_does_not_make_others_trusted(files: Files, tmp_path: Path) -> None:
    """A hosts.toml that skips verification for a host says nothing of the hosts it leads to."""
    async with serve_http(_storage, tls=files.context(issuer=trustme.CA()), host="127.0.0.2") as store:

        async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
            return Reply(307, {"Location": f"{store.origin}/x"}) if "/blobs/" in asked.path else reply

        async with serve_registry(script, tls=files.context("other.example")) as server:
            (tmp_path / server.authority).mkdir()
            (tmp_path / server.authority / "hosts.toml").write_text(f'server = "{server.origin}"\nskip_verify = true')
            async with open_at(server, hosts_dir=tmp_path) as repository:
                assert await repository.resolve() == ROOT
                with pytest.raises(RegistryTLSError):
                    await read(repository)
    assert store.asked == []


async def test_redirect_out_of_tls(files: Files) -> None:
    """A redirect from https to http is not followed."""
    async with serve_http(_storage) as store:

        async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
            return Reply(307, {"Location": f"{store.origin}/x"})

        async with serve_registry(script, tls=files.context()) as server, open_at(server, ca=files.ca) as repository:
            with pytest.raises(RegistryError, match="leaves TLS"):
                await read(repository)
    assert store.asked == []


async def test_realm_out_of_tls(files: Files) -> None:
    """A registry over https cannot send us to a token service over http, its own host included."""
    async with serve_http(_storage) as service:

        async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
            return Reply(401, {"WWW-Authenticate": f'Bearer realm="{service.origin}/token"'})

        async with serve_registry(script, tls=files.context()) as server:
            credentials = {server.authority: ("me", "pw")}
            async with open_at(server, ca=files.ca, credentials=credentials) as repository:
                with pytest.raises(RegistryError, match="plain HTTP"):
                    await repository.resolve()
    assert service.asked == []


@pytest.mark.parametrize("what", ["ca", "client_cert"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
async def test_unusable_files(tmp_path: Path, what: str, content: bytes | None) -> None:
    """A certificate file that is missing or is none is an error that names it."""
    if content is not None:
        (tmp_path / "x.pem").write_bytes(content)
    registry = Registry(**{what: tmp_path / "x.pem"}, limits=QUICK)
    async with serve_registry() as server, registry.open_repository(reference_at(server)) as repository:
        with pytest.raises(InvalidArgumentError, match=r"x\.pem"):
            await repository.resolve()


async def test_encrypted_key_does_not_ask(files: Files, tmp_path: Path) -> None:
    """A key that needs a passphrase is an error, never a question on the terminal."""
    from cryptography.hazmat.primitives import serialization

    pem = files.client.read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    (tmp_path / "key.pem").write_bytes(locked)
    registry = Registry(client_cert=(files.client, tmp_path / "key.pem"), limits=QUICK)
    async with serve_registry() as server, registry.open_repository(reference_at(server)) as repository:
        with anyio.fail_after(5), pytest.raises(InvalidArgumentError, match="encrypted"):
            await repository.resolve()


async def _storage(asked: Asked, stream: ByteStream) -> Reply:
    return Reply(body=BLOB)


@pytest.mark.parametrize("mode", list(Mode))
async def test_cancelled_anywhere(files: Files, mode: Mode) -> None:
    """Cancelled at any point, handshakes included, no connection is left open."""

    async def flow() -> None:
        async with open_at(server, ca=files.ca) as repository:
            assert await repository.resolve() == ROOT
            assert await read(repository) == BLOB

    async with serve_registry(tls=files.context()) as server:
        async for outcome in sweep(flow, modes=[mode]):
            outcome.check()
        with anyio.fail_after(5):
            while server.open:
                await anyio.sleep(0.01)
