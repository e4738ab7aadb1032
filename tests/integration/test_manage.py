"""Images looked at, named, labelled, converted, checked and pruned, and snapshots looked after, on all lines."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import attrs
import pytest

from containerd_py import (
    Client,
    DataLossError,
    Descriptor,
    DigestMismatchError,
    Image,
    ImageRecord,
    InvalidArgumentError,
    NotFoundError,
    Platform,
    RunLayer,
    connect,
    deleting,
)
from containerd_py.daemon import open_daemon
from containerd_py.oci.digests import digest_of
from containerd_py.oci.image_documents import descriptor_document, dump_document
from containerd_py.oci.media_types import (
    MEDIA_TYPE_DOCKER_LAYER,
    MEDIA_TYPE_DOCKER_LAYER_GZIP,
    MEDIA_TYPE_DOCKER_MANIFEST,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_LAYER_ZSTD,
    MEDIA_TYPE_MANIFEST,
)
from containerd_py.services.snapshots import SnapshotKind
from tests.integration.pulled import left_in

SLEEP = ["/bin/sleep", "1000"]
COPY = "registry.example/copy:1"


@pytest.fixture
async def multi(client: Client, seeded_images) -> AsyncIterator[Image]:
    """An image of two platforms, all of it here."""
    async with deleting(await client.pull(seeded_images.index, all_platforms=True, via="client")) as image:
        yield image


@pytest.fixture
async def idle_client(daemon_bin: Path, seeded_images) -> AsyncIterator[Client]:
    """Lend a client of a daemon that collects garbage only when it is told to, with an image of five layers."""
    scheduler = {"io.containerd.gc.v1.scheduler": {"pause_threshold": 0.00001, "mutation_threshold": 0}}
    async with (
        open_daemon(containerd=daemon_bin / "containerd", plugins=scheduler) as daemon,
        connect(daemon.address, namespace="idle") as client,
    ):
        await client.pull(seeded_images.layered, via="client")
        yield client


async def layer_types(image: Image) -> set[str]:
    return {layer.media_type for layer in (await image.manifest()).layers}


# ── names, labels, what there is to tell ────────────────────────────────────────────────────────────────────────────


async def test_names_come_and_go(client: Client, busybox: Image):
    """A second name stands for the same image; either goes alone, and the last one takes the content along."""
    await busybox.tag("other:2")
    await client.untag("other:2")
    with pytest.raises(NotFoundError):
        await client.untag("other:2")
    again = await busybox.tag(COPY)
    await client.untag(busybox.name, synchronous=True)
    assert (await client.run(again, ["/bin/echo", "kept"])).stdout == b"kept\n"
    await again.tag(busybox.name)
    await again.delete()


async def test_labels_of_an_image_are_set_and_removed(client: Client, busybox: Image):
    """Labels are set one by one, an empty value removes one, the others stay; the target is untouched."""
    assert (await busybox.set_labels({"a": "1", "b": "2"})).items() >= {"a": "1", "b": "2"}.items()
    changed = await busybox.set_labels({"a": "", "c": "3"})
    assert {key: changed.get(key) for key in "abc"} == {"a": None, "b": "2", "c": "3"}
    assert await busybox.labels() == changed
    assert (await busybox.record()).target == busybox.target
    with pytest.raises(InvalidArgumentError, match="4096"):
        await busybox.set_labels({"big": "x" * 4096})


async def test_an_image_is_described(client: Client, layered: Image):
    """One value has all names, digests, sizes, configuration, layers and history of an image."""
    second = await layered.tag(COPY)
    await second.set_labels({"mine": "yes"})
    told = await second.inspect()
    assert set(told.names) == {layered.name, COPY}
    assert (told.target, told.platform) == (layered.target, layered.platform)
    assert told.manifest.digest == layered.target.digest
    assert told.size == await layered.size()
    assert told.config == await layered.config()
    assert told.layers == (await layered.manifest()).layers
    assert list(told.history) == await layered.history()
    assert told.created == told.config.created is not None
    assert told.labels["mine"] == "yes"
    await second.delete()
    with pytest.raises(NotFoundError):
        await second.inspect()


async def test_an_image_is_checked(client: Client, layered: Image, daemon, namespace: str):
    """A check names what is missing and what is damaged, and who has the image unpacked."""
    whole = await layered.check(verify=True)
    assert whole.is_whole
    assert whole.unpacked_in == ("overlayfs",)
    assert len(whole.present) == 2 + 5
    manifest = await layered.manifest()
    victim = manifest.layers[2]
    blob = Path(daemon.root) / "io.containerd.content.v1.content" / "blobs" / "sha256" / victim.digest[7:]
    data = blob.read_bytes()
    try:
        blob.chmod(0o644)
        blob.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        assert (await layered.check()).is_whole
        damaged = await layered.check(verify=True)
        assert (damaged.damaged, damaged.is_whole) == ((victim,), False)
    finally:
        blob.write_bytes(data)
    await client.content.delete(victim.digest)
    broken = await layered.check()
    assert (broken.missing, broken.is_whole) == ((victim,), False)
    await client.content.delete(layered.target.digest)
    lost = await layered.check()
    assert [blob.digest for blob in lost.missing] == [layered.target.digest]
    assert lost.unpacked_in == ()


async def test_one_platform_of_several_is_checked(client: Client, seeded_images):
    """An image pulled for one platform is whole for it; for the other one its manifest is missing."""
    async with deleting(await client.pull(seeded_images.index, via="client")) as image:
        assert (await image.check()).is_whole
        foreign = Platform(os="linux", architecture="arm64", variant="v8")
        other = Image(client.services, name=image.name, target=image.target, platform=foreign)
        check = await other.check()
        assert not check.is_whole
        assert [blob.platform for blob in check.missing] == [foreign]


# ── conversion ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "compression, expected",
    [("zstd", MEDIA_TYPE_LAYER_ZSTD), ("none", MEDIA_TYPE_LAYER), ("gzip", MEDIA_TYPE_LAYER_GZIP)],
)
async def test_layers_are_compressed_anew(client: Client, layered: Image, compression, expected, ctr):
    """The converted image runs, for ctr too, unpacks to the same snapshots, and lives on without the original."""
    kept = await layered.tag("kept:1")
    async with deleting(await client.convert_image(layered.name, COPY, compression=compression)) as image:
        assert await layer_types(image) == {expected}
        assert await image.diff_ids() == await layered.diff_ids()
        assert (image.target == layered.target) == (compression == "gzip")
        for layer, diff_id in zip((await image.manifest()).layers, await image.diff_ids(), strict=True):
            labels = (await client.content.info(layer.digest)).labels
            assert labels.get("containerd.io/uncompressed") == diff_id
        await client.untag(layered.name)
        await kept.delete(synchronous=True)
        assert (await image.check(verify=True)).is_whole
        assert (await client.run(image, ["x"])).stdout == b"x\n"
        assert await ctr("run", "--rm", COPY, "by-ctr") == "script\n"
        assert "complete" in await ctr("images", "check", f"name=={COPY}")
        await client.convert_image(COPY, layered.name)
    back = await client.convert_image(layered.name, layered.name, compression="gzip")
    assert await layer_types(back) == {MEDIA_TYPE_LAYER_GZIP}
    assert (await client.run(back, ["again"])).stdout == b"again\n"


async def test_media_types_go_there_and_back(client: Client, seeded_images, ctr):
    """Docker's types become OCI's and back, with the same layers and, at the end, the same names for all things."""
    async with deleting(await client.pull(seeded_images.docker, via="client")) as docker:
        oci = await client.convert_image(docker.name, COPY, media_types="oci")
        assert oci.target.media_type == MEDIA_TYPE_MANIFEST
        assert await layer_types(oci) == {MEDIA_TYPE_LAYER_GZIP}
        assert [layer.digest for layer in (await oci.manifest()).layers] == [
            layer.digest for layer in (await docker.manifest()).layers
        ]
        assert (await client.run(oci, ["/bin/echo", "oci"])).stdout == b"oci\n"
        back = await client.convert_image(COPY, "back:1", media_types="docker")
        assert back.target.media_type == MEDIA_TYPE_DOCKER_MANIFEST
        assert (await back.manifest()) == (await docker.manifest())
        plain = await client.convert_image("back:1", "plain:1", compression="none")
        assert await layer_types(plain) == {MEDIA_TYPE_DOCKER_LAYER}
        assert await ctr("run", "--rm", plain.name, "by-ctr", "/bin/echo", "plain") == "plain\n"
        packed = await client.convert_image("plain:1", "packed:1", media_types="oci", compression="zstd")
        assert await layer_types(packed) == {MEDIA_TYPE_LAYER_ZSTD}
        assert (await client.run(packed, ["/bin/echo", "zstd"])).stdout == b"zstd\n"
        with pytest.raises(InvalidArgumentError, match="Docker"):
            await client.convert_image(packed.name, "x", media_types="docker")
        for image in (oci, back, plain, packed):
            await image.delete()


async def test_gzip_under_a_plain_name_is_recognised(client: Client, seeded_images):
    """Docker's plain layer type was used for gzip as well: becoming OCI's, a layer is named after its bytes."""
    async with deleting(await client.pull(seeded_images.docker, via="client")) as docker:
        manifest = await client.read_blob(docker.target)
        lying = manifest.replace(MEDIA_TYPE_DOCKER_LAYER_GZIP.encode(), MEDIA_TYPE_DOCKER_LAYER.encode())
        async with client.hold_lease() as leased:
            async with leased.content.open_writer("lying") as writer:
                await writer.write(lying)
                digest = await writer.commit(labels=(await client.content.info(docker.target.digest)).labels)
            target = attrs.evolve(docker.target, digest=digest, size=len(lying))
            await leased.images.create(attrs.evolve(await docker.record(), name="lying:1", target=target))
        converted = await client.convert_image("lying:1", COPY, media_types="oci")
        assert await layer_types(converted) == {MEDIA_TYPE_LAYER_GZIP}
        assert (await client.run(converted, ["/bin/echo", "ok"])).stdout == b"ok\n"
        await converted.delete()
        await client.untag("lying:1")


async def test_platforms_are_left_out(client: Client, multi: Image, ctr):
    """A copy of some platforms names those only and keeps their content only; one that is not there is told."""
    ours = multi.platform
    foreign = Platform(os="linux", architecture="arm64", variant="v8")
    one = await client.convert_image(multi.name, COPY, platforms="linux/arm64")
    assert one.target.media_type == MEDIA_TYPE_INDEX
    assert await one.platforms() == [foreign]
    assert one.platform == foreign
    both = await client.convert_image(multi.name, "both:1", platforms=[ours, "linux/arm64"])
    assert both.target == multi.target
    assert both.platform == ours
    with pytest.raises(NotFoundError, match=r"s390x.*amd64|s390x.*arm64"):
        await client.convert_image(multi.name, "x", platforms="linux/s390x")
    packed = await client.convert_image(multi.name, "packed:1", compression="zstd")
    assert await packed.platforms() == await multi.platforms()
    assert (await client.run(packed, ["/bin/echo", "multi"])).stdout == b"multi\n"
    await both.delete()
    await packed.delete(synchronous=True)
    assert (await one.check()).is_whole
    await one.delete()


async def test_what_is_here_of_an_image_is_converted(client: Client, seeded_images):
    """Of an image pulled for one platform the copy has that one; asking for the other one says what is missing."""
    async with deleting(await client.pull(seeded_images.index, via="client")) as image:
        async with deleting(await client.convert_image(image.name, COPY, compression="none")) as copy:
            assert await copy.platforms() == [image.platform]
            assert (await client.run(copy, ["/bin/echo", "one"])).stdout == b"one\n"
        with pytest.raises(NotFoundError):
            await client.convert_image(image.name, COPY, platforms="linux/arm64")


@pytest.mark.lines("2.1")
async def test_an_index_bomb_is_converted_once(client: Client, layered: Image):
    """Indexes that name each other a million times over are each converted once."""
    children = [descriptor_document(layered.target)]
    async with client.hold_lease() as leased:
        for _ in range(4):
            data = dump_document({"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": children * 60})
            target = Descriptor(media_type=MEDIA_TYPE_INDEX, digest=digest_of(data), size=len(data))
            children = [descriptor_document(target)]
            async with leased.content.open_writer(target.digest) as writer:
                await writer.write(data)
                await writer.commit(size=target.size, expected=target.digest)
        await client.images.create(ImageRecord(name="bomb:1", target=target))
        with anyio.fail_after(60):
            copy = await leased.convert_image("bomb:1", COPY, compression="none")
        types = await layer_types(copy)
        await copy.delete()
        await client.images.delete("bomb:1")
    assert types <= {MEDIA_TYPE_LAYER, MEDIA_TYPE_DOCKER_LAYER}


async def test_a_damaged_layer_is_not_converted(client: Client, layered: Image, daemon):
    """A layer that does not unpack to what the configuration says fails the conversion, and nothing stays."""
    layer = (await layered.manifest()).layers[1]
    other = (await layered.manifest()).layers[2]
    blobs = Path(daemon.root) / "io.containerd.content.v1.content" / "blobs" / "sha256"
    path = blobs / layer.digest[7:]
    data = path.read_bytes()
    try:
        path.chmod(0o644)
        path.write_bytes((blobs / other.digest[7:]).read_bytes())
        with pytest.raises(DigestMismatchError):
            await client.convert_image(layered.name, COPY, compression="zstd")
    finally:
        path.write_bytes(data)
    with pytest.raises(NotFoundError):
        await client.load_image(COPY)
    left = await left_in(client)
    assert (left.leases, left.ingests) == (0, 0)


# ── pruning ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_dangling_images_are_pruned(client: Client, busybox: Image, layered: Image):
    """Without more, only images that no tag stands for go; digests beside a tag of the same image stay."""
    beside = f"{busybox.name.rpartition(':')[0]}@{busybox.target.digest}"
    await client.images.create(attrs.evolve(await busybox.record(), name=beside))
    dangling = f"{layered.name.rpartition(':')[0]}@{layered.target.digest}"
    await client.images.create(attrs.evolve(await layered.record(), name=dangling))
    await layered.delete()
    planned = await client.prune_images(dry_run=True)
    assert [record.name for record in planned.images] == [dangling]
    assert planned.is_dry_run
    assert planned.size > 0
    assert await client.load_image(dangling)
    before = sum(info.size for info in await client.content.list())
    done = await client.prune_images()
    assert (done.images, done.size, done.is_dry_run) == (planned.images, planned.size, False)
    assert before - sum(info.size for info in await client.content.list()) == done.size
    assert {record.name for record in await client.images.list()} == {busybox.name, beside}
    await client.untag(beside)
    await client.images.create(attrs.evolve(await busybox.record(), name=layered.name))


async def test_unused_images_are_pruned(client: Client, busybox: Image, layered: Image):
    """With `unused` all go that no container uses, by whichever name; filters narrow them down."""
    alias = await busybox.tag("alias:1")
    async with deleting(await client.create_container(image=busybox, args=SLEEP)):
        other = await client.build_image(COPY, base=busybox, layers=[RunLayer(["/bin/touch", "/x"])], labels={"t": "1"})
        await layered.set_labels({"t": "2"})
        filtered = await client.prune_images(unused=True, filters=["labels.t==1"])
        assert [record.name for record in filtered.images] == [COPY]
        rest = await client.prune_images(unused=True)
        assert [record.name for record in rest.images] == [layered.name]
        assert {record.name for record in await client.images.list()} == {busybox.name, alias.name}
        with pytest.raises(NotFoundError):
            await other.manifest()
    await client.images.create(attrs.evolve(await busybox.record(), name=layered.name))
    await alias.delete()


async def test_an_image_under_a_container_is_used_whatever_its_name(client: Client, busybox: Image, layered: Image):
    """An image that a container stands on is not pruned, though the name the container knows means another by now."""
    moving = await busybox.tag("moving:1")
    async with deleting(await client.create_container(image=moving, args=SLEEP)):
        await layered.tag("moving:1")
        assert (await client.prune_images(unused=True)).images == ()
    await client.untag("moving:1")


# ── documents from memory ───────────────────────────────────────────────────────────────────────────────────────────


async def test_documents_are_read_once(client: Client, busybox: Image, daemon):
    """A manifest comes from memory the second time, verified the first; other namespaces see none of it."""
    first = await client.read_blob(busybox.target)
    config = (await busybox.manifest()).config
    results: list[bytes] = []

    async def read() -> None:
        results.append(await client.read_blob(config))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(read)
    assert len({id(data) for data in results}) == 1
    assert await client.read_blob(busybox.target) is first
    with pytest.raises(NotFoundError):
        await client.in_namespace("elsewhere").read_blob(busybox.target)
    async with connect(daemon.address, namespace=client.namespace) as other:
        assert await other.read_blob(busybox.target) == first
        assert await other.read_blob(busybox.target) is not first
    layer = (await busybox.manifest()).layers[0]
    assert await client.read_blob(layer) is not await client.read_blob(layer)
    with pytest.raises(DataLossError):
        await client.read_blob(attrs.evolve(busybox.target, size=busybox.target.size + 1))


# ── snapshotters ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_a_snapshotter_holds_is_added_up(idle_client: Client):
    """Sizes and inodes of all snapshots, and how many of each kind."""
    client = idle_client
    (layered,) = await client.list_images()
    snapshots = client.snapshotter("overlayfs")
    async with deleting(await client.create_container(image=layered, args=SLEEP)):
        await snapshots.view("a-view", parent=await layered.chain_id())
        info = await client.snapshotter_info("overlayfs")
        assert info.counts == {SnapshotKind.COMMITTED: 5, SnapshotKind.ACTIVE: 1, SnapshotKind.VIEW: 1}
        assert info.count == 7
        usages = [await snapshots.usage(found.name) for found in await snapshots.list()]
        assert (info.size, info.inodes) == (sum(u.size for u in usages), sum(u.inodes for u in usages))
        await snapshots.remove("a-view")
    with pytest.raises(InvalidArgumentError):
        await client.snapshotter_info("absent")


async def test_only_what_nothing_needs_is_cleaned_up(idle_client: Client):
    """What a container, an image, a lease, a child or a label holds stays; the rest goes, children first."""
    client = idle_client
    (image,) = await client.list_images()
    snapshots = client.snapshotter("overlayfs")
    chain = await image.chain_id()
    container = await client.create_container(image=image, args=SLEEP)
    await snapshots.prepare("stray", parent=chain)
    await snapshots.commit("lost-parent", "stray")
    await snapshots.prepare("lost-child", parent="lost-parent")
    await snapshots.prepare("rooted", parent=chain, labels={"containerd.io/gc.root": "now"})
    async with client.hold_lease() as leased:
        await leased.snapshotter("overlayfs").prepare("leased", parent=chain)
        kept = {info.name for info in await snapshots.list()} - {"lost-parent", "lost-child"}
        plan = await client.cleanup_snapshots(dry_run=True)
        assert [found.name for found in plan.removed] == ["lost-child", "lost-parent"]
        assert (plan.snapshotter, plan.is_dry_run) == ("overlayfs", True)
        assert {info.name for info in await snapshots.list()} == {*kept, "lost-parent", "lost-child"}
        done = await client.cleanup_snapshots("overlayfs")
        assert (done.removed, done.size, done.inodes) == (plan.removed, plan.size, plan.inodes)
        assert done.inodes > 0
        assert {info.name for info in await snapshots.list()} == kept
        assert (await client.cleanup_snapshots()).removed == ()
    assert (await client.run(image, ["fine"])).stdout == b"fine\n"
    await snapshots.remove("rooted")
    await container.delete()


async def test_images_without_the_label_that_keeps_them_stay_unpacked(idle_client: Client):
    """An image that is unpacked, though nobody labelled it so, is in use all the same."""
    (image,) = await idle_client.list_images()
    config = (await image.manifest()).config
    await idle_client.content.update(config.digest, {"containerd.io/gc.ref.snapshot.overlayfs": ""})
    assert (await idle_client.cleanup_snapshots()).removed == ()
    assert await image.is_unpacked()


async def test_unpacking_for_native(client: Client, layered: Image):
    """Any snapshotter unpacks an image, and loses it with the image."""
    await layered.unpack("native")
    assert await layered.is_unpacked("native")
    assert (await client.run(layered, ["native"], snapshotter="native")).stdout == b"native\n"
    assert (await client.cleanup_snapshots("native")).removed == ()
    assert (await client.snapshotter_info("native")).counts == {SnapshotKind.COMMITTED: 5}


@pytest.mark.parametrize("name", ["layered", "docker", "index"])
async def test_conversion_is_what_ctr_makes(client: Client, seeded_images, name: str, ctr):
    """To OCI's types and uncompressed, an image becomes the same content, digest for digest, as by ctr's conversion."""
    source = getattr(seeded_images, name)
    async with deleting(await client.pull(source, all_platforms=True, via="client")) as image:
        await ctr("images", "convert", "--oci", "--uncompress", "--all-platforms", image.name, "by-ctr:1")
        async with deleting(
            await client.convert_image(image.name, COPY, media_types="oci", compression="none")
        ) as converted:
            theirs = await client.images.get("by-ctr:1")
            assert converted.target == theirs.target
            labels = (await client.content.info(converted.target.digest)).labels
            assert [key for key in labels if ".content." in key]
        await client.untag("by-ctr:1")
