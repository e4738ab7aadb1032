"""Archives on their way between us, ctr, skopeo and the daemon itself: whoever made one, everybody reads it."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from anyio import to_thread

from containerd_py import Client, Image, NotSupportedError, connect, deleting
from containerd_py.testing.images import busybox_layout, this_platform
from tests.conftest import Ctr, SeededImages
from tests.integration.pulled import Left, left_in
from tests.unit.tars import Layout, dump, plain

Skopeo = Callable[..., Awaitable[None]]
ARM = "linux/arm64/v8"
ON_2 = pytest.mark.lines("2.1")  # what the daemon has no part in


@pytest.fixture
def skopeo() -> Skopeo:
    """Copy an image with skopeo: `await skopeo(source, destination)`."""

    async def copy(*arguments: str) -> None:
        command = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", *arguments]
        done = await to_thread.run_sync(lambda: subprocess.run(command, capture_output=True, check=False, timeout=60))
        assert done.returncode == 0, done.stderr.decode()

    return copy


@pytest.fixture
def local(daemon_line: str) -> list[str]:
    """Have ctr import and export by itself, where it would else leave that to the daemon."""
    return [] if daemon_line == "1.6" else ["--local"]


async def collect(client: Client) -> None:
    """Have everything collected that nothing keeps."""
    lease = await client.leases.create("collects")
    await client.leases.delete(lease.id, synchronous=True)


async def clear(client: Client) -> None:
    """Delete all images and what they held."""
    for record in await client.images.list():
        await client.images.delete(record.name)
    await collect(client)


async def what_is_left(client: Client) -> Left:
    """List what an import has left once the garbage is gone, but for the snapshot label that only we set."""
    await collect(client)
    return (await left_in(client)).without_snapshot_labels()


async def says_hello(client: Client, image: Image) -> bool:
    """Run a command in the image."""
    return (await client.run(image, ["/bin/echo", "hello"])).stdout.strip().endswith(b"hello")


# ── round trips ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "form"),
    [("busybox", "gzip"), ("layered", "plain"), ("docker", "stream"), ("index", "folder"), ("index", "zstd")],
)
async def test_what_was_exported_is_imported_and_runs(
    client: Client, seeded_images: SeededImages, tmp_path: Path, kind: str, form: str
):
    """Pull, export, delete, import, run: the image is the same, in every form that an archive has."""
    ref = getattr(seeded_images, kind)
    before = await client.pull(ref, via="client")
    path = tmp_path / "archive"
    if form == "stream":
        async with client.open_export(ref) as chunks:
            held = [chunk async for chunk in chunks]
    else:
        (tmp_path / "archive").mkdir() if form == "folder" else None
        await client.export_images(ref, path, compression=form if form in {"gzip", "zstd"} else "none")
    await before.delete(synchronous=True)
    assert not await client.content.list()

    async def stream():
        for chunk in held:
            yield chunk

    (image,) = await client.import_images(stream() if form == "stream" else path)
    assert (image.name, image.target.digest, image.target.size) == (ref, before.target.digest, before.target.size)
    assert await image.is_unpacked()
    async with deleting(image):
        assert await says_hello(client, image)


async def test_an_archive_goes_straight_from_namespace_to_namespace(
    client: Client, daemon, seeded_images: SeededImages
):
    """An export can be imported while it is made; content that another namespace has is taken over."""
    await client.pull(seeded_images.layered, via="client")
    async with connect(daemon.address, namespace=f"{client.namespace}-2") as other:
        async with client.open_export(seeded_images.layered) as archive:
            (image,) = await other.import_images(archive)
        assert await says_hello(other, image)
        await clear(other)
        await other.namespaces.delete(other.namespace)
    await clear(client)


async def test_an_export_is_the_same_each_time(client: Client, seeded_images: SeededImages, tmp_path: Path):
    """Exported twice, and once more after an import of the export: byte for byte the same."""
    refs = [seeded_images.layered, seeded_images.index]
    for ref in refs:
        await client.pull(ref, via="client", all_platforms=True)
    await client.export_images(refs, tmp_path / "1", all_platforms=True)
    await client.export_images(refs, tmp_path / "2", all_platforms=True)
    await clear(client)
    await client.import_images(tmp_path / "1", all_platforms=True)
    await client.export_images(refs, tmp_path / "3", all_platforms=True)
    await clear(client)
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.iterdir()}) == 1


# ── ctr ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.lines("1.7", "2.1")
@pytest.mark.parametrize("kind", ["layered", "docker", "index"])
async def test_an_export_has_the_bytes_of_ctrs(
    client: Client, ctr: Ctr, seeded_images: SeededImages, tmp_path: Path, local, kind
):
    """The archive is the one that `ctr image export` makes, with where the image came from and all."""
    ref = getattr(seeded_images, kind)
    await client.pull(ref, via="client", all_platforms=True)
    for options, arguments in (
        ({}, []),
        ({"all_platforms": True}, ["--all-platforms"]),
        ({"docker_manifest": False}, ["--skip-manifest-json"]),
        ({"via": "transfer"}, []),
    ):
        await ctr("images", "export", *local, *arguments, str(tmp_path / "theirs"), ref)
        await client.export_images(ref, tmp_path / "ours", **options)
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes(), options
    await clear(client)


@pytest.mark.parametrize("kind", ["layered", "docker", "index"])
async def test_ctr_imports_what_we_export(
    client: Client, ctr: Ctr, seeded_images: SeededImages, tmp_path: Path, local, kind: str
):
    """What ctr makes of our archive is what we make of it: records, content, snapshots and all labels."""
    ref = getattr(seeded_images, kind)
    await client.pull(ref, via="client")
    await client.export_images(ref, tmp_path / "archive.tar")
    await clear(client)
    await ctr("images", "import", *local, str(tmp_path / "archive.tar"))
    theirs = await what_is_left(client)
    await clear(client)
    (image,) = await client.import_images(tmp_path / "archive.tar")
    ours = await what_is_left(client)
    assert ours == theirs
    assert (ours.leases, ours.ingests, ours.unfinished) == (0, 0, 0)
    await image.delete()


@pytest.mark.parametrize("kind", ["layered", "docker", "index"])
async def test_we_import_what_ctr_exports(
    client: Client, ctr: Ctr, seeded_images: SeededImages, tmp_path: Path, local, kind: str
):
    """ctr's own archive is an image that runs. (Of a transfer ctr 2.1 loses the end now and then.)"""
    ref = getattr(seeded_images, kind)
    await client.pull(ref, via="client")
    await ctr("images", "export", *local, str(tmp_path / "archive.tar"), ref)
    await clear(client)
    (image,) = await client.import_images(tmp_path / "archive.tar")
    async with deleting(image):
        assert image.name == ref
        assert await says_hello(client, image)


# ── skopeo ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_docker_archive_of_skopeos_is_what_ctr_makes_of_it(
    client: Client, ctr: Ctr, skopeo: Skopeo, seeded_images: SeededImages, tmp_path: Path, local
):
    """A docker-save archive gets the manifest, the name and the labels that ctr gives it, and runs."""
    archive = tmp_path / "docker.tar"
    await skopeo(f"docker://{seeded_images.layered}", f"docker-archive:{archive}:saved:1")
    await ctr("images", "import", *local, str(archive))
    theirs = await what_is_left(client)
    await clear(client)
    (image,) = await client.import_images(archive)
    assert image.name == "docker.io/library/saved:1"
    assert await what_is_left(client) == theirs
    async with deleting(image):
        assert (await image.config()).user == "app"
        assert await says_hello(client, image)


async def test_layers_that_are_here_compressed_are_used(
    client: Client, ctr: Ctr, skopeo: Skopeo, seeded_images: SeededImages, tmp_path: Path, local
):
    """Plain layers of an archive whose compressed form the store has are not kept twice; ctr does the same."""
    archive = tmp_path / "docker.tar"
    await skopeo(f"docker://{seeded_images.layered}", f"docker-archive:{archive}:saved:1")
    pulled = await client.pull(seeded_images.layered, via="client")
    await ctr("images", "import", *local, str(archive))
    theirs = await what_is_left(client)
    await client.images.delete("docker.io/library/saved:1", synchronous=True)
    (image,) = await client.import_images(archive)
    assert await what_is_left(client) == theirs
    layers = [layer.digest for layer in (await pulled.manifest()).layers]
    assert [layer.digest for layer in (await image.manifest()).layers] == layers
    await clear(client)


@ON_2
async def test_plain_layers_can_be_compressed(
    client: Client, skopeo: Skopeo, seeded_images: SeededImages, tmp_path: Path
):
    """`compress_layers` keeps gzip instead of plain layers, which unpack to the same."""
    archive = tmp_path / "docker.tar"
    await skopeo(f"docker://{seeded_images.layered}", f"docker-archive:{archive}:saved:1")
    (plain_one,) = await client.import_images(archive)
    chain_id = await plain_one.chain_id()
    await clear(client)
    (image,) = await client.import_images(archive, compress_layers=True)
    await collect(client)
    for layer in (await image.manifest()).layers:
        data = await client.read_blob(layer)
        assert layer.media_type == "application/vnd.docker.image.rootfs.diff.tar.gzip"
        assert f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}" in await image.diff_ids()
    assert await image.chain_id() == chain_id
    assert len(await client.content.list()) == 2 + len({*await image.diff_ids()})
    async with deleting(image):
        assert await says_hello(client, image)


@ON_2
@pytest.mark.parametrize("kind", ["layered", "index"])
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive", "oci"])
async def test_skopeo_reads_what_we_export(
    client: Client, skopeo: Skopeo, seeded_images: SeededImages, tmp_path: Path, kind: str, form: str
):
    """skopeo takes our archive for an OCI archive and for one of Docker's, and our folder for a layout."""
    ref = getattr(seeded_images, kind)
    async with deleting(await client.pull(ref, via="client")) as image:
        (tmp_path / "from").mkdir() if form == "oci" else None
        await client.export_images(image, tmp_path / "from")
        await skopeo(f"{form}:{tmp_path / 'from'}", f"dir:{tmp_path / 'to'}")
        manifest = json.loads((tmp_path / "to" / "manifest.json").read_bytes())
        layers = (await image.manifest()).layers
        expected = [layer.digest for layer in layers] if form != "docker-archive" else await image.diff_ids()
        assert [layer["digest"] for layer in manifest["layers"]] == expected


@ON_2
@pytest.mark.parametrize("form", ["oci-archive", "oci"])
async def test_we_read_what_skopeo_makes(
    client: Client, skopeo: Skopeo, seeded_images: SeededImages, tmp_path: Path, form: str
):
    """A layout of skopeo's, whose index gives no more than a tag, gets the base name."""
    path = tmp_path / "made"
    await skopeo(f"docker://{seeded_images.busybox}", f"{form}:{path}:v1")
    (image,) = await client.import_images(path, base_name="example.com/app")
    async with deleting(image):
        assert image.name == "example.com/app:v1"
        assert await says_hello(client, image)


# ── platforms and compression of layers ─────────────────────────────────────────────────────────────────────────────


async def test_an_index_keeps_what_was_exported(client: Client, seeded_images: SeededImages, tmp_path: Path):
    """All platforms, one, and another one: what is in the archive is what can be imported from it."""
    ref = seeded_images.index
    layout = seeded_images.layouts[ref]
    await client.pull(ref, via="client", all_platforms=True)
    await client.export_images(ref, tmp_path / "all.tar", all_platforms=True)
    await client.export_images(ref, tmp_path / "arm.tar", platform=ARM)
    await clear(client)
    manifests = {manifest.platform.architecture: manifest.digest for manifest in layout.manifests}
    here = this_platform().architecture
    for archive, options, kept in (
        ("all.tar", {}, {here}),
        ("all.tar", {"platform": ARM, "unpack": False}, {"arm64"}),
        ("all.tar", {"all_platforms": True}, {here, "arm64"}),
        ("arm.tar", {"platform": ARM, "unpack": False}, {"arm64"}),
    ):
        (image,) = await client.import_images(tmp_path / archive, **options)
        assert image.target.digest == layout.target.digest
        await collect(client)
        stored = {info.digest for info in await client.content.list()}
        assert {architecture for architecture, digest in manifests.items() if digest in stored} == kept
        if options.get("unpack", True):
            assert await image.is_unpacked()
        await clear(client)


async def test_layers_of_zstd_are_imported(client: Client, tmp_path: Path):
    """An image whose layers are compressed with zstd is imported, unpacked and run, and goes out as it came."""
    busybox = busybox_layout(tmp_path / "plain", compression="none")
    manifest = json.loads((tmp_path / "plain" / "blobs" / "sha256" / busybox.target.digest[7:]).read_bytes())
    (layer,) = manifest["layers"]
    tar = (tmp_path / "plain" / "blobs" / "sha256" / layer["digest"][7:]).read_bytes()
    packed = subprocess.run(["zstd", "-c"], input=tar, capture_output=True, check=True).stdout
    config = (tmp_path / "plain" / "blobs" / "sha256" / manifest["config"]["digest"][7:]).read_bytes()
    layout = Layout()
    media_type = "application/vnd.oci.image.layer.v1.tar+zstd"
    document = {
        **manifest,
        "config": layout.blob(manifest["config"]["mediaType"], config),
        "layers": [layout.blob(media_type, packed)],
    }
    layout.entries.append(
        layout.blob(
            "application/vnd.oci.image.manifest.v1+json",
            dump(document),
            annotations={"io.containerd.image.name": "example.com/zstd:1"},
        )
    )
    (tmp_path / "zstd.tar").write_bytes(layout.tar())
    (image,) = await client.import_images(tmp_path / "zstd.tar")
    async with deleting(image):
        assert await says_hello(client, image)
        await client.export_images(image, f"{tmp_path}/folder/")
        assert (tmp_path / "folder" / "blobs" / "sha256" / plain("", packed)["digest"][7:]).read_bytes() == packed


# ── the daemon's own way ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.lines("1.7", "2.1")
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
async def test_transfers_import_and_export(client: Client, seeded_images: SeededImages, tmp_path: Path, compression):
    """What the daemon imports itself is the same image as if we did, unpacked and all; so is what it exports."""
    refs = [seeded_images.layered, seeded_images.index]
    for ref in refs:
        await client.pull(ref, via="client")
    for ref in refs:  # of several images the daemon lists Docker's in any order
        await client.export_images(ref, tmp_path / "ours", compression=compression)
        await client.export_images(ref, tmp_path / "theirs", compression=compression, via="transfer")
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    await client.export_images(refs, tmp_path / "ours", compression=compression, via="transfer")
    await client.export_images(refs, f"{tmp_path}/folder/", via="transfer")
    assert not (tmp_path / "folder" / "manifest.json").exists()
    await clear(client)
    async with client.open_import(tmp_path / "ours", via="transfer") as importing:
        events = [progress.event async for progress in importing]
    assert events[0] == "Importing"
    assert "Completed import" in events
    assert [image.name for image in importing.images] == refs
    for image in importing.images:
        assert await image.is_unpacked()
        assert await says_hello(client, image)
    left = await left_in(client)
    assert (left.leases, left.ingests, left.unfinished) == (0, 0, 0)
    await clear(client)


@pytest.mark.lines("1.6")
async def test_an_old_daemon_transfers_nothing(client: Client, busybox: Image, tmp_path: Path):
    """Before containerd 1.7 there is no such service, and the error says so."""
    await client.export_images(busybox, tmp_path / "archive.tar")
    with pytest.raises(NotSupportedError):
        await client.import_images(tmp_path / "archive.tar", via="transfer")
    with pytest.raises(NotSupportedError):
        await client.export_images(busybox, tmp_path / "other.tar", via="transfer")
    assert [path.name for path in tmp_path.iterdir()] == ["archive.tar"]
