"""ensure_image: an image counts as there only if it is whole and unpacked; what is missing is mended."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from containerd_py import Client
from containerd_py.errors import InvalidArgumentError, NotFoundError, RegistryNotFoundError
from containerd_py.labels import GC_ROOT
from containerd_py.types import Platform
from tests.faults.layers import tar_layer
from tests.harness.registry import BLOBS, FaultyRegistry, open_registry
from tests.integration.pulled import left_in


@pytest.fixture
async def registry() -> AsyncIterator[FaultyRegistry]:
    async with open_registry() as registry:
        registry.add_image([tar_layer("a"), tar_layer("b", 5000, seed=1)])
        yield registry


@pytest.fixture
async def ref(registry: FaultyRegistry, client: Client) -> AsyncIterator[str]:
    ref = registry.reference("library/test:latest")
    yield ref
    await client.images.delete(ref, synchronous=True)


async def ensure(client: Client, ref: str, **options: object):
    return await client.ensure_image(ref, via="client", **options)


async def collect(client: Client) -> None:
    """Have the daemon collect its garbage now."""
    lease = await client.leases.create("collects")
    await client.leases.delete(lease.id, synchronous=True)


async def test_a_missing_image_is_pulled_once(client: Client, registry: FaultyRegistry, ref: str):
    """missing pulls what is not there, and asks nobody once it is."""
    image = await ensure(client, ref)
    assert await image.is_unpacked()
    asked = len(registry.requests)
    again = await ensure(client, ref)
    assert again.target == image.target
    assert len(registry.requests) == asked


async def test_always_asks_the_registry(client: Client, registry: FaultyRegistry, ref: str):
    """always takes what the tag stands for now."""
    old = await ensure(client, ref, policy="always")
    registry.add_image([tar_layer("c", seed=2)])
    assert (await ensure(client, ref)).target == old.target
    new = await ensure(client, ref, policy="always")
    assert new.target != old.target
    assert await new.is_unpacked()


async def test_never_pulls_nothing(client: Client, registry: FaultyRegistry, ref: str):
    """never is NotFound for what is not here, without a question to the registry, and takes what is."""
    with pytest.raises(NotFoundError, match="never") as caught:
        await ensure(client, ref, policy="never")
    assert not isinstance(caught.value, RegistryNotFoundError)
    assert registry.requests == []
    image = await ensure(client, ref, unpack=False)
    ensured = await ensure(client, ref, policy="never")
    assert ensured.target == image.target
    assert await ensured.is_unpacked()


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
async def test_what_is_missing_is_fetched_again(client: Client, registry: FaultyRegistry, ref: str, what: str):
    """An image of which content has gone is mended, and only that content is fetched."""
    image = await client.pull(ref, unpack=False, via="client")
    manifest = await image.manifest()
    digest = {"manifest": image.target, "config": manifest.config, "layer": manifest.layers[1]}[what].digest
    children = [manifest.config, *manifest.layers] if what == "manifest" else []
    for child in children:  # which a collection would take along with the manifest
        await client.content.update(child.digest, {GC_ROOT: "now"})
    await client.content.delete(digest)
    await collect(client)
    with pytest.raises(NotFoundError):
        await ensure(client, ref, policy="never")
    fetched = len(registry.blob_requests())
    mended = await ensure(client, ref)
    assert await mended.is_unpacked()
    assert len(registry.blob_requests()) - fetched == (0 if what == "manifest" else 1)
    for child in children:
        await client.content.update(child.digest, {GC_ROOT: ""})
    assert {digest} <= set((await left_in(client)).content)


async def test_layers_that_are_unpacked_are_not_missed(client: Client, registry: FaultyRegistry, ref: str):
    """An unpacked image needs its layers' blobs no more; one that is to be whole as content does."""
    image = await ensure(client, ref)
    (layer, _) = (await image.manifest()).layers
    await client.content.delete(layer.digest)
    asked = len(registry.requests)
    assert await (await ensure(client, ref)).is_unpacked()
    assert len(registry.requests) == asked
    await ensure(client, ref, unpack=False)
    assert layer.digest in (await left_in(client)).content


async def test_another_snapshotter_is_unpacked_into(client: Client, registry: FaultyRegistry, ref: str):
    """Being unpacked for one snapshotter is not being unpacked for another; no registry is needed for that."""
    await ensure(client, ref)
    asked = len(registry.requests)
    image = await ensure(client, ref, snapshotter="native", policy="never")
    assert await image.is_unpacked("native")
    assert len(registry.requests) == asked


async def test_snapshots_that_nothing_keeps_are_kept_again(client: Client, ref: str):
    """Snapshots that the next collection would take are referenced again."""
    image = await ensure(client, ref)
    config = (await image.manifest()).config.digest
    label = "containerd.io/gc.ref.snapshot.overlayfs"
    await client.content.update(config, {label: ""})
    await ensure(client, ref, policy="never")
    assert (await client.content.info(config)).labels[label] == await image.chain_id()
    await collect(client)
    assert await image.is_unpacked()


async def test_a_snapshot_that_has_gone_is_made_again(client: Client, registry: FaultyRegistry, ref: str):
    """A removed snapshot is unpacked again from what is here."""
    image = await ensure(client, ref)
    await client.snapshotter("overlayfs").remove(await image.chain_id())
    asked = len(registry.requests)
    assert await (await ensure(client, ref)).is_unpacked()
    assert len(registry.requests) == asked


async def test_another_platform_is_pulled(client: Client, registry: FaultyRegistry):
    """An index of which one platform is here is not whole for another, nor for all."""
    here = registry.add_image([tar_layer("a")], tag=None)
    there = registry.add_image(
        [tar_layer("z", seed=9)], tag=None, platform=Platform(os="linux", architecture="arm64", variant="v8")
    )
    registry.add_index([here, there], tag="both")
    ref = registry.reference("library/test:both")
    await ensure(client, ref)
    with pytest.raises(NotFoundError):
        await ensure(client, ref, platform="linux/arm64", policy="never")
    with pytest.raises(NotFoundError):
        await ensure(client, ref, all_platforms=True, policy="never")
    assert (await ensure(client, ref, platform="linux/arm64")).platform.architecture == "arm64"
    await ensure(client, ref, all_platforms=True, policy="never")
    fetched = len(registry.matching(BLOBS))
    await ensure(client, ref, all_platforms=True)
    assert len(registry.matching(BLOBS)) == fetched
    await client.images.delete(ref, synchronous=True)


async def test_an_unknown_policy_is_refused(client: Client):
    """Nonsense is refused, naming what there is."""
    with pytest.raises(InvalidArgumentError, match="missing, always, never"):
        await client.ensure_image("busybox", policy="sometimes")
