"""The image handle: what an image is, asked of the daemon and checked."""

from __future__ import annotations

import attrs
import pytest

from containerd_py import Client, Image, deleting
from containerd_py._flows.load_image import load_image
from containerd_py.errors import DataLossError, DigestMismatchError, InvalidArgumentError, NotFoundError
from tests.conftest import SeededImages


async def test_an_image_tells_what_it_is(client: Client, layered: Image, seeded_images: SeededImages):
    """Record, manifest, configuration and identities are those of the image that was made."""
    layout = seeded_images.layouts[seeded_images.layered]
    record = await layered.record()
    assert (record.name, record.target.digest) == (seeded_images.layered, layout.target.digest)
    manifest = await layered.manifest()
    assert [manifest.config.digest, *(layer.digest for layer in manifest.layers)] == [
        blob.digest for blob in layout.blobs_of(layout.target)
    ]
    config = await layered.config()
    assert (config.user, config.cwd, config.stop_signal) == ("app", "/data", "SIGINT")
    assert config.labels["org.example.kind"] == "layered"
    assert await layered.diff_ids() == list(config.diff_ids)
    assert (await client.snapshotter("overlayfs").stat(await layered.chain_id())).is_committed
    assert repr(layered).startswith(f"<Image {seeded_images.layered} sha256:")


async def test_an_index_is_seen_on_one_platform(client: Client, seeded_images: SeededImages):
    """The manifest of an index is that of the platform asked for; all platforms are listed, here or not."""
    async with deleting(await client.pull(seeded_images.index, via="client")) as image:
        assert [(each.os, each.architecture) for each in await image.platforms()] == [
            ("linux", "amd64"),
            ("linux", "arm64"),
        ]
        assert (await image.config()).platform.architecture == image.platform.architecture
        other = await load_image(client.services, seeded_images.index, platform="linux/arm64")
        with pytest.raises(NotFoundError):
            await other.manifest()
        with pytest.raises(NotFoundError, match=r"linux/s390x.*linux/amd64, linux/arm64"):
            await (await load_image(client.services, seeded_images.index, platform="linux/s390x")).manifest()


async def test_sizes(client: Client, seeded_images: SeededImages):
    """size is what is described for the platform; usage tells what of it is here, missing, and unpacked."""
    layout = seeded_images.layouts[seeded_images.index]
    async with deleting(await client.pull(seeded_images.index, via="client")) as image:
        ours = next(each for each in layout.manifests if each.platform.architecture == image.platform.architecture)
        described = layout.target.size + ours.size + sum(blob.size for blob in layout.blobs_of(ours))
        assert await image.size() == described
        usage = await image.usage()
        assert (usage.content, usage.missing) == (described, 0)
        assert usage.snapshots > 1_000_000
        assert (await image.usage("native")).snapshots == 0
        (layer,) = (await image.manifest()).layers
        await client.content.delete(layer.digest)
        usage = await image.usage()
        assert (usage.content, usage.missing) == (described - layer.size, layer.size)


async def test_history_names_the_layers(layered: Image):
    """Each step that made a layer comes with it, oldest first."""
    manifest, diff_ids, history = await layered.manifest(), await layered.diff_ids(), await layered.history()
    assert [step.history.created_by for step in history] == [f"layer {number}" for number in range(5)]
    assert [step.layer.digest for step in history] == [layer.digest for layer in manifest.layers]
    assert [step.diff_id for step in history] == diff_ids


async def test_a_tag_is_another_name_of_the_same(client: Client, layered: Image):
    """A tag has target and labels of the image, survives its deletion, and replaces what had the name."""
    await client.images.update(attrs.evolve(await layered.record(), labels={"mine": "1"}), fields=["labels.mine"])
    tagged = await layered.tag("example.org/other")
    async with deleting(tagged):
        assert tagged.name == "example.org/other:latest"
        record = await tagged.record()
        assert (record.target, record.labels) == (layered.target, {"mine": "1"})
        assert await tagged.is_unpacked()
        again = await layered.tag("example.org/other:latest")
        assert again.target == layered.target
    with pytest.raises(InvalidArgumentError):
        await layered.tag("Not A Reference")


async def test_deletion_takes_everything_along(client: Client, seeded_images: SeededImages):
    """A synchronous deletion leaves neither content nor snapshots; asking on is NotFound."""
    image = await client.pull(seeded_images.layered, via="client")
    await image.delete(synchronous=True)
    assert await client.content.list() == []
    assert await client.snapshotter("overlayfs").list() == []
    for question in (image.record, image.manifest, image.config, image.delete, image.unpack):
        with pytest.raises(NotFoundError):
            await question()
    assert await image.platforms() == []


async def test_damaged_content_is_noticed(client: Client, daemon, layered: Image):
    """A document that was changed on the daemon's disk is refused, not believed."""
    digest = (await layered.manifest()).config.digest
    path = daemon.root / "io.containerd.content.v1.content" / "blobs" / "sha256" / digest.removeprefix("sha256:")
    whole = path.read_bytes()
    path.chmod(0o600)
    try:
        path.write_bytes(whole.replace(b"SIGINT", b"SIGHUP"))
        with pytest.raises(DigestMismatchError, match="content store"):
            await layered.config()
        path.write_bytes(whole[:-1])
        with pytest.raises(DataLossError):
            await layered.config()
    finally:
        path.write_bytes(whole)


async def test_images_are_found_by_either_name(client: Client, layered: Image):
    """An image is loaded by its exact name, or by one that is normalised to it; other names are NotFound."""
    assert (await client.load_image(layered.name)).target == layered.target
    assert (await client.load_image(layered.name.removesuffix(":latest"))).name == layered.name
    with pytest.raises(NotFoundError):
        await client.load_image("no-such-image")
    assert [image.name for image in await client.list_images()] == [layered.name]
    assert await client.list_images(['name=="nothing"']) == []


async def test_an_image_named_as_no_reference_is_found(client: Client, layered: Image):
    """Other programs name images as they like: such a name is taken as it is."""
    record = await layered.record()
    odd = await client.images.create(attrs.evolve(record, name="import-2024-01-01@sha256"))
    async with deleting(await client.load_image(odd.name)) as image:
        assert (await image.config()).user == "app"
    with pytest.raises(NotFoundError):
        await client.load_image("Odd Name")


async def test_unpacking_twice_changes_nothing(client: Client, layered: Image):
    """Unpacking what is unpacked already leaves the same snapshots."""
    before = await client.snapshotter("overlayfs").list()
    await layered.unpack()
    assert await client.snapshotter("overlayfs").list() == before
    await layered.unpack("native")
    assert await layered.is_unpacked("native")
