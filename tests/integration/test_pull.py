"""Pulling client-side, on every daemon line: the same as containerd's own client leaves, and safe next to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from containerd_py import Client, connect, deleting
from containerd_py.errors import InvalidArgumentError, NotFoundError, NotSupportedError, RegistryNotFoundError
from containerd_py.labels import DEFAULT_SNAPSHOTTER
from containerd_py.remotes.registry import Registry
from tests.conftest import Ctr, SeededImages
from tests.integration.pulled import Left, abort_ingests, left_in

CtrPull = Callable[[str], Awaitable[str]]
NOTHING = Left(images={}, content={}, snapshots={}, leases=0, ingests=0, unfinished=0)


@pytest.fixture
def ctr_pull(ctr: Ctr, daemon_line: str) -> CtrPull:
    """Pull as the line's ctr does, without the other platforms' metadata that only that of 2.x fetches."""
    options = ["--skip-metadata"] if daemon_line == "2.1" else []
    return lambda ref: ctr("images", "pull", "--plain-http", *options, ref)


async def clear(client: Client) -> None:
    """Delete all images and what they held."""
    for record in await client.images.list():
        await client.images.delete(record.name, synchronous=True)


@pytest.mark.parametrize("kind", ["layered", "docker", "index"])
async def test_the_same_is_left_as_by_ctr(client: Client, ctr_pull: CtrPull, seeded_images: SeededImages, kind: str):
    """Record, content, snapshots and all labels are those that ctr's pull of the same image leaves."""
    ref = getattr(seeded_images, kind)
    await ctr_pull(ref)
    theirs = await left_in(client)
    await clear(client)
    assert await left_in(client) == NOTHING
    image = await client.pull(ref, via="client")
    ours = await left_in(client)
    assert ours.without_snapshot_labels() == theirs.without_snapshot_labels()
    assert {labels.get("containerd.io/snapshot.ref") for _, labels in ours.snapshots.values()} == {*ours.snapshots}
    await image.delete()


async def test_ctr_finds_our_image_whole_and_unpacked(client: Client, ctr: Ctr, seeded_images: SeededImages):
    """ctr's own check of what we pulled says complete and unpacked, for an index too."""
    async with deleting(await client.pull(seeded_images.index, via="client")):
        checked = (await ctr("images", "check")).splitlines()
        assert any("complete" in line and line.rstrip().endswith("true") for line in checked), checked


async def test_an_image_that_ctr_pulled_is_whole(client: Client, ctr_pull: CtrPull, seeded_images: SeededImages):
    """What ctr pulled is read, found unpacked, and enough for ensure_image without a registry."""
    await ctr_pull(seeded_images.layered)
    async with deleting(await client.load_image(seeded_images.layered)) as image:
        assert await image.is_unpacked()
        assert (await image.config()).user == "app"
        ensured = await client.ensure_image(seeded_images.layered, policy="never")
        assert ensured.target == image.target


async def test_pulls_next_to_each_other_all_succeed(
    client: Client, ctr_pull: CtrPull, daemon, seeded_images: SeededImages
):
    """Pulls of one image at the same time, by several clients of ours and by ctr, all end well and leave one image."""
    async with connect(daemon.address, namespace=client.namespace) as other, anyio.create_task_group() as group:
        for puller in (client, other, client, other):
            group.start_soon(lambda puller=puller: puller.pull(seeded_images.layered, via="client"))
        group.start_soon(ctr_pull, seeded_images.layered)
    left = await left_in(client)
    assert (len(left.images), len(left.snapshots), left.unfinished, left.leases, left.ingests) == (1, 5, 0, 0, 0)
    await clear(client)


async def test_progress_tells_everything(client: Client, seeded_images: SeededImages):
    """Every piece of content ends complete or extracted, with its bytes, and the whole ends saved."""
    last: dict[str, object] = {}
    sentences: list[str] = []
    async with client.open_pull(seeded_images.layered, via="client") as pull:
        async for progress in pull:
            last[progress.name] = progress
            sentences.append(progress.event)
    async with deleting(pull.image):
        manifest = await pull.image.manifest()
        blobs = [pull.image.target, manifest.config, *manifest.layers]
        kinds = ["manifest", "config", *["layer"] * len(manifest.layers)]
        for kind, blob in zip(kinds, blobs, strict=True):
            progress = last.pop(f"{kind}-{blob.digest}")
            assert progress.event == ("extracted" if kind == "layer" else "complete")
            assert (progress.progress, progress.total, progress.descriptor.digest) == (
                blob.size,
                blob.size,
                blob.digest,
            )
            assert progress.parents == ((f"manifest-{blobs[0].digest}",) if kind != "manifest" else (pull.ref,))
        assert last.pop(pull.ref).event == "saved"
        assert set(last) == {""}
        assert sentences[0] == f"Resolving from OCI Registry ({pull.ref})"
        assert sentences[-1] == f"Completed pull from OCI Registry ({pull.ref})"


async def test_a_second_pull_fetches_nothing(client: Client, seeded_images: SeededImages):
    """What is there is not fetched again, and said to exist already."""
    async with deleting(await client.pull(seeded_images.layered, via="client")):
        async with client.open_pull(seeded_images.layered, via="client") as pull:
            events = {progress.event async for progress in pull if progress.name not in {"", pull.ref}}
        assert events == {"waiting", "already exists"} or events == {"already exists"}


async def test_nobody_needs_to_read_the_progress(client: Client, seeded_images: SeededImages):
    """A pull whose progress nobody reads goes on to its end."""
    async with client.open_pull(seeded_images.layered, via="client") as pull:
        image = await pull.wait()
    assert pull.image is image
    await image.delete()


async def test_leaving_early_cancels_and_leaves_nothing(client: Client, large_image: str):
    """A block that is left in the middle has no image, and neither lease nor snapshots stay."""
    async with client.open_pull(large_image, via="client") as pull:
        async for progress in pull:
            if progress.event == "downloading":
                break
    with pytest.raises(NotFoundError):
        await client.images.get(large_image)
    assert pull.ref == large_image
    left = await left_in(client)
    assert (left.images, left.leases, left.unfinished) == ({}, 0, 0)
    await abort_ingests(client)


@pytest.mark.parametrize("via", ["client", "auto"])
async def test_errors_come_out_of_the_iteration(client: Client, seeded_images: SeededImages, via):
    """What a pull fails with is raised where its progress is read, once, and as itself."""
    missing = seeded_images.registry.reference("no/such")
    with pytest.raises(RegistryNotFoundError):
        async with client.open_pull(missing, via=via) as pull:
            async for _ in pull:
                pass
    with pytest.raises(RegistryNotFoundError):
        _ = pull.image
    assert await left_in(client) == NOTHING


async def test_errors_nobody_read_come_out_at_the_end(client: Client, seeded_images: SeededImages):
    """A block that never reads gets the failure when it ends."""
    reached = False
    with pytest.raises(RegistryNotFoundError):
        async with client.open_pull(seeded_images.registry.reference("no/such"), via="client"):
            await anyio.sleep(0.5)
            reached = True
    assert reached


async def test_the_blocks_own_error_passes(client: Client, large_image: str):
    """An error of the block itself comes out unchanged and ends the pull."""
    error = RuntimeError("mine")
    with pytest.raises(RuntimeError) as caught:
        async with client.open_pull(large_image, via="client"):
            raise error
    assert caught.value is error
    assert (await left_in(client)).leases == 0
    await abort_ingests(client)


async def test_a_missing_platform_is_told_with_those_there_are(client: Client, seeded_images: SeededImages):
    """An index without the platform is NotFound, and the message lists what it has."""
    with pytest.raises(NotFoundError, match=r"linux/s390x.*linux/amd64.*linux/arm64") as caught:
        await client.pull(seeded_images.index, platform="linux/s390x", via="client")
    assert not isinstance(caught.value, RegistryNotFoundError)


async def test_all_platforms_are_fetched_and_not_unpacked(client: Client, seeded_images: SeededImages):
    """all_platforms brings everything the image has and makes no snapshots."""
    image = await client.pull(seeded_images.index, all_platforms=True, via="client")
    left = await left_in(client)
    layout = seeded_images.layouts[seeded_images.index]
    blobs = {blob.digest for manifest in layout.manifests for blob in layout.blobs_of(manifest)}
    everything = blobs | {layout.target.digest} | {manifest.digest for manifest in layout.manifests}
    assert set(left.content) == everything
    assert left.snapshots == {}
    await image.delete()


async def test_another_platform_is_unpacked_as_well(client: Client, seeded_images: SeededImages):
    """A foreign platform's image is fetched and unpacked: only running it needs the machine."""
    async with deleting(await client.pull(seeded_images.index, platform="linux/arm64", via="client")) as image:
        assert image.platform.architecture == "arm64"
        assert (await image.config()).platform.architecture == "arm64"
        assert await image.is_unpacked()


async def test_without_unpacking(client: Client, seeded_images: SeededImages):
    """unpack=False makes no snapshots; unpacking later gives what pulling at once would have given."""
    async with deleting(await client.pull(seeded_images.layered, unpack=False, via="client")) as image:
        assert (await left_in(client)).snapshots == {}
        assert not await image.is_unpacked()
        await image.unpack()
        later = await left_in(client)
    await clear(client)
    await client.images.delete((await client.pull(seeded_images.busybox, via="client")).name, synchronous=True)
    async with deleting(await client.pull(seeded_images.layered, via="client")):
        assert await left_in(client) == later


async def test_the_snapshotter_is_chosen(client: Client, seeded_images: SeededImages):
    """The one asked for is used, else the namespace's default, else overlayfs."""
    async with deleting(await client.pull(seeded_images.busybox, snapshotter="native", via="client")) as image:
        assert await image.is_unpacked("native")
        assert not await image.is_unpacked()
        await client.namespaces.update(client.namespace, {DEFAULT_SNAPSHOTTER: "native"})
        assert await image.is_unpacked()
        await client.pull(seeded_images.layered, via="client")
        assert len((await left_in(client, snapshotter="native")).snapshots) == 5
    await clear(client)


async def test_layers_that_are_snapshots_are_not_fetched(client: Client, seeded_images: SeededImages):
    """Of an image whose snapshots are there only the documents are fetched."""
    snapshots = client.snapshotter("overlayfs")
    image = await client.pull(seeded_images.layered, via="client")
    layers = {layer.digest for layer in (await image.manifest()).layers}
    await snapshots.view("keeps-the-snapshots", parent=await image.chain_id())
    await snapshots.update("keeps-the-snapshots", {"containerd.io/gc.root": "yes"})
    await image.delete(synchronous=True)
    async with deleting(await client.pull(seeded_images.layered, via="client")) as image:
        left = await left_in(client)
        assert len(left.content) == 2
        assert not layers & set(left.content)
        assert await image.is_unpacked()
        assert await client.ensure_image(seeded_images.layered, policy="never")
        await snapshots.remove("keeps-the-snapshots")


async def test_labels_of_the_record(client: Client, seeded_images: SeededImages):
    """The caller's labels are put on the record; those that others have put there stay."""
    image = await client.pull(seeded_images.busybox, labels={"mine": "1", "both": "old"}, via="client")
    await client.pull(seeded_images.busybox, labels={"both": "new"}, via="client")
    assert dict((await image.record()).labels) == {"mine": "1", "both": "new"}
    await image.delete()


async def test_a_lease_of_the_callers_is_used_and_kept(client: Client, seeded_images: SeededImages):
    """Inside hold_lease the pull makes no lease of its own, and content lives as long as that lease."""
    async with client.hold_lease() as leased:
        image = await leased.pull(seeded_images.busybox, via="client")
        assert len(await client.leases.list()) == 1
        await image.delete(synchronous=True)
        assert len((await left_in(client)).content) == 3
    assert await client.leases.list() == []


async def test_names_are_normalised(client: Client, seeded_images: SeededImages):
    """An image without a tag is called :latest."""
    async with deleting(await client.pull(seeded_images.busybox.removesuffix(":latest"), via="client")) as image:
        assert image.name == seeded_images.busybox


async def test_by_digest(client: Client, seeded_images: SeededImages):
    """A reference with a digest is pulled by it, and its record is called so."""
    layout = seeded_images.layouts[seeded_images.busybox]
    ref = f"{seeded_images.busybox.removesuffix(':latest')}@{layout.target.digest}"
    async with deleting(await client.pull(ref, via="client")) as image:
        assert (image.name, image.target.digest) == (ref, layout.target.digest)


@pytest.mark.parametrize(
    "options",
    [
        {"via": "pigeon"},
        {"platform": "linux/amd64", "all_platforms": True},
        {"platform": "no such/thing/at/all"},
        {"labels": {"": "x"}},
    ],
)
async def test_arguments_that_cannot_work_are_refused(client: Client, seeded_images: SeededImages, options):
    """Nonsense is refused before anything is fetched."""
    with pytest.raises(InvalidArgumentError):
        await client.pull(seeded_images.busybox, **options)
    assert await left_in(client) == NOTHING


@pytest.mark.lines("1.6", "1.7")
async def test_a_transfer_that_cannot_work_says_what_is_needed(
    client: Client, seeded_images: SeededImages, daemon_line
):
    """Over plain HTTP, daemons before 2.0 cannot pull themselves: the error says which can, and auto does it anyway."""
    needed = "1.7" if daemon_line == "1.6" else "2.1"
    with pytest.raises(NotSupportedError, match=f"containerd {needed}"):
        await client.pull(seeded_images.busybox, via="transfer")
    async with deleting(await client.pull(seeded_images.busybox, via="auto")) as image:
        assert await image.is_unpacked()


async def test_a_transfer_refuses_what_only_we_can_do(client: Client, seeded_images: SeededImages):
    """Settings of the registry that the daemon would silently ignore are refused, naming them."""
    with pytest.raises(InvalidArgumentError, match="skip_verify"):
        await client.pull(seeded_images.busybox, via="transfer", registry=Registry(skip_verify=True))
