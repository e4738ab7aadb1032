"""What a tag stands for, from registries that answer HEAD badly, lie about digests, or are one of several."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import attrs
import pytest
from anyio.abc import ByteStream

from containerd_py.errors import (
    ContainerdError,
    DigestMismatchError,
    ManifestNotSupportedError,
    ManifestTooLargeError,
    RegistryAuthenticationError,
    RegistryConnectError,
    RegistryError,
    RegistryNotFoundError,
    RegistryPermissionError,
    RegistryUnavailableError,
    SizeMismatchError,
)
from containerd_py.references import Reference
from containerd_py.remotes.limits import MAX_MANIFEST_SIZE
from containerd_py.remotes.registry import Registry
from containerd_py.remotes.repository import Repository
from tests.faults.registry_content import (
    BLOB,
    LAYER,
    MANIFEST,
    MANIFEST_TYPE,
    QUICK,
    ROOT,
    SIZE,
    Once,
    Script,
    digest_of,
    open_at,
    read,
    serve_registry,
)
from tests.harness.cancel import Mode, sweep
from tests.harness.scripted_http import Asked, Reply, ScriptedServer

OTHER = "sha256:" + "0" * 64


def always(change: Callable[[Reply], Reply], method: str | None = None) -> Script:
    """Spoil each honest answer, or those to one method."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return change(reply) if method in {None, asked.method} else reply

    return script


def without(name: str) -> Callable[[Reply], Reply]:
    return lambda reply: attrs.evolve(reply, headers={key: reply.headers[key] for key in reply.headers if key != name})


def with_header(name: str, value: str) -> Callable[[Reply], Reply]:
    return lambda reply: attrs.evolve(reply, headers={**reply.headers, name: value})


async def test_tag() -> None:
    """A tag is resolved with one HEAD, accepting the four manifest types."""
    async with serve_registry() as server, open_at(server) as repository:
        assert await repository.resolve() == ROOT
        assert await repository.fetch_manifest(ROOT) == MANIFEST
    head, get = server.asked
    assert (head.method, head.path) == ("HEAD", "/v2/team/app/manifests/1")
    assert head.headers["accept"].count("application/vnd.") == 4
    assert (get.method, get.path) == ("GET", f"/v2/team/app/manifests/{ROOT.digest}")


async def test_digest() -> None:
    """A reference with a digest is resolved by the digest, tag or no tag."""
    for suffix in (f"@{ROOT.digest}", f":wrong@{ROOT.digest}"):
        async with serve_registry() as server, open_at(server, suffix) as repository:
            assert await repository.resolve() == ROOT
        assert server.asked[0].path == f"/v2/team/app/manifests/{ROOT.digest}"


@pytest.mark.parametrize(
    "change", [without("Docker-Content-Digest"), lambda reply: attrs.evolve(reply, status=405), without("Content-Type")]
)
async def test_head_that_does_not_tell(change: Callable[[Reply], Reply]) -> None:
    """Where HEAD lacks digest or type, or is not allowed, the manifest is fetched and hashed, once."""
    async with serve_registry(always(change, "HEAD")) as server, open_at(server) as repository:
        assert await repository.resolve() == ROOT
        assert await repository.fetch_manifest(ROOT) == MANIFEST
    assert [asked.method for asked in server.asked] == ["HEAD", "GET"]


async def test_no_digest_at_all() -> None:
    """A registry that never names digests is believed what its content hashes to."""
    async with serve_registry(always(without("Docker-Content-Digest"))) as server, open_at(server) as repository:
        assert await repository.resolve() == ROOT


async def test_digest_header_that_lies_about_the_content() -> None:
    """Content fetched because HEAD was no help must be what its digest header says."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return Reply(405) if asked.method == "HEAD" else with_header("Docker-Content-Digest", OTHER)(reply)

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(DigestMismatchError) as caught:
            await repository.resolve()
    assert (caught.value.expected, caught.value.actual, caught.value.source) == (OTHER, ROOT.digest, server.authority)


async def test_digest_header_that_contradicts_the_reference() -> None:
    """A registry that answers a digest with another digest is not believed."""
    script = always(with_header("Docker-Content-Digest", OTHER))
    async with serve_registry(script) as server, open_at(server, f"@{ROOT.digest}") as repository:
        with pytest.raises(DigestMismatchError):
            await repository.resolve()


@pytest.mark.parametrize("digest", ["sha256:abc", "md5:" + "a" * 32, "../../x", "sha256:" + "A" * 64])
async def test_malformed_digest_header(digest: str) -> None:
    """A digest header that is no digest is an error, not a part of later URLs."""
    async with (
        serve_registry(always(with_header("Docker-Content-Digest", digest))) as server,
        open_at(server) as repository,
    ):
        with pytest.raises(RegistryError):
            await repository.resolve()


async def test_head_refused_without_words() -> None:
    """A refused HEAD has no body, so a GET finds out why."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return Reply(403, {}, b'{"errors":[{"code":"DENIED","message":"key vault says no"}]}')

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(RegistryPermissionError, match="key vault says no") as caught:
            await repository.resolve()
    assert caught.value.code == "DENIED"


async def test_not_found() -> None:
    """A tag the registry does not have is NotFound, after one question."""
    async with serve_registry() as server, open_at(server, ":missing") as repository:
        with pytest.raises(RegistryNotFoundError):
            await repository.resolve()
    assert len(server.asked) == 1


async def test_digest_among_the_blobs() -> None:
    """A digest that is no manifest is looked for among the blobs, as registries of old need it."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        if asked.method == "HEAD" and "/blobs/" in asked.path:
            return Reply(headers={"Content-Type": "application/octet-stream"}, length=77)
        return Reply(404)

    async with serve_registry(script) as server, open_at(server, f"@{OTHER}") as repository:
        resolved = await repository.resolve()
    assert (resolved.digest, resolved.size, resolved.media_type) == (OTHER, 77, "application/octet-stream")
    assert [asked.path.split("/")[4] for asked in server.asked] == ["manifests", "blobs"]


async def test_blobs_are_not_asked_after_a_failure() -> None:
    """Only where manifests are not found are blobs asked: a failure says nothing of them."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return Reply(500) if "/manifests/" in asked.path else Reply(length=5)

    async with serve_registry(script) as server, open_at(server, f"@{OTHER}") as repository:
        with pytest.raises(RegistryUnavailableError):
            await repository.resolve()


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "text/plain; charset=utf-8",
    ],
)
async def test_schema_1(media_type: str) -> None:
    """Docker's schema 1 is refused in so many words."""
    async with serve_registry(always(with_header("Content-Type", media_type))) as server, open_at(server) as repository:
        with pytest.raises(ManifestNotSupportedError, match="schema 1"):
            await repository.resolve()


@pytest.mark.parametrize("media_type", ["", "json", "a/b/c", "a b/c", "x" * 9000 + "/y"])
async def test_no_media_type(media_type: str) -> None:
    """What is no media type does not become one of a descriptor."""
    async with serve_registry(always(with_header("Content-Type", media_type))) as server, open_at(server) as repository:
        with pytest.raises(RegistryError):
            await repository.resolve()


async def test_media_type_has_no_parameters() -> None:
    """Parameters of the type are left out."""
    script = always(with_header("Content-Type", f"{MANIFEST_TYPE}; charset=utf-8"))
    async with serve_registry(script) as server, open_at(server) as repository:
        assert (await repository.resolve()).media_type == MANIFEST_TYPE


# ── sizes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("size", "accepted"), [(MAX_MANIFEST_SIZE - 1, True), (MAX_MANIFEST_SIZE, True), (MAX_MANIFEST_SIZE + 1, False)]
)
@pytest.mark.parametrize("by_head", [True, False])
async def test_largest_manifest(size: int, accepted: bool, by_head: bool) -> None:
    """Manifests up to containerd's own limit are accepted, one byte more is not, however the size is told."""
    content = b" " * (size - 2) + b"{}"

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        if asked.method == "HEAD" and not by_head:
            return Reply(405)
        return Reply(headers={"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": digest_of(content)}, body=content)

    async with serve_registry(script) as server, open_at(server) as repository:
        if accepted:
            descriptor = await repository.resolve()
            assert descriptor.size == size
            assert await repository.fetch_manifest(descriptor) == content
        else:
            with pytest.raises(ManifestTooLargeError) as caught:
                await repository.resolve()
            assert (caught.value.size, caught.value.limit) == (size, MAX_MANIFEST_SIZE)


async def test_descriptor_too_large() -> None:
    """A manifest that its index says is too large is not asked for."""
    async with serve_registry() as server, open_at(server) as repository:
        with pytest.raises(ManifestTooLargeError):
            await repository.fetch_manifest(attrs.evolve(ROOT, size=MAX_MANIFEST_SIZE + 1))
    assert server.asked == []


async def test_endless_manifest() -> None:
    """A manifest of unannounced, endless length is dropped at the limit."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply | None:
        if asked.method == "HEAD":
            return Reply(405)
        await stream.send(f"HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST_TYPE}\r\n\r\n".encode())
        while True:
            await stream.send(b" " * 65536)

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(ManifestTooLargeError):
            await repository.resolve()


async def test_empty_manifest() -> None:
    """An empty manifest is none."""
    async with (
        serve_registry(always(lambda reply: attrs.evolve(reply, body=b""))) as server,
        open_at(server) as repository,
    ):
        with pytest.raises(RegistryError):
            await repository.resolve()


async def test_manifest_with_another_size() -> None:
    """A manifest of another length than its descriptor says is refused."""
    async with serve_registry() as server, open_at(server) as repository:
        with pytest.raises(SizeMismatchError):
            await repository.fetch_manifest(attrs.evolve(ROOT, size=ROOT.size + 1))


async def test_encoded_manifest() -> None:
    """A compressed manifest is refused, on either way."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return Reply(405) if asked.method == "HEAD" else with_header("Content-Encoding", "gzip")(reply)

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(RegistryError, match="encoded"):
            await repository.resolve()
        with pytest.raises(RegistryError, match="encoded"):
            await repository.fetch_manifest(ROOT)


# ── broken and wrong ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_manifest_cut_off() -> None:
    """A manifest whose answer breaks off is fetched all the same, resolving and fetching."""
    first = Once()

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        if asked.method == "HEAD":
            return Reply(405)
        return attrs.evolve(reply, cut_after=20) if first() else reply

    async with serve_registry(script) as server, open_at(server) as repository:
        assert await repository.resolve() == ROOT
    first.count = 0
    async with serve_registry(script) as server, open_at(server) as repository:
        assert await repository.fetch_manifest(ROOT) == MANIFEST


async def test_wrong_manifest() -> None:
    """Other content than the digest says is an error with both digests and the host; the next attempt may succeed."""
    first = Once()

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return attrs.evolve(reply, body=MANIFEST[:-1] + b" ") if first() else reply

    async with serve_registry(script) as server, open_at(server) as repository:
        with pytest.raises(DigestMismatchError) as caught:
            await repository.fetch_manifest(ROOT)
        assert caught.value.expected == ROOT.digest
        assert caught.value.source == server.authority
        assert await repository.fetch_manifest(ROOT) == MANIFEST


async def test_tag_that_moves() -> None:
    """The content is that of the digest the tag stood for when it was asked, or an error: never a mixture."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        moved = asked.path.endswith("/1") and len(server.asked) > 1
        return (
            Reply(headers={"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": OTHER}, length=5) if moved else reply
        )

    async with serve_registry(script) as server, open_at(server) as repository:
        descriptor = await repository.resolve()
        assert await repository.fetch_manifest(descriptor) == MANIFEST
        assert (await repository.resolve()).digest == OTHER


async def test_closed_repository() -> None:
    """A repository is not to be used after its block."""
    async with serve_registry() as server:
        async with open_at(server) as repository:
            await repository.resolve()
        with pytest.raises(ContainerdError):
            await repository.resolve()


# ── mirrors ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def mirrored(
    folder: Path, *scripts: Script | None, options: str = ""
) -> AsyncIterator[tuple[Repository, list[ScriptedServer]]]:
    """Open a repository of reg.example whose hosts, all ours, are tried in the scripts' order; the last is its own."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serve_registry(script)) for script in scripts]
        (folder / "reg.example").mkdir()
        lines = [f'server = "{servers[-1].origin}"']
        lines += [f'[host."{server.origin}"]\n{options}' for server in servers[:-1]]
        (folder / "reg.example" / "hosts.toml").write_text("\n".join(lines))
        registry = Registry(hosts_dir=folder, limits=QUICK)
        reference = Reference.parse("reg.example/team/app:1")
        yield await stack.enter_async_context(registry.open_repository(reference)), servers


async def gone(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
    return Reply(404)


async def broken(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
    return Reply(502)


async def silent(asked: Asked, stream: ByteStream, reply: Reply) -> None:
    await stream.receive()


async def dropping(asked: Asked, stream: ByteStream, reply: Reply) -> None:
    return None


async def refusing(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
    return Reply(401, {"WWW-Authenticate": 'Basic realm="x"'})


async def wrong(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
    return attrs.evolve(reply, body=bytes(len(reply.body))) if asked.method == "GET" else reply


async def test_mirror_first(tmp_path: Path) -> None:
    """The mirror is asked first, is told which registry it stands in for, and the registry is left in peace."""
    async with mirrored(tmp_path, None, None) as (repository, (mirror, own)):
        assert await repository.resolve() == ROOT
        assert await read(repository) == BLOB
    assert {asked.query["ns"][0] for asked in mirror.asked} == {"reg.example"}
    assert own.asked == []


@pytest.mark.parametrize("script", [gone, broken, silent, dropping, refusing])
async def test_mirror_that_cannot(
    tmp_path: Path, script: Callable[[Asked, ByteStream, Reply], Awaitable[Reply | None]]
) -> None:
    """A mirror that lacks, fails, stalls, drops or refuses is left for the registry, without being pestered."""
    async with mirrored(tmp_path, script, None) as (repository, (mirror, own)):
        assert await repository.resolve() == ROOT
        assert await repository.fetch_manifest(ROOT) == MANIFEST
        assert await read(repository, offset=5) == BLOB[5:]
    assert len(mirror.asked) <= 6
    assert len(own.asked) == 3


async def test_mirror_that_is_dead(tmp_path: Path) -> None:
    """A mirror nobody answers at is left for the registry at once."""
    async with mirrored(tmp_path, None, None) as (repository, (mirror, own)):
        async with serve_registry() as other:
            pass
        text = (tmp_path / "reg.example" / "hosts.toml").read_text().replace(str(mirror.port), str(other.port))
        (tmp_path / "reg.example" / "hosts.toml").write_text(text)
        registry = Registry(hosts_dir=tmp_path, limits=QUICK)
        async with registry.open_repository(repository.reference) as again:
            assert await again.resolve() == ROOT
    assert len(own.asked) == 1


async def test_mirror_that_breaks_off(tmp_path: Path) -> None:
    """What a mirror had sent before it broke down is kept, and the registry sends the rest."""

    async def once_a_megabyte(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        return attrs.evolve(reply, cut_after=1_000_000 if asked.range_start is None else 0)

    async with (
        mirrored(tmp_path, once_a_megabyte, None) as (repository, (mirror, own)),
        repository.open_blob(LAYER) as blob,
    ):
        assert b"".join([chunk async for chunk in blob]) == BLOB
        assert blob.host == own.authority
    assert [asked.range_start for asked in own.asked] == [1_000_000]
    assert len(mirror.asked) >= 2


async def test_mirror_with_wrong_content(tmp_path: Path) -> None:
    """A manifest that a mirror has wrong is taken from the registry; for blobs the reader says whom to leave out."""
    async with mirrored(tmp_path, wrong, None) as (repository, (mirror, own)):
        assert await repository.fetch_manifest(ROOT) == MANIFEST
        assert await read(repository) != BLOB
        assert await read(repository, exclude={mirror.authority}) == BLOB
        with pytest.raises(RegistryNotFoundError):
            await read(repository, exclude={mirror.authority, own.authority})


async def test_all_have_wrong_content(tmp_path: Path) -> None:
    """Where every host has it wrong the mismatch is the error, not what came after it."""
    async with mirrored(tmp_path, wrong, gone) as (repository, _):
        with pytest.raises(DigestMismatchError):
            await repository.fetch_manifest(ROOT)


async def test_errors_name_all_hosts(tmp_path: Path) -> None:
    """When every host fails, the most telling error is raised and names them all."""
    async with mirrored(tmp_path, dropping, gone, refusing) as (repository, servers):
        with pytest.raises(RegistryAuthenticationError) as caught:
            await repository.resolve()
        assert all(server.authority in str(caught.value) for server in servers)
        with pytest.raises(RegistryAuthenticationError) as caught:
            await read(repository)
        assert all(server.authority in str(caught.value) for server in servers)


async def test_capabilities(tmp_path: Path) -> None:
    """A mirror that may only pull is not asked what a tag stands for, but for the content."""
    async with mirrored(tmp_path, None, None, options='capabilities = ["pull"]') as (repository, (mirror, own)):
        assert await repository.resolve() == ROOT
        assert await read(repository) == BLOB
    assert [asked.method for asked in own.asked] == ["HEAD"]
    assert [asked.method for asked in mirror.asked] == ["GET"]


async def test_nobody_may_be_asked(tmp_path: Path) -> None:
    """Where no host may resolve, the error says so."""
    folder = tmp_path / "reg.example"
    folder.mkdir()
    (folder / "hosts.toml").write_text('server = "https://reg.example"\ncapabilities = ["push"]')
    async with Registry(hosts_dir=tmp_path).open_repository(Reference.parse("reg.example/a")) as repository:
        with pytest.raises(RegistryNotFoundError, match="resolve"):
            await repository.resolve()


async def test_refused_connection() -> None:
    """A registry nobody answers at is a typed error at once: nothing suggests that the next try differs."""
    async with serve_registry() as server:
        pass
    async with open_at(server) as repository:
        with pytest.raises(RegistryConnectError):
            await repository.resolve()


async def test_unknown_name() -> None:
    """A registry whose name does not resolve is a typed error."""
    async with Registry(limits=QUICK).open_repository(Reference.parse("host.invalid/a")) as repository:
        with pytest.raises(RegistryConnectError, match="does not resolve"):
            await repository.resolve()


# ── cancellation ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", list(Mode))
async def test_cancelled_anywhere(mode: Mode) -> None:
    """Cancelled at any point, everything is closed, and the next one finds nothing in its way."""

    async def script(asked: Asked, stream: ByteStream, reply: Reply) -> Reply:
        if asked.path == "/token":
            return Reply(body=b'{"token":"t"}')
        if asked.headers.get("authorization") != "Bearer t":
            return Reply(401, {"WWW-Authenticate": f'Bearer realm="{server.origin}/token"'})
        return (
            attrs.evolve(reply, cut_after=SIZE // 2) if asked.range_start is None and "/blobs/" in asked.path else reply
        )

    async def flow() -> None:
        async with open_at(server) as repository:
            assert await repository.fetch_manifest(await repository.resolve()) == MANIFEST
            assert await read(repository) == BLOB

    async with serve_registry(script) as server:
        fired = 0
        async for outcome in sweep(flow, modes=[mode]):
            outcome.check()
            fired += 1
        assert fired > 10
        with anyio.fail_after(5):
            while server.open:
                await anyio.sleep(0.01)
