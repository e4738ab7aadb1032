"""Pushing on every daemon line, to a real registry: what arrives is whole, and what ctr's own push leaves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, Image, Registry, deleting
from containerd_py.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    NotSupportedError,
    RegistryNotFoundError,
)
from containerd_py.testing.images import busybox_layout, this_platform
from containerd_py.testing.registry import LocalRegistry
from containerd_py.types import Platform
from tests.conftest import Ctr, SeededImages
from tests.faults.layers import tar_layer
from tests.harness.registry import UPLOADS, FaultyRegistry, open_registry
from tests.harness.registry_actions import Call, Respond
from tests.integration.pulled import left_in
from tests.integration.pushed import copied, held, raw_manifest, store_artifact

ARM = Platform(os="linux", architecture="arm64", variant="v8")
S390 = Platform(os="linux", architecture="s390x")
ON_2 = pytest.mark.lines("2.1")


@pytest.fixture
async def recording() -> AsyncIterator[FaultyRegistry]:
    """Lend a registry that remembers what it was asked."""
    async with open_registry() as registry:
        yield registry


@pytest.fixture
async def whole_index(client: Client, seeded_images: SeededImages) -> AsyncIterator[Image]:
    """Lend an image with both its platforms."""
    async with deleting(await client.pull(seeded_images.index, all_platforms=True, via="client")) as image:
        yield image


@pytest.fixture
async def half_index(client: Client, seeded_images: SeededImages) -> AsyncIterator[Image]:
    """Lend an image with one of its two platforms here."""
    async with deleting(await client.pull(seeded_images.index, via="client")) as image:
        yield image


def other(registry: LocalRegistry, namespace: str) -> str:
    """Name a repository of the registry that no test had before."""
    return registry.reference(f"pushed/{namespace}")


# ── what arrives ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["layered", "docker"])
async def test_pushed_deleted_pulled_and_run(
    client: Client, seeded_images: SeededImages, namespace: str, tmp_path: Path, kind: str
):
    """An image is pushed to another repository, deleted here, pulled from there, and runs."""
    ref = other(seeded_images.registry, namespace)
    image = await client.pull(getattr(seeded_images, kind), via="client")
    pushed = await client.push(ref, source=image, via="client")
    assert pushed == image.target
    assert await copied(ref, tmp_path / "copy") == image.target.digest
    await image.delete(synchronous=True)
    async with deleting(await client.pull(ref, via="client")) as again:
        assert again.target.digest == pushed.digest
        done = await client.run(again, ["echo", "back"] if kind == "docker" else None)
        assert done.stdout == (b"back\n" if kind == "docker" else b"script\n")


async def test_zstd_layers(client: Client, seeded_images: SeededImages, namespace: str, tmp_path: Path):
    """An image with zstd layers survives the round trip, and runs."""
    ref = other(seeded_images.registry, namespace)
    plain = await client.pull(seeded_images.layered, unpack=False, via="client")
    packed = await client.convert_image(plain.name, f"{ref}-here", compression="zstd")
    pushed = await client.push(ref, source=packed, via="client")
    assert await copied(ref, tmp_path / "copy") == pushed.digest
    await plain.delete()
    await packed.delete(synchronous=True)
    async with deleting(await client.pull(ref, via="client")) as again:
        assert {layer.media_type.rpartition("+")[2] for layer in (await again.manifest()).layers} == {"zstd"}
        assert (await client.run(again)).stdout == b"script\n"


async def test_an_index_with_two_platforms(
    client: Client, whole_index: Image, seeded_images: SeededImages, namespace: str, tmp_path: Path
):
    """An index arrives with everything of both its platforms, under its own digest."""
    ref = other(seeded_images.registry, namespace)
    assert await client.push(ref, source=whole_index, via="client") == whole_index.target
    assert await copied(ref, tmp_path / "copy") == whole_index.target.digest
    names = {file.name for file in (tmp_path / "copy").iterdir()}
    manifests = json.loads((tmp_path / "copy" / "manifest.json").read_bytes())["manifests"]
    assert {f"{each['digest'].removeprefix('sha256:')}.manifest.json" for each in manifests} <= names


async def test_the_same_is_left_as_by_ctr(
    client: Client, ctr: Ctr, whole_index: Image, recording: FaultyRegistry, daemon_line: str
):
    """Blobs, manifests with their types, and tags are those that ctr's push of the same image leaves."""
    local = ["--local"] if daemon_line == "2.1" else []
    await ctr("images", "push", "--plain-http", *local, recording.reference("ctr/image:1"), whole_index.name)
    await client.push(recording.reference("ours/image:1"), source=whole_index.name, via="client")
    assert held(recording.content, "ours/image") == held(recording.content, "ctr/image")


async def test_parts_come_before_what_names_them(client: Client, whole_index: Image, recording: FaultyRegistry):
    """Blobs are there before their manifests, manifests before the index, and only the index gets the tag."""
    await client.push(recording.reference("a/b:tagged"), source=whole_index, via="client")
    puts = [(each.path.split("/")[4], each.path.rpartition("/")[2]) for each in recording.matching(method="PUT")]
    kinds = [kind for kind, _ in puts]
    assert kinds == sorted(kinds)  # "blobs" before "manifests"
    assert [name for kind, name in puts if kind == "manifests"][-1] == "tagged"
    assert all(each.status == 201 for each in recording.matching(method="PUT"))


async def test_what_is_there_is_not_sent_again(client: Client, whole_index: Image, recording: FaultyRegistry):
    """A second push of the same asks only whether everything is there."""
    ref = recording.reference("a/b:1")
    await client.push(ref, source=whole_index, via="client")
    recording.requests.clear()
    async with client.open_push(ref, source=whole_index, via="client") as push:
        events = {progress.name: progress.event async for progress in push if progress.name.startswith(("l", "c", "m"))}
    assert {each.method for each in recording.requests} == {"HEAD"}
    assert set(events.values()) == {"already exists"}
    await client.push(recording.reference("a/b:2"), source=whole_index, via="client")
    assert [each.target for each in recording.matching(method="PUT")] == ["/v2/a/b/manifests/2"]


async def test_progress_tells_everything(client: Client, layered: Image, recording: FaultyRegistry):
    """Every piece of content ends complete, with its bytes, in the daemon's own words, and has its parent."""
    seen, last = [], {}
    async with client.open_push(recording.reference("a/b"), source=layered, via="client") as push:
        async for progress in push:
            seen.append(progress.event)
            last[progress.name or progress.event] = progress
    manifest = await layered.manifest()
    for kind, blob in [("config", manifest.config), *(("layer", layer) for layer in manifest.layers)]:
        progress = last[f"{kind}-{blob.digest}"]
        assert (progress.event, progress.progress, progress.total) == ("complete", blob.size, blob.size)
        assert progress.parents == (f"manifest-{layered.target.digest}",)
    assert last[f"manifest-{layered.target.digest}"].event == "complete"
    assert seen[0] == f"Pushing to OCI Registry ({push.ref})"
    assert seen[-1] == f"Completed push to OCI Registry ({push.ref})"
    assert push.target == layered.target


# ── platforms ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_index_that_is_not_whole_says_what_to_do(
    client: Client, half_index: Image, seeded_images: SeededImages, namespace: str
):
    """Where another platform's content is missing, the error says which, and both ways out; nothing is pushed."""
    ref = other(seeded_images.registry, namespace)
    with pytest.raises(NotFoundError, match=r"linux/arm64.*platform='linux/amd64'.*all_platforms=True"):
        await client.push(ref, source=half_index)
    async with Registry().open_repository(ref) as repository:
        with pytest.raises(RegistryNotFoundError):
            await repository.resolve()


async def test_one_platform_is_pushed_as_its_manifest(
    client: Client, half_index: Image, seeded_images: SeededImages, namespace: str, tmp_path: Path
):
    """One platform of an index arrives as a plain image, as ctr pushes it."""
    ref = other(seeded_images.registry, namespace)
    pushed = await client.push(ref, source=half_index, platform="linux/amd64")
    assert pushed.media_type.endswith("manifest.v1+json")
    assert await copied(ref, tmp_path / "copy") == pushed.digest
    await half_index.delete(synchronous=True)
    async with deleting(await client.pull(ref, via="client")) as again:
        assert (await client.run(again, ["/bin/echo", "one"])).stdout == b"one\n"
    await client.pull(seeded_images.index, via="client")  # for the fixture to delete


async def test_several_platforms_are_pushed_as_an_index_of_them(
    client: Client, local_registry: LocalRegistry, namespace: str, tmp_path: Path
):
    """Two of three platforms arrive as an index of those two, their entries unchanged."""
    layout = busybox_layout(tmp_path / "layout", platforms=[this_platform(), ARM, S390])
    await local_registry.push(layout, f"three/{namespace}")
    ref = other(local_registry, namespace)
    async with deleting(
        await client.pull(local_registry.reference(f"three/{namespace}"), all_platforms=True, via="client")
    ) as image:
        pushed = await client.push(ref, source=image, platform=["linux/arm64", S390])
        entries = json.loads(await raw_manifest(ref))["manifests"]
        whole = json.loads(await raw_manifest(image.name))["manifests"]
        assert entries == whole[1:]
        assert await copied(ref, tmp_path / "copy") == pushed.digest
        same = await client.push(ref, source=image, platform=["linux/s390x", "linux/arm64", "linux/amd64"])
        assert same == image.target  # all there are: the index as it is


async def test_what_the_registry_has_need_not_be_here(client: Client, half_index: Image, seeded_images: SeededImages):
    """An index half of which is here gets another tag in the repository that has all of it."""
    ref = half_index.name.removesuffix(":latest") + ":another"
    assert await client.push(ref, source=half_index) == half_index.target
    async with Registry().open_repository(ref) as repository:
        assert (await repository.resolve()).digest == half_index.target.digest


async def test_platforms_that_cannot_be_pushed(client: Client, half_index: Image, seeded_images: SeededImages):
    """A platform the image does not have, and one that is not here, are told apart, and before anything is sent."""
    ref = seeded_images.registry.reference("never/pushed")
    with pytest.raises(NotFoundError, match=r"linux/s390x.*has linux/amd64"):
        await client.push(ref, source=half_index, platform="linux/s390x")
    with pytest.raises(NotFoundError, match=r"linux/arm64.*Pull it"):
        await client.push(ref, source=half_index, platform="linux/arm64")
    with pytest.raises(InvalidArgumentError):
        await client.push(ref, source=half_index, platform=[])


# ── artifacts, referrers, listings ──────────────────────────────────────────────────────────────────────────────────


async def test_an_artifact_with_an_empty_configuration(client: Client, local_registry: LocalRegistry, namespace: str):
    """An OCI artifact is pushed as it is, and found again by its type."""
    ref = other(local_registry, namespace)
    target = await store_artifact(client, ref, b"a thing of no image")
    assert await client.push(ref, via="client") == target
    assert json.loads(await raw_manifest(ref))["artifactType"] == "application/vnd.example.thing"
    await client.images.delete(ref, synchronous=True)
    async with deleting(await client.pull(ref, unpack=False, via="client")) as again:
        (layer,) = (await again.manifest()).layers
        assert await client.read_blob(layer) == b"a thing of no image"


@pytest.mark.parametrize("has_api", [False, True])
async def test_referrers_are_found(
    client: Client, layered: Image, local_registry: LocalRegistry, recording: FaultyRegistry, namespace: str, has_api
):
    """What refers to an image is listed, by type too, with the referrers API and under the fallback tag without it."""
    base = recording.reference("a/b") if has_api else other(local_registry, namespace).removesuffix(":latest")
    registry = Registry()
    await client.push(f"{base}:image", source=layered, via="client")
    for number, kind in enumerate(["application/vnd.example.sig", "application/vnd.example.sbom"]):
        name = f"{base}:artifact-{number}"
        await store_artifact(client, name, kind.encode(), kind=kind, subject=layered.target)
        await client.push(name, via="client")
        await client.push(name, via="client")  # once more lists it no second time
        await client.images.delete(name)
    async with registry.open_repository(base) as repository:
        found = await repository.referrers(layered.target)
        assert sorted(each.artifact_type or "" for each in found) == [
            "application/vnd.example.sbom",
            "application/vnd.example.sig",
        ]
        (signature,) = await repository.referrers(layered.target, ["application/vnd.example.sig"])
        assert json.loads(await repository.fetch_manifest(signature))["subject"]["digest"] == layered.target.digest
        assert await repository.referrers(signature) == []


async def test_tags_repositories_and_deletion(
    client: Client, layered: Image, local_registry: LocalRegistry, namespace: str
):
    """Tags and repositories are listed; a manifest that is deleted takes its tags along."""
    ref = other(local_registry, namespace)
    base = ref.removesuffix(":latest")
    registry = Registry()
    for tag in ("one", "two"):
        await client.push(f"{base}:{tag}", source=layered, via="client")
    assert f"pushed/{namespace}" in await registry.list_repositories(local_registry.address)
    async with registry.open_repository(base) as repository:
        assert sorted(await repository.list_tags()) == ["one", "two"]
        await repository.delete_manifest(layered.target)
        assert await repository.list_tags() == []
        with pytest.raises(RegistryNotFoundError):
            await repository.delete_manifest(layered.target.digest)
    async with registry.open_repository(local_registry.reference("no/such")) as repository:
        with pytest.raises(RegistryNotFoundError):
            await repository.list_tags()


# ── mounts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def here(client: Client, recording: FaultyRegistry, seeded_images: SeededImages) -> AsyncIterator[Image]:
    """Lend an image that was pulled from the recording registry's `team/app/old`."""
    source = await client.pull(seeded_images.layered, via="client", unpack=False)
    await client.push(recording.reference("team/app/old"), source=source, via="client")
    await source.delete(synchronous=True)
    image = await client.pull(recording.reference("team/app/old"), via="client", unpack=False)
    recording.requests.clear()
    async with deleting(image):
        yield image


async def test_blobs_are_mounted_from_where_they_came(client: Client, here: Image, recording: FaultyRegistry):
    """What was pulled from a repository of the registry is mounted into another one: no byte is sent."""
    await client.push(recording.reference("team/app/new"), source=here, via="client")
    posts = recording.matching(UPLOADS, method="POST")
    assert posts
    assert all("mount=sha256%3A" in each.target and "from=team%2Fapp%2Fold" in each.target for each in posts)
    assert {each.status for each in posts} == {201}
    assert recording.matching(UPLOADS, method="PUT") == []
    assert held(recording.content, "team/app/new")[0] == held(recording.content, "team/app/old")[0]


async def test_the_nearest_repository_is_mounted_from(client: Client, here: Image, recording: FaultyRegistry):
    """Of several repositories that have a blob the one with the most like path is chosen."""
    await client.push(recording.reference("elsewhere/app"), source=here, via="client")
    await client.pull(recording.reference("elsewhere/app"), via="client", unpack=False)
    recording.requests.clear()
    await client.push(recording.reference("team/other"), source=here, via="client")
    assert {each.target.partition("from=")[2] for each in recording.matching(UPLOADS, method="POST")} == {
        "team%2Fapp%2Fold"
    }
    await client.images.delete(recording.reference("elsewhere/app:latest"))


@pytest.mark.parametrize("refusal", [202, 401, 403, 404, 405])
async def test_a_mount_that_is_refused_is_an_upload(client: Client, here: Image, recording: FaultyRegistry, refusal):
    """Where the registry does not mount, whatever way it says so, the blob is sent."""
    if refusal == 202:
        recording.content.repository("team/app/old").blobs.clear()  # the registry begins an upload instead
    else:
        recording.fault(Respond(refusal), path=UPLOADS, method="POST", match=lambda request: "mount=" in request.target)
    await client.push(recording.reference("team/app/new"), source=here, via="client")
    manifest = await here.manifest()
    assert set(held(recording.content, "team/app/new")[0]) == {
        blob.digest for blob in (manifest.config, *manifest.layers)
    }
    recording.assert_all_fired()


# ── what stays here ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_push_leaves_nothing_at_the_daemon(
    client: Client, layered: Image, seeded_images: SeededImages, namespace: str
):
    """Records, content with its labels, snapshots: all is as before, and the lease is gone."""
    before = await left_in(client)
    await client.push(other(seeded_images.registry, namespace), source=layered)
    assert await left_in(client) == before


async def test_nothing_is_collected_while_it_is_pushed(
    client: Client, seeded_images: SeededImages, recording: FaultyRegistry
):
    """An image that is deleted in the middle of its push, with a collection, is pushed to its end, and gone then."""
    image = await client.pull(seeded_images.layered, via="client")
    gate = anyio.Event()

    async def hold(request):
        await gate.wait()
        return await recording.service.handle(request)

    rule = recording.fault(Call(hold), path=UPLOADS, method="POST")
    async with client.open_push(recording.reference("a/b"), source=image, via="client") as push:
        await rule.wait_fired()
        await image.delete(synchronous=True)
        gate.set()
        pushed = await push.wait()
    assert recording.content.repository("a/b").tags == {"latest": pushed.digest}
    throwaway = await client.leases.create("collects")
    await client.leases.delete(throwaway.id, synchronous=True)
    left = await left_in(client)
    assert (left.content, left.leases) == ({}, 0)


async def test_a_lease_of_the_callers_holds_nothing_more_than_before(
    client: Client, layered: Image, seeded_images: SeededImages, namespace: str
):
    """Inside a lease of the caller's a push puts nothing into that."""
    async with client.hold_lease() as leased:
        await leased.push(other(seeded_images.registry, namespace), source=layered)
        (lease,) = await client.leases.list()
        assert await client.leases.list_resources(lease.id) == []


async def test_leaving_early_cancels(client: Client, layered: Image, recording: FaultyRegistry):
    """A push whose block is left stops, leaves no lease, and the same push succeeds afterwards."""
    async with client.open_push(recording.reference("a/b"), source=layered, via="client") as push:
        async for progress in push:
            if progress.event == "uploading":
                break
        with pytest.raises(FailedPreconditionError):
            _ = push.target
    assert recording.content.repository("a/b").tags == {}
    assert (await left_in(client)).leases == 0
    await client.push(recording.reference("a/b"), source=layered, via="client")


# ── arguments ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_source_is_the_reference_if_none_is_given(
    client: Client, layered: Image, local_registry: LocalRegistry, namespace: str
):
    """Without a source the image of the reference's own name is pushed; by name and by handle means the same."""
    ref = other(local_registry, namespace)
    with pytest.raises(NotFoundError):
        await client.push(ref)
    async with deleting(await layered.tag(ref)) as tagged:
        assert await client.push(ref) == tagged.target
        assert await client.push(ref, source=layered.name) == tagged.target


async def test_digests_in_references(client: Client, layered: Image, local_registry: LocalRegistry, namespace: str):
    """A reference with a digest pushes just that, without a tag; another image is refused."""
    base = other(local_registry, namespace).removesuffix(":latest")
    await client.push(f"{base}@{layered.target.digest}", source=layered, via="client")
    async with Registry().open_repository(base) as repository:
        assert await repository.has(layered.target)
        with pytest.raises(RegistryNotFoundError):  # as this registry says that there are none
            await repository.list_tags()
    with pytest.raises(InvalidArgumentError, match="names sha256:0000"):
        await client.push(f"{base}@sha256:{'0' * 64}", source=layered)


@pytest.mark.parametrize("options", [{"via": "pigeon"}, {"platform": "no such/thing/at/all"}, {"platform": ()}])
async def test_arguments_that_cannot_work_are_refused(client: Client, layered: Image, options):
    """Nonsense is refused before anything is sent."""
    with pytest.raises(InvalidArgumentError):
        await client.push("127.0.0.1:1/nowhere", source=layered, **options)


async def test_non_distributable_layers_are_left_out_where_asked(
    client: Client, recording: FaultyRegistry, namespace: str
):
    """Layers that may not be handed on are pushed like others, or left out, as asked."""
    manifest = recording.add_image([tar_layer("a"), tar_layer("b", seed=1)], tag=None)
    document = json.loads(recording.content.repository("library/test").manifests[manifest.digest].data)
    document["layers"][1]["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    recording.add_manifest(document, repository="library/test", tag="foreign")
    image = await client.pull(recording.reference("library/test:foreign"), unpack=False, via="client")
    recording.fault(Respond(405), path=UPLOADS, method="POST", match=lambda request: "mount=" in request.target)
    recording.content.repositories.clear()
    await client.push(recording.reference("all/of"), source=image, via="client")
    assert len(recording.content.repository("all/of").blobs) == 3
    layer = document["layers"][1]["digest"]
    recording.content.repository("some/of").blobs[layer] = b""  # the registry would not take a manifest without it
    recording.requests.clear()
    await client.push(recording.reference("some/of"), source=image, via="client", skip_non_distributable=True)
    assert not [each for each in recording.requests if layer.removeprefix("sha256:") in each.target]
    await image.delete()


# ── by transfer ─────────────────────────────────────────────────────────────────────────────────────────────────────


@ON_2
async def test_by_transfer_over_plain_http(client: Client, whole_index: Image, recording: FaultyRegistry):
    """The daemon pushes an index itself; the same arrives as from us, and progress ends complete."""
    await client.push(recording.reference("ours/image:1"), source=whole_index, via="client")
    last = {}
    ref = recording.reference("theirs/image:1")
    async with client.open_push(ref, source=whole_index.name, via="transfer") as push:
        async for progress in push:
            last[progress.name or progress.event] = progress.event
    assert push.target == whole_index.target
    assert held(recording.content, "ours/image") == held(recording.content, "theirs/image")
    assert last[f"index-{whole_index.target.digest}"] == "complete"
    assert f"Completed push to OCI Registry ({ref})" in last
    assert (await left_in(client)).leases == 0


@pytest.mark.lines("1.7", "2.1")
async def test_by_transfer_over_tls(
    client: Client, layered: Image, tls_registry: LocalRegistry, namespace: str, tmp_path: Path
):
    """The daemon pushes over TLS that it trusts; this program need not trust it."""
    ref = tls_registry.reference(f"pushed/{namespace}")
    for via in ("transfer", "auto"):
        pushed = await client.push(ref, source=layered, registry=Registry(plain_http=False), via=via)
        assert pushed == layered.target
    assert await copied(ref, tmp_path / "copy") == layered.target.digest


async def test_a_transfer_refuses_what_only_we_can_do(client: Client, whole_index: Image, daemon_line: str):
    """What the daemon cannot do, or would do differently, is refused by name, and auto does it client-side."""
    ref = "127.0.0.1:1/nowhere"
    with pytest.raises(InvalidArgumentError, match=r'skip_verify.*push via="client"'):
        await client.push(ref, source=whole_index, via="transfer", registry=Registry(skip_verify=True))
    if daemon_line != "2.1":
        with pytest.raises(NotSupportedError, match='push via="client"'):
            await client.push(ref, source=whole_index, via="transfer")
        return
    with pytest.raises(InvalidArgumentError, match="index"):
        await client.push(ref, source=whole_index, via="transfer", platform="linux/amd64")
