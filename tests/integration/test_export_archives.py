"""What exports write, what they leave out, and that they leave nothing when they fail."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import anyio
import pytest

from containerd_py import Client, Image, Platform
from containerd_py.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from containerd_py.services.images import ImageRecord
from tests.conftest import SeededImages
from tests.unit.tars import Layout, chunked, tar_layer

ON_2 = pytest.mark.lines("2.1")  # what the daemon has no part in
ARM = Platform(os="linux", architecture="arm64", variant="v8")
LARGE = tar_layer("large", bytes(range(256)) * 400)


class Collected:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""

    async def send(self, item: bytes, /) -> None:
        self.data += item


async def exported(client: Client, names: Any, **options: Any) -> dict[str, bytes]:
    """Export, and return the files of the archive."""
    sink = Collected()
    await client.export_images(names, sink, **options)
    with tarfile.open(fileobj=io.BytesIO(sink.data)) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive if one.isfile()}  # type: ignore[union-attr]


async def delete_all(client: Client) -> None:
    for record in await client.images.list():
        await client.images.delete(record.name, synchronous=True)


def blobs(files: dict[str, bytes]) -> set[str]:
    return {path.replace("blobs/sha256/", "sha256:") for path in files if path.startswith("blobs/")}


# ── what is in an archive ───────────────────────────────────────────────────────────────────────────────────────────


@ON_2
async def test_names_are_found_as_elsewhere(client: Client):
    """By exact name, by a name that is completed, and by the image itself; each comes once, in the order asked for."""
    made = Layout()
    made.image("docker.io/library/first:latest", layers=[tar_layer("a")])
    made.image("example.com/second:1", layers=[tar_layer("b")])
    first, second = await client.import_images(chunked(made.tar()))
    for names in (["first", second], [first, "docker.io/library/first:latest", "example.com/second:1"]):
        files = await exported(client, names)
        found = json.loads(files["index.json"])["manifests"]
        assert [entry["annotations"]["io.containerd.image.name"] for entry in found] == [first.name, second.name]
        docker = json.loads(files["manifest.json"])
        assert [entry["RepoTags"] for entry in docker] == [["first:latest"], ["example.com/second:1"]]
    for names in ("no/such:1", ["first", "no/such:1"]):
        with pytest.raises(NotFoundError):
            await exported(client, names)
    with pytest.raises(InvalidArgumentError, match="nothing to export"):
        await exported(client, [])
    await delete_all(client)


@ON_2
async def test_an_image_with_two_names_is_there_once(client: Client, busybox: Image):
    """Two entries in the index, one of Docker's with both names, and each blob once."""
    other = await busybox.tag("example.com/other:2")
    files = await exported(client, [busybox, other])
    assert len(json.loads(files["index.json"])["manifests"]) == 2
    (docker,) = json.loads(files["manifest.json"])
    assert docker["RepoTags"] == [busybox.name, "example.com/other:2"]
    assert len(blobs(files)) == 3
    await other.delete()


@ON_2
async def test_names_that_docker_cannot_read_are_left_out(client: Client, busybox: Image):
    """Names that are no references are exported; Docker's list does not have them."""
    record = await busybox.record()
    await client.images.create(ImageRecord(name="Not A Reference", target=record.target))
    files = await exported(client, "Not A Reference")
    assert json.loads(files["manifest.json"])[0]["RepoTags"] is None
    await client.images.delete("Not A Reference")


@ON_2
async def test_docker_manifest_can_be_left_out(client: Client, busybox: Image, tmp_path: Path):
    """Without it, and always in folders."""
    assert "manifest.json" not in await exported(client, busybox, docker_manifest=False)
    await client.export_images(busybox, f"{tmp_path}/new/")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["blobs", "index.json", "oci-layout"]


async def test_platforms_are_chosen(client: Client, seeded_images: SeededImages):
    """The daemon's platform, another one, all; one that the image has not is refused with those it has."""
    layout = seeded_images.layouts[seeded_images.index]
    here, arm = (manifest.digest for manifest in layout.manifests)
    await client.pull(seeded_images.index, via="client", all_platforms=True)
    for options, expected, docker in (
        ({}, {here}, 1),
        ({"platform": "linux/arm64"}, {arm}, 1),
        ({"platform": ARM}, {arm}, 1),
        ({"platform": "linux/arm64/v9"}, {arm}, 1),  # nothing built for just that: the best there is
        ({"all_platforms": True}, {here, arm}, 1),
    ):
        files = await exported(client, seeded_images.index, **options)
        assert blobs(files) & {here, arm} == expected, options
        assert layout.target.digest in blobs(files)
        assert len(json.loads(files["manifest.json"])) == docker
    with pytest.raises(NotFoundError, match="linux/s390x: it has linux/amd64, linux/arm64"):
        await exported(client, seeded_images.index, platform="linux/s390x")
    with pytest.raises(InvalidArgumentError):
        await exported(client, seeded_images.index, platform="linux/arm64", all_platforms=True)
    await delete_all(client)


async def test_what_is_missing_fails_or_is_skipped(client: Client, seeded_images: SeededImages):
    """Of an index pulled for one platform not everything can be written, but all that is here."""
    layout = seeded_images.layouts[seeded_images.index]
    here, arm = (manifest.digest for manifest in layout.manifests)
    await client.pull(seeded_images.index, via="client")
    with pytest.raises(NotFoundError):
        await exported(client, seeded_images.index, all_platforms=True)
    files = await exported(client, seeded_images.index, all_platforms=True, skip_missing=True)
    assert blobs(files) & {here, arm} == {here}
    (layer,) = [entry["digest"] for entry in json.loads(files[f"blobs/sha256/{here[7:]}"])["layers"]]
    await client.content.delete(layer)
    with pytest.raises(NotFoundError):
        await exported(client, seeded_images.index)
    files = await exported(client, seeded_images.index, skip_missing=True)
    assert blobs(files) == {layout.target.digest, here}  # a manifest without all that it names comes alone
    assert "manifest.json" not in files
    await client.content.delete(layout.target.digest)
    with pytest.raises(NotFoundError):
        await exported(client, seeded_images.index, skip_missing=True)
    await delete_all(client)


@ON_2
async def test_layers_that_are_not_to_be_handed_on_can_stay(client: Client):
    """With skip_non_distributable they are left out, whether they are here or not."""
    made = Layout()
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    image = made.image("example.com/foreign:1", layers=[LARGE], layer_type=foreign)
    await client.import_images(chunked(made.tar()), unpack=False)
    assert len(blobs(await exported(client, "example.com/foreign:1"))) == 3
    files = await exported(client, "example.com/foreign:1", skip_non_distributable=True)
    assert len(blobs(files)) == 2
    assert image["digest"] in blobs(files)
    (again,) = await client.import_images(chunked(made.tar()), unpack=False)
    assert (await again.usage()).missing == 0
    await delete_all(client)


@ON_2
async def test_only_images_are_exported(client: Client, busybox: Image):
    """A record that stands for something else than an image is refused."""
    config = (await busybox.manifest()).config
    await client.images.create(ImageRecord(name="example.com/config:1", target=config))
    with pytest.raises(InvalidArgumentError, match="only images"):
        await exported(client, "example.com/config:1")
    await client.images.delete("example.com/config:1")


async def test_an_image_may_be_deleted_while_it_is_exported(
    client: Client, busybox: Image, seeded_images: SeededImages
):
    """What is being exported is kept until it is written, whoever deletes it."""
    started, deleted = anyio.Event(), anyio.Event()

    class Slow(Collected):
        async def send(self, item: bytes, /) -> None:
            started.set()
            await deleted.wait()
            await super().send(item)

    sink = Slow()
    other = await client.pull(seeded_images.layered, via="client")
    async with anyio.create_task_group() as group:
        group.start_soon(client.export_images, other, sink)
        await started.wait()
        await other.delete(synchronous=True)
        deleted.set()
    assert len(sink.data) > 1_000_000
    assert [record.name for record in await client.images.list()] == [busybox.name]


# ── destinations ────────────────────────────────────────────────────────────────────────────────────────────────────


@ON_2
async def test_destinations_that_cannot_be_are_refused(client: Client, busybox: Image, tmp_path: Path):
    """A folder with something in it, a folder that is missing, compression of a folder, a device."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for destination, options, error in (
        (tmp_path / "full", {}, AlreadyExistsError),
        (tmp_path / "no" / "such.tar", {}, FileNotFoundError),
        (f"{tmp_path}/no/such/", {}, FileNotFoundError),
        (f"{tmp_path}/new/", {"compression": "gzip"}, InvalidArgumentError),
        ("/dev/null", {}, InvalidArgumentError),
        (tmp_path / "x.tar", {"compression": "xz"}, InvalidArgumentError),
        (tmp_path / "x.tar", {"via": "magic"}, InvalidArgumentError),
    ):
        with pytest.raises(error):
            await client.export_images(busybox, destination, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


async def test_a_stream_that_fails_fails_the_export(client: Client, busybox: Image):
    """What the sink raises comes out, whatever the error and wherever it comes."""

    class Broken(Collected):
        async def send(self, item: bytes, /) -> None:
            await super().send(item)
            if len(self.data) > 5000:
                raise ZeroDivisionError

    for compression in ("none", "gzip", "zstd"):
        with pytest.raises(ZeroDivisionError):
            await client.export_images(busybox, Broken(), compression=compression)
    assert not await client.leases.list()


@ON_2
async def test_a_reader_may_leave(client: Client, busybox: Image):
    """Leaving an open export early cancels it; one that fails says so where it is read, or at the end of the block."""
    async with client.open_export(busybox) as archive:
        assert await anext(archive)
    assert not await client.leases.list()
    with pytest.raises(NotFoundError):
        async with client.open_export("no/such:1") as archive:
            async for _ in archive:
                pass
            pytest.fail("the end came without the error")
    with pytest.raises(NotFoundError):
        async with client.open_export("no/such:1"):
            await anyio.sleep(0.3)


@pytest.mark.lines("1.7", "2.1")
async def test_a_daemon_is_not_asked_what_it_cannot(client: Client, busybox: Image):
    """Options that only we know are refused with via="transfer"; an image that is not here is missed all the same."""
    with pytest.raises(InvalidArgumentError, match='via="client"'):
        await exported(client, busybox, via="transfer", skip_missing=True)
    await client.images.delete(busybox.name)
    with pytest.raises(NotFoundError):
        await exported(client, busybox, via="transfer")
    await client.images.create(ImageRecord(name=busybox.name, target=busybox.target))


@ON_2
async def test_an_import_says_when_it_has_not_ended(client: Client):
    """The result is there at the end, not before."""
    async with client.open_import(chunked(b"")) as importing:
        with pytest.raises(FailedPreconditionError, match="has not ended"):
            assert importing.images
        with pytest.raises(InvalidArgumentError):
            await importing.wait()
