"""Pulls from registries that misbehave: typed errors, nothing poisoned, and the next pull of the client succeeds."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator

import anyio
import pytest

from containerd_py import Client
from containerd_py.errors import (
    DataLossError,
    DigestMismatchError,
    InvalidArgumentError,
    NotFoundError,
    RegistryAuthenticationError,
    RegistryError,
    RegistryRateLimitedError,
    RegistryStalledError,
    RegistryUnavailableError,
    SizeMismatchError,
    UnpackError,
)
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.remotes.registry import Registry
from containerd_py.services.content_writer import CHUNK_SIZE
from containerd_py.types import Descriptor
from tests.faults.layers import tar_layer
from tests.harness.registry import BLOBS, MANIFESTS, FaultyRegistry, open_registry, open_token_server
from tests.harness.registry_actions import (
    Corrupt,
    Drop,
    Encode,
    IgnoreRange,
    Lengthen,
    Respond,
    Shorten,
    Stall,
    too_many_requests,
)
from tests.integration.pulled import left_in

MiB = 1024 * 1024
CHUNK = 256 * 1024  # what a read of the socket gives at most
QUICK = RegistryLimits(stall_timeout=0.5, first_backoff=0.01, max_backoff=0.05)
ON_2 = pytest.mark.lines("2.1")
IMPATIENT = Registry(limits=QUICK)


@pytest.fixture
async def registry() -> AsyncIterator[FaultyRegistry]:
    async with open_registry() as registry:
        yield registry


def layer_of(registry: FaultyRegistry, manifest: Descriptor, repository: str = "library/test") -> Descriptor:
    """Return the first layer of an image of the registry."""
    document = json.loads(registry.content.repository(repository).manifests[manifest.digest].data)
    plain = document["layers"][0]
    return Descriptor(media_type=plain["mediaType"], digest=plain["digest"], size=plain["size"])


def ref_of(registry: FaultyRegistry) -> str:
    return registry.reference("library/test:latest")


async def check_afterlife(client: Client, registry: FaultyRegistry, **options: object) -> None:
    """Pull once more, undisturbed, on the same client; then clear everything away."""
    registry.assert_all_fired()
    registry.clear()
    image = await client.pull(ref_of(registry), **options)
    left = await left_in(client)
    assert (left.leases, left.ingests, left.unfinished) == (0, 0, 0)
    assert await image.is_unpacked()
    await image.delete(synchronous=True)


async def ingest_refs(client: Client) -> list[str]:
    return [status.ref for status in await client.content.list_statuses()]


# ── dropped, short, long ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_dropped_connection_resumes_at_the_exact_byte(client: Client, registry: FaultyRegistry):
    """What was received before a connection broke is not fetched again, but for what the socket still held."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 4 * MiB)]))
    registry.fault(Drop(MiB), path=layer.digest, nth=(1, 2))
    image = await client.pull(ref_of(registry), via="client")
    first, *resumed = [each.headers.get("Range") for each in registry.blob_requests(layer.digest)]
    assert not first
    offsets = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in resumed]
    assert MiB - CHUNK <= offsets[0] <= MiB
    assert offsets[0] + MiB - CHUNK <= offsets[1] <= offsets[0] + MiB
    assert layer.size <= registry.served(layer.digest) <= layer.size + 2 * CHUNK
    await image.delete(synchronous=True)
    await check_afterlife(client, registry, via="client")


async def test_an_interrupted_pull_is_resumed_by_the_next(client: Client, registry: FaultyRegistry):
    """A pull that was cancelled in the middle of a layer has left what it had, and the next one goes on from there."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 8 * MiB)]))
    stall = registry.fault(Stall(4 * MiB), path=layer.digest, nth=1)
    async with client.open_pull(ref_of(registry), via="client") as pull:
        async for progress in pull:
            if progress.name.startswith("layer-") and progress.progress >= 4 * MiB:
                break
    stall.assert_fired(1)
    (status,) = await client.content.list_statuses()
    assert 4 * MiB - 2 * CHUNK_SIZE <= status.offset <= 4 * MiB  # of two buffers one is filled, one on its way
    image = await client.pull(ref_of(registry), via="client")
    assert registry.blob_requests(layer.digest)[1].headers.get("Range") == f"bytes={status.offset}-"
    await image.delete(synchronous=True)
    await check_afterlife(client, registry, via="client")


async def test_a_server_without_ranges_is_skipped_forward(client: Client, registry: FaultyRegistry):
    """Where ranges are ignored, what is there already is read past, and the content is right."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 2 * MiB)]))
    registry.fault(IgnoreRange(), path=BLOBS)
    registry.fault(Drop(MiB), path=layer.digest, nth=1)
    image = await client.pull(ref_of(registry), via="client")
    assert await image.is_unpacked()
    await image.delete(synchronous=True)
    await check_afterlife(client, registry, via="client")


async def test_a_body_that_stays_short_is_a_typed_error(client: Client, registry: FaultyRegistry):
    """A registry that never sends the rest is given up, by type, and what came is kept for the next pull."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 2 * MiB)]))
    registry.fault(Drop(MiB), path=layer.digest, nth=1)
    registry.fault(Drop(0), path=layer.digest, match=lambda request: "Range" in request.headers)
    with pytest.raises(RegistryUnavailableError):
        await client.pull(ref_of(registry), via="client", registry=IMPATIENT)
    served = registry.served(layer.digest)
    await check_afterlife(client, registry, via="client")
    assert registry.served(layer.digest) - served <= layer.size - MiB + CHUNK


@pytest.mark.parametrize("fault", [Shorten(1000), Lengthen(MiB), Lengthen(64 * MiB, declared=False)])
async def test_a_wrong_size_is_noticed_and_thrown_away(client: Client, registry: FaultyRegistry, fault):
    """A body of another size than described ends in a typed error, and never in the content store."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 2 * MiB)]))
    rule = registry.fault(fault, path=layer.digest)
    if fault == Lengthen(64 * MiB, declared=False):  # a complete answer with garbage behind it is a complete answer
        assert await client.pull(ref_of(registry), via="client", registry=IMPATIENT)
        await client.images.delete(ref_of(registry), synchronous=True)
    else:
        with pytest.raises(SizeMismatchError):
            await client.pull(ref_of(registry), via="client", registry=IMPATIENT)
        assert await ingest_refs(client) == []
    rule.assert_fired()
    assert all(each.sent < layer.size + 32 * MiB for each in registry.blob_requests(layer.digest))
    await check_afterlife(client, registry, via="client")


async def test_content_encoding_is_refused_before_the_body(client: Client, registry: FaultyRegistry):
    """A compressed body nobody asked for is not unpacked into the content store: a typed error, at once."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 2 * MiB)]))
    registry.fault(Encode("gzip", bomb=256 * MiB), path=layer.digest)
    with pytest.raises(RegistryError, match="gzip"):
        await client.pull(ref_of(registry), via="client")
    assert all(status.offset == 0 for status in await client.content.list_statuses())
    await check_afterlife(client, registry, via="client")


# ── wrong bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_wrong_byte_once_poisons_nothing(client: Client, registry: FaultyRegistry):
    """After a wrong byte the next attempt is right: the bad content is not committed again and again."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 2 * MiB)]))
    rule = registry.fault(Corrupt(MiB), path=layer.digest, nth=1)
    with pytest.raises(DigestMismatchError) as caught:
        await client.pull(ref_of(registry), via="client")
    assert caught.value.expected == layer.digest
    assert caught.value.actual.startswith("sha256:")
    assert await ingest_refs(client) == []
    rule.assert_fired(1)
    await check_afterlife(client, registry, via="client")


@ON_2
async def test_one_wrong_byte_once_costs_a_transfer_nothing(client: Client, registry: FaultyRegistry):
    """The daemon's bad ingest is aborted and the transfer done again, all by itself."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 2 * MiB)]))
    rule = registry.fault(Corrupt(MiB), path=layer.digest, nth=1)
    image = await client.pull(ref_of(registry), via="transfer")
    assert await image.is_unpacked()
    rule.assert_fired(1)
    await image.delete(synchronous=True)
    await check_afterlife(client, registry, via="transfer")


@ON_2
@pytest.mark.parametrize("via", ["client", "transfer"])
async def test_bytes_that_are_always_wrong_are_a_digest_mismatch(client: Client, registry: FaultyRegistry, via):
    """A registry that always sends something else is told by type, both ways, and leaves no ingest."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 2 * MiB)]))
    registry.fault(Corrupt(MiB), path=layer.digest)
    with pytest.raises(DigestMismatchError) as caught:
        await client.pull(ref_of(registry), via=via)
    assert caught.value.expected == layer.digest
    assert await ingest_refs(client) == []
    await check_afterlife(client, registry, via=via)


@pytest.mark.parametrize("size", [MiB, None])
async def test_a_poisoned_ingest_is_thrown_away_and_fetched_again(client: Client, registry: FaultyRegistry, size):
    """Bad content that somebody else left as an ingest, part or whole, costs one more request and nothing else."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 2 * MiB)]))
    async with client.content.open_writer(f"layer-{layer.digest}", total=layer.size, expected=layer.digest) as writer:
        await writer.write(b"x" * (size or layer.size))
        await writer.status()
    image = await client.pull(ref_of(registry), via="client")
    assert await image.is_unpacked()
    assert [each.headers.get("Range") for each in registry.blob_requests(layer.digest)] == (
        [f"bytes={size}-", ""] if size else [""]
    )
    await image.delete(synchronous=True)
    await check_afterlife(client, registry, via="client")


@ON_2
async def test_a_poisoned_ingest_stops_no_transfer(client: Client, registry: FaultyRegistry):
    """The daemon itself would commit a bad full-length ingest for ever: it is aborted, and the pull succeeds."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 2 * MiB)]))
    async with client.content.open_writer(f"layer-{layer.digest}", total=layer.size, expected=layer.digest) as writer:
        await writer.write(b"x" * layer.size)
        await writer.status()
    await check_afterlife(client, registry, via="transfer")


async def test_an_ingest_longer_than_the_content_is_begun_again(client: Client, registry: FaultyRegistry):
    """An ingest that holds more than the content has is worth nothing."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 1000)]))
    async with client.content.open_writer(f"layer-{layer.digest}") as writer:
        await writer.write(b"x" * (layer.size + 1))
        await writer.status()
    await check_afterlife(client, registry, via="client")


async def test_the_next_mirror_is_asked_after_wrong_bytes(client: Client, registry: FaultyRegistry, tmp_path):
    """Wrong content from one host is fetched from the next one, in the same pull."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 2 * MiB)]))
    async with open_registry(content=registry.content) as mirror:
        folder = tmp_path / "registry.example"
        folder.mkdir()
        (folder / "hosts.toml").write_text(f'server = "{registry.url}"\n[host."{mirror.url}"]\n')
        rule = mirror.fault(Corrupt(MiB), path=layer.digest)
        hosts = Registry(hosts_dir=tmp_path)
        image = await client.pull("registry.example/library/test", via="client", registry=hosts)
        rule.assert_fired(1)
        assert len(registry.blob_requests(layer.digest)) == 1
        await image.delete(synchronous=True)


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("via", ["client", pytest.param("auto", id="auto")])
async def test_tokens_are_fetched_where_they_are_asked_for(client: Client, registry: FaultyRegistry, via):
    """A registry that wants a bearer token gets one from its realm, for us or for the daemon."""
    registry.add_image([tar_layer("file")])
    async with open_token_server(users={"user": "password"}) as tokens:
        registry.require_tokens(tokens)
        tokens.field = "access_token"  # the only one that containerd takes in answer to a form
        tokens.refuse_anonymous = True
        with pytest.raises(RegistryAuthenticationError):
            await client.pull(ref_of(registry), via=via)
        known = Registry(credentials={registry.address: ("user", "password")})
        image = await client.pull(ref_of(registry), via=via, registry=known)
        assert {issued.user for issued in tokens.issued} == {"user"}
        await image.delete(synchronous=True)


async def test_a_token_that_expires_in_the_middle_is_renewed(client: Client, registry: FaultyRegistry):
    """Tokens that a registry no longer takes are fetched anew, once, and the pull goes on."""
    registry.add_image([tar_layer("a", MiB), tar_layer("b", MiB, seed=1)])
    async with open_token_server() as tokens:
        registry.require_tokens(tokens)
        registry.fault(Drop(1000), path=BLOBS, nth=1)
        async with client.open_pull(ref_of(registry), via="client") as pull:
            async for progress in pull:
                if progress.event == "downloading" and len(tokens.issued) == 1:
                    tokens.revoke_all()
        await pull.image.delete(synchronous=True)
        await check_afterlife(client, registry, via="client")


async def test_a_rate_limit_is_obeyed(client: Client, registry: FaultyRegistry):
    """429 with Retry-After is waited for as long as it says."""
    layer = layer_of(registry, registry.add_image([tar_layer("file")]))
    registry.fault(too_many_requests(1), path=layer.digest, nth=1)
    started = time.monotonic()
    image = await client.pull(ref_of(registry), via="client", registry=IMPATIENT)
    assert time.monotonic() - started >= 1
    await image.delete(synchronous=True)
    await check_afterlife(client, registry, via="client")


@ON_2
@pytest.mark.parametrize("via", ["client", "transfer"])
async def test_a_rate_limit_without_end_is_typed(client: Client, registry: FaultyRegistry, via):
    """429 again and again ends in an error that says so, both ways."""
    registry.add_image([tar_layer("file")])
    registry.fault(too_many_requests(0), path=MANIFESTS)
    with pytest.raises(RegistryRateLimitedError):
        await client.pull(ref_of(registry), via=via, registry=IMPATIENT if via == "client" else None)
    await check_afterlife(client, registry, via=via)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_broken_server_is_tried_again(client: Client, registry: FaultyRegistry, status: int):
    """Errors of the server pass after a few attempts, for manifests and blobs alike."""
    registry.add_image([tar_layer("file")])
    registry.fault(Respond(status), path=MANIFESTS, nth=1)
    registry.fault(Respond(status), path=BLOBS, nth=(1, 2))
    image = await client.pull(ref_of(registry), via="client", registry=IMPATIENT)
    await image.delete(synchronous=True)
    await check_afterlife(client, registry, via="client")


@ON_2
@pytest.mark.parametrize("via", ["client", "transfer"])
async def test_a_server_that_stays_broken_is_typed(client: Client, registry: FaultyRegistry, via):
    """A server that fails for good is unavailable, by type, both ways."""
    registry.add_image([tar_layer("file")])
    registry.fault(Respond(503), path=MANIFESTS)
    with pytest.raises(RegistryUnavailableError):
        await client.pull(ref_of(registry), via=via, registry=IMPATIENT if via == "client" else None)
    await check_afterlife(client, registry, via=via)


@pytest.mark.parametrize("after", [None, MiB])
async def test_a_stalled_registry_is_given_up(client: Client, registry: FaultyRegistry, after):
    """A registry that stops sending ends in a typed error after the stall timeout."""
    layer = layer_of(registry, registry.add_image([tar_layer("file", 2 * MiB)]))
    registry.fault(Stall(after), path=layer.digest)
    with anyio.fail_after(60), pytest.raises(RegistryStalledError):
        await client.pull(ref_of(registry), via="client", registry=IMPATIENT)
    await check_afterlife(client, registry, via="client")


# ── documents and layers that lie ───────────────────────────────────────────────────────────────────────────────────


async def test_content_without_size_is_refused(client: Client, registry: FaultyRegistry):
    """A layer said to have no bytes is refused: nothing could be checked."""
    registry.add_manifest(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": "sha256:" + "0" * 64,
                "size": 0,
            },
            "layers": [],
        },
        repository="library/test",
        tag="latest",
    )
    with pytest.raises(InvalidArgumentError, match="0 bytes"):
        await client.pull(ref_of(registry), via="client")


async def test_an_index_bomb_is_defused(client: Client, registry: FaultyRegistry):
    """Indexes that name each other a million times over are each visited once."""
    child = registry.add_image([tar_layer("file")], tag=None)
    names = [child]
    for level in range(4):
        names = [registry.add_index(names * 60, tag="latest" if level == 3 else None)]
    with anyio.fail_after(60):
        image = await client.pull(ref_of(registry), all_platforms=True, via="client")
    assert len(registry.matching(MANIFESTS, method="GET")) <= 6
    await image.delete(synchronous=True)


async def test_deep_indexes_are_refused(client: Client, registry: FaultyRegistry):
    """Indexes inside indexes end at a depth no honest image has."""
    inner = registry.add_image([tar_layer("file")], tag=None)
    for level in range(40):
        inner = registry.add_index([inner], tag="latest" if level == 39 else None)
    with pytest.raises(InvalidArgumentError, match="deep"):
        await client.pull(ref_of(registry), all_platforms=True, via="client")


@pytest.mark.parametrize("via", ["client", "auto"])
async def test_artifacts_are_fetched_but_not_unpacked(client: Client, registry: FaultyRegistry, via):
    """What has no image configuration can be pulled, though not to be run; the error says how."""
    blob = registry.add_blob(b"anything", repository="library/test", media_type="text/plain")
    empty = registry.add_blob(b"{}", repository="library/test", media_type="application/vnd.oci.empty.v1+json")
    registry.add_manifest(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "text/plain",
            "config": {"mediaType": empty.media_type, "digest": empty.digest, "size": empty.size},
            "layers": [{"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}],
        },
        repository="library/test",
        tag="latest",
    )
    with pytest.raises(UnpackError, match="unpack=False"):
        await client.pull(ref_of(registry), via=via)
    image = await client.pull(ref_of(registry), unpack=False, via=via)
    assert await client.content.read(blob.digest) == b"anything"
    await image.delete(synchronous=True)


@pytest.mark.parametrize("via", ["client", "auto"])
async def test_a_layer_that_is_not_what_the_configuration_says(client: Client, registry: FaultyRegistry, via):
    """A layer with another diff ID is an UnpackError and leaves no snapshot."""
    wrong = {"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]}}
    registry.add_image([tar_layer("file")], config=wrong)
    with pytest.raises(UnpackError):
        await client.pull(ref_of(registry), via=via)
    left = await left_in(client)
    assert (left.snapshots, left.unfinished, left.leases, left.images) == ({}, 0, 0, {})


@pytest.mark.parametrize("layer", [b"this is no archive at all" * 100, tar_layer("file", 100_000)[:50_000]])
async def test_a_layer_that_cannot_be_unpacked(client: Client, registry: FaultyRegistry, layer):
    """A layer that is no (whole) archive is an UnpackError, and its unfinished snapshot is removed."""
    registry.add_image([tar_layer("good"), layer], compress=True)
    with pytest.raises(UnpackError):
        await client.pull(ref_of(registry), via="client")
    left = await left_in(client)
    assert (left.unfinished, left.leases, left.images) == (0, 0, {})


async def test_a_manifest_posing_as_another_is_a_digest_mismatch(client: Client, registry: FaultyRegistry):
    """A document that is not what its digest says never reaches the content store."""
    manifest = registry.add_image([tar_layer("file")], tag=None)
    index = registry.add_index([manifest])
    registry.fault(Corrupt(5), path=f"{MANIFESTS}{manifest.digest}")
    with pytest.raises(DataLossError):
        await client.pull(ref_of(registry), via="client")
    assert {info.digest for info in await client.content.list()} <= {index.digest}
    await check_afterlife(client, registry, via="client")


async def test_a_collection_in_the_middle_takes_nothing(client: Client, registry: FaultyRegistry):
    """Garbage collections all through a pull remove nothing it needs."""
    registry.add_image([tar_layer(f"file{number}", MiB, seed=number) for number in range(6)])
    done = anyio.Event()

    async def collect() -> None:
        number = 0
        while not done.is_set():
            number += 1
            await client.leases.create(f"throwaway-{number}")
            await client.leases.delete(f"throwaway-{number}", synchronous=True)

    async with anyio.create_task_group() as group:
        group.start_soon(collect)
        for _ in range(3):
            image = await client.pull(ref_of(registry), via="client")
            assert await image.is_unpacked()
            await image.delete(synchronous=True)
        done.set()


async def test_images_that_share_layers_are_unpacked_once(client: Client, registry: FaultyRegistry):
    """Pulls of several images with common layers, at the same time, make each snapshot once and all succeed."""
    common = [tar_layer(f"common{number}", 200_000, seed=number) for number in range(6)]
    refs = []
    for number in range(6):
        registry.add_image([*common, tar_layer(f"own{number}", seed=100 + number)], tag=f"v{number}")
        refs.append(registry.reference(f"library/test:v{number}"))
    async with anyio.create_task_group() as group:
        for ref in refs:
            group.start_soon(lambda ref=ref: client.pull(ref, via="client"))
    left = await left_in(client)
    assert (len(left.images), len(left.snapshots), left.unfinished, left.leases) == (6, 12, 0, 0)
    assert len(registry.blob_requests()) <= 6 + 6 + 6 * 2
    for ref in refs:
        await client.images.delete(ref, synchronous=True)


async def test_content_deleted_behind_our_back_is_typed_and_heals(client: Client, registry: FaultyRegistry):
    """Content that somebody deletes between fetching and unpacking is NotFound, and the next pull heals it."""
    manifest = registry.add_image([tar_layer("a"), tar_layer("b", MiB, seed=1)])
    layer = layer_of(registry, manifest)
    image = await client.pull(ref_of(registry), unpack=False, via="client")
    await client.content.delete(layer.digest)
    with pytest.raises(NotFoundError):
        await image.unpack()
    assert (await left_in(client)).unfinished == 0
    ensured = await client.ensure_image(ref_of(registry), via="client")
    assert await ensured.is_unpacked()
    await ensured.delete(synchronous=True)
