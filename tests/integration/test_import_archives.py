"""What imports accept, what they make of it, and that nothing is kept of what they refuse; next to ctr's verdicts."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from containerd_py import ArchiveError, Client, connect
from containerd_py.archives.limits import ArchiveLimits
from containerd_py.errors import (
    ContainerdError,
    DataLossError,
    DigestMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    SizeMismatchError,
)
from tests.conftest import Ctr
from tests.harness.leaks import assert_namespace_empty
from tests.unit.tars import Layout, archive, chunked, docker_archive, dump, header, member, tar_layer

ON_2 = pytest.mark.lines("2.1")  # what the daemon has no part in
NAME = "example.com/made:1"
LARGE = tar_layer("large", os.urandom(100_000))  # too large to be held in hand
INDEX = "application/vnd.oci.image.index.v1+json"
ARM = {"architecture": "arm64", "os": "linux"}
AMD = {"architecture": "amd64", "os": "linux"}


def tar_of(files: dict[str, bytes]) -> bytes:
    """Make an archive of files."""
    return archive(*(member(path, data) for path, data in files.items()))


async def delete_all(client: Client) -> None:
    for record in await client.images.list():
        await client.images.delete(record.name, synchronous=True)


async def names(client: Client) -> list[str]:
    return sorted(record.name for record in await client.images.list())


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────────────


def _layout(change: Callable[[Layout], object] | None = None, **image: Any) -> bytes:
    made = Layout()
    made.image(layers=[tar_layer(), LARGE], **image)
    if change is not None:
        change(made)
    return made.tar()


def _replace_large(made: Layout) -> None:
    path = next(path for path, data in made.blobs.items() if data == LARGE)
    made.blobs[path] = LARGE[:-1] + b"x"


def _replace_small(made: Layout) -> None:
    path = next(path for path, data in made.blobs.items() if data == tar_layer())
    made.blobs[path] = tar_layer()[:-1] + b"x"


def _shorten_large(made: Layout) -> None:
    path = next(path for path, data in made.blobs.items() if data == LARGE)
    made.blobs[path] = LARGE[:-1]


def _lie_about_size(made: Layout) -> None:
    made.entries[0]["size"] = 5


def _drop(suffix: bytes) -> Callable[[Layout], None]:
    def change(made: Layout) -> None:
        made.blobs.pop(next(path for path, data in made.blobs.items() if suffix in data))

    return change


def _deep(made: Layout) -> None:
    described = made.entries.pop()
    for _ in range(40):
        described = made.blob(INDEX, dump({"schemaVersion": 2, "manifests": [described]}))
    made.entries.append(described)


def _name(name: str) -> bytes:
    return _layout(name=name)


OCI = _layout()
FILES = {**Layout().files()}
DOCKER = docker_archive()
REFUSED = {
    # damaged
    "truncated": (OCI[:-1], ArchiveError, "truncated"),
    "truncated in a blob": (OCI[: OCI.index(LARGE[600:700])], ArchiveError, "truncated"),
    "no end": (OCI[:-1024], ArchiveError, "no end marker"),
    "half an end": (OCI[:-512], ArchiveError, "no end marker"),
    "nothing": (b"", ArchiveError, "truncated"),
    "zeros": (bytes(10240), ArchiveError, "holds no images"),
    "no tar": (b"no archive at all " * 100, ArchiveError, "no tar header"),
    "goes on": (OCI + member("more"), ArchiveError, "goes on after its end"),
    "8 TiB": (OCI[:-1024] + header("big", size=b"\x80" + (2**43).to_bytes(11, "big")), ArchiveError, "larger than"),
    "negative": (OCI[:-1024] + header("big", size=b"\xff" * 12), ArchiveError, "negative"),
    # paths
    "traversal": (OCI[:-1024] + archive(member("../../evil", b"x")), ArchiveError, r"\.\."),
    "absolute": (OCI[:-1024] + archive(member("/tmp/evil", b"x")), ArchiveError, "absolute"),
    "link out": (OCI[:-1024] + archive(member("a", flag=b"2", link="../../etc")), ArchiveError, "leads out"),
    "device": (OCI[:-1024] + archive(member("a", flag=b"3")), ArchiveError, "character device"),
    "FIFO": (OCI[:-1024] + archive(member("a", flag=b"6")), ArchiveError, "FIFO"),
    "duplicate": (OCI[:-1024] + archive(member("index.json", b"{}")), ArchiveError, "twice"),
    "duplicate blob": (_layout()[:-1024] + OCI, ArchiveError, "twice"),
    # content
    "wrong large blob": (_layout(_replace_large), DigestMismatchError, "in the archive"),
    "wrong small blob": (_layout(_replace_small), DigestMismatchError, "in the archive"),
    "short blob": (_layout(_shorten_large), DataLossError, "in the archive"),
    "wrong size": (_layout(_lie_about_size), SizeMismatchError, "said to have 5"),
    "missing layer": (_layout(_drop(LARGE)), NotFoundError, "neither in the archive"),
    "missing config": (_layout(_drop(b'"rootfs"')), NotFoundError, "neither in the archive"),
    "missing manifest": (_layout(_drop(b'"layers": [{')), NotFoundError, "neither in the archive"),
    # documents
    "no layout": (tar_of({"a": b"b"}), ArchiveError, "neither oci-layout nor manifest.json"),
    "other version": (
        _layout(lambda made: setattr(made, "layout", b'{"imageLayoutVersion":"2.0.0"}')),
        ArchiveError,
        "2.0",
    ),
    "no index": (tar_of({"oci-layout": FILES["oci-layout"]}), ArchiveError, "without index.json"),
    "index a link": (
        archive(member("oci-layout", FILES["oci-layout"]), member("index.json", flag=b"2", link="blobs/x")),
        ArchiveError,
        "index.json is a symbolic link",
    ),
    "empty index": (Layout().tar(), ArchiveError, "holds no images"),
    "index no JSON": (_layout(lambda made: setattr(made, "index", b"{")), ArchiveError, "index"),
    "index ambiguous": (
        _layout(lambda made: setattr(made, "index", b'{"schemaVersion":2,"manifests":[],"Manifests":[]}')),
        ArchiveError,
        "case|spelled",
    ),
    "index a manifest": (
        _layout(lambda made: setattr(made, "index", b'{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}')),
        ArchiveError,
        "found a manifest",
    ),
    "nested": (_layout(_deep), InvalidArgumentError, "nested more than 32"),
    "schema 1": (
        _layout(lambda made: made.entries[0].update(mediaType="application/vnd.docker.distribution.manifest.v1+json")),
        InvalidArgumentError,
        "schema 1",
    ),
    "manifest as index": (_layout(lambda made: made.entries[0].update(mediaType=INDEX)), InvalidArgumentError, "index"),
    "large JSON": (
        tar_of({**FILES, "manifest.json": b"[" + b" " * 21 * 2**20}),
        ArchiveError,
        "more than the 20971520",
    ),
    # names and platforms
    "hostile name": (_name("a b\n"), ArchiveError, "no name for an image"),
    "long name": (_name("x" * 2000), ArchiveError, "no name for an image"),
    "nameless": (_layout(name=None), ArchiveError, "names none of its images"),
    "other platform": (_layout(platform={"architecture": "s390x", "os": "linux"}), NotFoundError, "linux/s390x"),
    # docker
    "docker no config": (tar_of({"manifest.json": b'[{"Config":"c","Layers":[]}]'}), ArchiveError, "configuration 'c'"),
    "docker no layer": (
        tar_of({path: data for path, data in DOCKER.items() if not path.endswith("layer.tar")}),
        ArchiveError,
        "the layer",
    ),
    "docker bad tag": (tar_of(docker_archive("Not:A:Name")), ArchiveError, "no image reference"),
    "docker dangling link": (
        archive(*(member(path, data) for path, data in DOCKER.items()), member("x", flag=b"2", link="y")),
        ArchiveError,
        "which is not in the archive",
    ),
    "docker link circle": (
        archive(member("manifest.json", b"[]"), member("x", flag=b"2", link="y"), member("y", flag=b"2", link="x")),
        ArchiveError,
        "links lead from",
    ),
    "docker no images": (tar_of({"manifest.json": b"[]"}), ArchiveError, "holds no images"),
}


@contextmanager
def named(case: str) -> Iterator[None]:
    """Say in a failure which case it was."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"case: {case}")
        raise


async def test_what_is_refused_leaves_nothing(client: Client, daemon, tmp_path: Path):
    """A damaged or hostile archive raises what it should, and the namespace is as empty as before."""
    for case, (data, error, words) in REFUSED.items():
        (tmp_path / "archive.tar").write_bytes(data)
        with named(case):
            with anyio.fail_after(30), pytest.raises(error, match=words):
                await client.import_images(tmp_path / "archive.tar")
            assert [path.name for path in tmp_path.iterdir()] == ["archive.tar"]
            await assert_namespace_empty(daemon, client.namespace)


async def test_layers_that_unpack_to_something_else_leave_nothing(client: Client, daemon):
    """A layer that is no tar, or not what the configuration says, fails the unpacking, and no record is there."""
    made = Layout()
    made.image(layers=[b"no tar at all " * 100])
    with pytest.raises(ContainerdError):
        await client.import_images(chunked(made.tar()))
    await assert_namespace_empty(daemon, client.namespace)


@ON_2
async def test_limits_are_the_callers_to_raise_and_lower(client: Client):
    """What exceeds the limits that were given is refused, and no more than that."""
    with pytest.raises(ArchiveError, match="more than 3 members"):
        await client.import_images(chunked(OCI), limits=ArchiveLimits(members=3))
    (image,) = await client.import_images(chunked(OCI), limits=ArchiveLimits(members=6))
    await image.delete(synchronous=True)


@ON_2
async def test_a_failing_stream_fails_the_import(client: Client, daemon):
    """What the source raises comes out as it is."""

    async def broken():
        yield OCI[:5000]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await client.import_images(broken())
    await assert_namespace_empty(daemon, client.namespace)


@ON_2
async def test_folders_are_read_without_following_links(client: Client, daemon, tmp_path: Path):
    """A layout whose blob is a link or a FIFO is refused, and what lies outside is not read."""
    made = Layout()
    made.image()
    secret = tmp_path / "secret"
    for number, (kind, words) in enumerate((("link", "link"), ("fifo", "regular"), ("wrong", "has digest"))):
        folder = tmp_path / str(number)
        for path, data in made.files().items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        blob = folder / next(path for path, data in made.blobs.items() if data == tar_layer())
        secret.write_bytes(blob.read_bytes())
        blob.unlink()
        match kind:
            case "link":
                blob.symlink_to(secret)
            case "fifo":
                os.mkfifo(blob)
            case "wrong":
                blob.write_bytes(tar_layer()[:-1] + b"x")
        with anyio.fail_after(5), pytest.raises((ArchiveError, DigestMismatchError), match=words):
            await client.import_images(folder)
    await assert_namespace_empty(daemon, client.namespace)


# ── ctr's verdicts ──────────────────────────────────────────────────────────────────────────────────────────────────

STRICTER = {  # what ctr takes and we do not: other readers could see something else in it, or it is not whole
    "truncated",
    "no end",
    "half an end",
    "goes on",
    "traversal",
    "absolute",
    "link out",
    "device",
    "FIFO",
    "duplicate",
    "duplicate blob",
    "index ambiguous",
    "nested",
    "hostile name",
    "long name",
    "nameless",
    "missing layer",
    "missing config",
    "wrong large blob",
    "wrong small blob",
    "short blob",
    "wrong size",
    "schema 1",
    "docker link circle",
}


async def test_ctr_refuses_what_we_refuse(client: Client, daemon_line: str, daemon_bin: Path, daemon, tmp_path: Path):
    """Where we are stricter than ctr is a list that is known; everything else it refuses as well."""
    local = [] if daemon_line == "1.6" else ["--local"]
    command = [daemon_bin / "ctr", "--address", daemon.address, "--namespace", client.namespace, "images", "import"]
    command += [*local, "--no-unpack", str(tmp_path / "archive.tar")]
    taken = set()
    for case, (data, _, _) in REFUSED.items():
        (tmp_path / "archive.tar").write_bytes(data)
        with anyio.fail_after(30), named(case):
            done = await anyio.run_process([str(part) for part in command], check=False)
        if done.returncode == 0 and await names(client):
            taken.add(case)
        await delete_all(client)
    assert taken <= STRICTER


@pytest.mark.parametrize("way", ["OCI", "docker", "both", "legacy links", "dots", "hard links", "gzip layers"])
async def test_we_take_what_ctr_takes(client: Client, ctr: Ctr, daemon_line: str, tmp_path: Path, way: str):
    """Layouts, Docker's archives old and new, both in one: the names and digests are those of ctr."""
    made = Layout()
    made.image(layers=[tar_layer(), LARGE])
    saved = docker_archive(layers=[tar_layer(), LARGE])
    layer_path = next(path for path, data in saved.items() if data == LARGE)
    match way:
        case "OCI":
            data = made.tar()
        case "docker":
            data = tar_of(saved)
        case "both":
            data = tar_of({**made.files(), **saved})
        case "legacy links":
            moved = {("real.tar" if path == layer_path else path): data for path, data in saved.items()}
            link = member(layer_path, flag=b"2", link="../real.tar")
            data = archive(link, *(member(path, data) for path, data in moved.items()))
        case "hard links":
            moved = {("real.tar" if path == layer_path else path): data for path, data in saved.items()}
            link = member(layer_path, flag=b"1", link="real.tar")
            data = archive(*(member(path, data) for path, data in moved.items()), link)
        case "dots":
            data = archive(member("./", flag=b"5"), *(member(f"./{path}", data) for path, data in made.files().items()))
        case "gzip layers":
            packed = {path: gzip.compress(data) if path.endswith("layer.tar") else data for path, data in saved.items()}
            data = tar_of(packed)
    (tmp_path / "archive.tar").write_bytes(data)
    local = [] if daemon_line == "1.6" else ["--local"]
    if way != "hard links":  # which ctr does not know
        await ctr("images", "import", *local, "--no-unpack", str(tmp_path / "archive.tar"))
    theirs = {record.name: record.target for record in await client.images.list()}
    await delete_all(client)
    images = await client.import_images(tmp_path / "archive.tar")
    assert {image.name: (await image.record()).target for image in images} == theirs or way == "hard links"
    assert all([await image.is_unpacked() for image in images])
    await delete_all(client)


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def named_layout() -> tuple[Layout, dict[str, str]]:
    """Make a layout with a whole name, a tag, a whole name as a tag, and no name; return it and digests by kind."""
    made = Layout()
    digests = {}
    for kind, called in {
        "whole": {"io.containerd.image.name": "example.com/app:whole"},
        "tag": {"org.opencontainers.image.ref.name": "tagged"},
        "full ref": {"org.opencontainers.image.ref.name": "example.com/app/part:2"},
        "none": {},
    }.items():
        entry = made.image(None, layers=[tar_layer(kind)], annotations=called)
        digests[kind] = str(entry["digest"])
    return made, digests


@ON_2
async def test_names_come_from_annotations(client: Client):
    """Whole names are taken, tags get a base name, and what has no name is not kept."""
    made, digests = named_layout()
    images = await client.import_images(chunked(made.tar()), labels={"a": "b"})
    day = time.strftime("import-%Y-%m-%d")
    assert {image.name: image.target.digest for image in images} == {
        "example.com/app:whole": digests["whole"],
        f"{day}:tagged": digests["tag"],
        "example.com/app/part:2": digests["full ref"],
    }
    assert {**(await images[0].record()).labels} == {"a": "b"}
    await delete_all(client)


@ON_2
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"base_name": "example.com/app"},
            ["example.com/app/part:2", "example.com/app:tagged", "example.com/app:whole"],
        ),
        ({"base_name": "other.com/x"}, ["other.com/x:tagged"]),
        ({"translate_name": lambda ref: f"x/{ref}" if ref == "tagged" else ""}, ["example.com/app:whole", "x/tagged"]),
        (
            {"base_name": "other.com/x", "digest_names": "unnamed"},
            ["other.com/x:tagged", "other.com/x@full ref", "other.com/x@none", "other.com/x@whole"],
        ),
        (
            {"base_name": "other.com/x", "digest_names": "always", "index_name": "index"},
            ["index", "other.com/x:tagged", *(f"other.com/x@{kind}" for kind in ("full ref", "none", "tag", "whole"))],
        ),
    ],
)
async def test_names_can_be_chosen(client: Client, options: dict[str, Any], expected: list[str]):
    """A base name, a translation, digests and a name for the index."""
    made, digests = named_layout()
    kinds = {digest: kind for kind, digest in digests.items()}
    images = await client.import_images(chunked(made.tar()), **options)
    found = [image.name for image in images]
    for digest, kind in kinds.items():
        found = [name.replace(digest, kind) for name in found]
    assert sorted(found) == expected
    assert await names(client) == sorted(image.name for image in images)
    await delete_all(client)


@pytest.mark.lines("1.7", "2.1")
async def test_transfers_choose_the_same_names(client: Client):
    """The daemon gives the same names for the same options."""
    made, _ = named_layout()
    for options in ({}, {"base_name": "example.com/app"}, {"base_name": "example.com/app", "digest_names": "unnamed"}):
        ours = [image.name for image in await client.import_images(chunked(made.tar()), **options)]
        await delete_all(client)
        theirs = [image.name for image in await client.import_images(chunked(made.tar()), via="transfer", **options)]
        await delete_all(client)
        assert ours == theirs, options


async def test_an_index_can_be_kept(client: Client, daemon):
    """The archive's own index is an image of all its images, and keeps them."""
    made, digests = named_layout()
    await client.import_images(chunked(made.tar()), index_name="example.com/all:1")
    for name in await names(client):
        if name != "example.com/all:1":
            await client.images.delete(name)
    lease = await client.leases.create("collects")
    await client.leases.delete(lease.id, synchronous=True)
    assert {*digests.values()} <= {info.digest for info in await client.content.list()}
    await delete_all(client)
    await assert_namespace_empty(daemon, client.namespace)


@ON_2
@pytest.mark.parametrize(
    "options",
    [
        {"via": "magic"},
        {"digest_names": "sometimes", "base_name": "x"},
        {"digest_names": "always"},
        {"base_name": "x", "translate_name": str},
        {"all_platforms": True, "platform": "linux/arm64"},
        {"discard_unpacked_layers": True, "unpack": False},
        {"labels": {"": "x"}},
    ],
)
async def test_options_that_contradict_are_refused(client: Client, options: dict[str, Any]):
    """Before anything is read."""

    async def untouched():
        pytest.fail("the archive was read")
        yield b""

    with pytest.raises(InvalidArgumentError):
        await client.import_images(untouched(), **options)


@pytest.mark.lines("1.7", "2.1")
@pytest.mark.parametrize(
    "options",
    [
        {"translate_name": str},
        {"skip_missing": True},
        {"discard_unpacked_layers": True},
        {"limits": ArchiveLimits(members=5)},
    ],
)
async def test_a_daemon_is_not_asked_what_it_cannot(client: Client, options: dict[str, Any], tmp_path: Path):
    """Options that only we know are refused with via="transfer", and so is a folder."""
    with pytest.raises(InvalidArgumentError, match='via="client"'):
        await client.import_images(chunked(OCI), via="transfer", **options)
    with pytest.raises(InvalidArgumentError, match='via="client"'):
        await client.import_images(tmp_path, via="transfer")


# ── what is kept ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_missing_content_can_be_skipped(client: Client, daemon):
    """With skip_missing an image that lacks a layer is there, packed, and one that lacks itself is not."""
    made = Layout()
    made.image("example.com/whole:1", layers=[tar_layer("a")])
    made.image("example.com/lacking:1", layers=[tar_layer("b"), LARGE])
    gone = made.image("example.com/gone:1", layers=[tar_layer("c")])
    made.blobs.pop(f"blobs/sha256/{str(gone['digest'])[7:]}")
    made.blobs.pop(next(path for path, data in made.blobs.items() if data == LARGE))
    with pytest.raises(NotFoundError):
        await client.import_images(chunked(made.tar()))
    await assert_namespace_empty(daemon, client.namespace)
    images = {image.name: image for image in await client.import_images(chunked(made.tar()), skip_missing=True)}
    assert set(images) == {"example.com/whole:1", "example.com/lacking:1"}
    assert await images["example.com/whole:1"].is_unpacked()
    assert not await images["example.com/lacking:1"].is_unpacked()
    assert (await images["example.com/lacking:1"].usage()).missing == len(LARGE)
    await delete_all(client)


async def test_content_that_is_here_counts(client: Client):
    """An archive that lacks what the store has is whole."""
    made = Layout()
    made.image("example.com/first:1", layers=[LARGE])
    await client.import_images(chunked(made.tar()))
    made.entries.clear()
    made.image("example.com/second:1", layers=[LARGE, tar_layer()])
    made.blobs.pop(next(path for path, data in made.blobs.items() if data == LARGE))
    (image,) = await client.import_images(chunked(made.tar()))
    assert image.name == "example.com/second:1"
    await client.images.delete("example.com/first:1", synchronous=True)
    assert (await image.usage()).missing == 0
    await delete_all(client)


async def test_layers_can_be_let_go(client: Client):
    """With discard_unpacked_layers the snapshots stay and the layers do not."""
    (image,) = await client.import_images(chunked(OCI), discard_unpacked_layers=True)
    lease = await client.leases.create("collects")
    await client.leases.delete(lease.id, synchronous=True)
    assert await image.is_unpacked()
    usage = await image.usage()
    assert usage.missing == sum(layer.size for layer in (await image.manifest()).layers)
    await delete_all(client)


@ON_2
async def test_layers_that_nobody_hands_on_may_be_missing(client: Client):
    """A foreign layer's content need not come with the archive."""
    made = Layout()
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    made.image(layers=[LARGE], layer_type=foreign)
    made.blobs.pop(next(path for path, data in made.blobs.items() if data == LARGE))
    (image,) = await client.import_images(chunked(made.tar()), unpack=False)
    assert image.name == NAME
    await delete_all(client)


@ON_2
async def test_artifacts_are_imported_and_not_unpacked(client: Client):
    """What has no image configuration has nothing to unpack."""
    made = Layout()
    empty = made.blob("application/vnd.oci.empty.v1+json", b"{}")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "text/plain",
        "config": empty,
        "layers": [made.blob("text/plain", b"hello"), made.blob("text/plain", b"")],
    }
    named = {"io.containerd.image.name": "example.com/artifact:1"}
    made.entries.append(made.blob("application/vnd.oci.image.manifest.v1+json", dump(manifest), annotations=named))
    (image,) = await client.import_images(chunked(made.tar()))
    hello, nothing = (await image.manifest()).layers
    assert (await client.read_blob(hello), nothing.size) == (b"hello", 0)
    async with client.open_export(image) as exported:
        (again,) = await client.import_images(exported)
    assert again.target.digest == image.target.digest
    await delete_all(client)


@ON_2
async def test_images_for_other_platforms_are_left_out(client: Client):
    """Of several images those for the platform are kept; the error says what there was if there is none."""
    made = Layout()
    made.image("example.com/arm:1", layers=[tar_layer("a")], platform=ARM)
    made.image("example.com/amd:1", layers=[tar_layer("b")], platform=AMD)
    made.image("example.com/any:1", layers=[tar_layer("c")])
    data = made.tar()
    options = {"platform": "linux/amd64", "unpack": False}
    assert [image.name for image in await client.import_images(chunked(data), **options)] == [
        "example.com/amd:1",
        "example.com/any:1",
    ]
    await delete_all(client)
    made.entries.pop()
    with pytest.raises(NotFoundError, match=r"linux/s390x: it has linux/arm64, linux/amd64"):
        await client.import_images(chunked(made.tar()), platform="linux/s390x")
    everything = await client.import_images(chunked(data), all_platforms=True)
    assert len(everything) == 3
    await delete_all(client)


async def test_names_that_are_taken_are_given_anew(client: Client):
    """An import replaces what a name stood for; labels that others set stay."""
    made = Layout()
    made.image(layers=[tar_layer("old")])
    (old,) = await client.import_images(chunked(made.tar()), labels={"mine": "1"})
    (new,) = await client.import_images(chunked(OCI), labels={"yours": "2"})
    assert old.target != new.target
    record = await client.images.get(NAME)
    assert (record.target.digest, {**record.labels}) == (new.target.digest, {"mine": "1", "yours": "2"})
    await delete_all(client)


@ON_2
async def test_progress_tells_of_everything(client: Client):
    """Large files, layers, records; and the result is where the block has it."""
    events: dict[str, list[str]] = {}
    async with client.open_import(chunked(OCI)) as importing:
        with pytest.raises(FailedPreconditionError):
            assert importing.images
        async for progress in importing:
            events.setdefault(progress.event, []).append(progress.name)
    assert events["saved"] == [NAME]
    assert len(events["extracted"]) == 2
    assert [name.startswith("blobs/sha256/") for name in events["complete"]] == [True]
    assert [image.name for image in importing.images] == [NAME]
    await delete_all(client)


async def test_leaving_early_leaves_nothing(client: Client, daemon):
    """A block that is left while the archive is read has no image and no content."""

    async def stalling():
        yield OCI[: len(OCI) // 2]
        await anyio.sleep_forever()

    async with client.open_import(stalling()):
        await anyio.sleep(0.2)
    await assert_namespace_empty(daemon, client.namespace)


async def test_imports_at_once_do_not_disturb_each_other(client: Client, daemon):
    """Two clients importing the same archive at the same time both succeed, and nothing is there twice."""
    async with connect(daemon.address, namespace=client.namespace) as other, anyio.create_task_group() as group:
        for each in (client, other, client, other):
            group.start_soon(each.import_images, chunked(OCI))
    assert await names(client) == [NAME]
    assert len(await client.content.list()) == 4
    assert not await client.content.list_statuses()
    await delete_all(client)


@ON_2
async def test_junk_is_not_stored(client: Client):
    """Small files that no image names never reach the store."""
    data = tar_of({**docker_archive(), "repositories": b"{}", "VERSION": b"1.0", "x/json": json.dumps({}).encode()})
    (image,) = await client.import_images(chunked(data))
    assert len(await client.content.list()) == 3
    await image.delete(synchronous=True)
