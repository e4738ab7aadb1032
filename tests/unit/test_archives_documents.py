"""What an archive says about itself: names and JSON, written as Go writes them and read as strictly as can be."""

from __future__ import annotations

import json

import pytest

from containerd_py.archives.archive_json import check_layout, read_docker_images
from containerd_py.archives.archive_names import (
    IMAGE_NAME,
    REF_NAME,
    add_base_name,
    docker_name,
    familiar_name,
    filter_base_name,
    image_name,
    name_annotations,
)
from containerd_py.archives.documents import (
    DockerImage,
    blob_path,
    docker_images_document,
    docker_manifest_document,
    index_document,
)
from containerd_py.errors import ArchiveError, InvalidArgumentError
from containerd_py.oci.image_spec import MAX_REFERENCES
from containerd_py.types import Descriptor, Platform

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("name", "ref_name"),
    [
        ("docker.io/library/alpine:3", "3"),
        ("localhost:5000/a:1", "1"),
        ("[::1]:5000/a:1", "1"),
        (f"docker.io/library/alpine:3@{DIGEST}", f"3@{DIGEST}"),
        (f"docker.io/library/alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}"),
        ("docker.io/library/alpine", "docker.io/library/alpine"),
        ("alpine:3", "alpine:3"),  # no host
        ("foo:bar/a:1", "foo:bar/a:1"),  # no port
        ("https://example.com/a:1", "https://example.com/a:1"),
        ("example.com/a:", "example.com/a:"),
        ("nonsense", "nonsense"),
    ],
)
def test_annotations_name_an_image_twice(name: str, ref_name: str):
    """The whole name, and the tag that the OCI suggests; where there is no tag, the whole name again."""
    assert name_annotations(name) == {IMAGE_NAME: name, REF_NAME: ref_name}


@pytest.mark.parametrize(
    ("name", "familiar"),
    [
        ("docker.io/library/alpine:3", "alpine:3"),
        ("docker.io/library/alpine", "alpine:latest"),
        ("docker.io/user/app:1", "user/app:1"),
        ("localhost:5000/a:1", "localhost:5000/a:1"),
        (f"docker.io/library/alpine@{DIGEST}", f"alpine@{DIGEST}"),
        ("Not A Name", None),
        ("import-2026-01-01:x y", None),
    ],
)
def test_docker_gets_short_names(name: str, familiar: str | None):
    """As `docker images` shows them; what is no reference has none."""
    assert familiar_name(name) == familiar


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("alpine:3", "docker.io/library/alpine:3"),
        ("alpine", "docker.io/library/alpine:latest"),
        ("localhost/a:1", "localhost/a:1"),
        (f"alpine:3@{DIGEST}", f"docker.io/library/alpine@{DIGEST}"),
    ],
)
def test_docker_names_are_completed(tag: str, name: str):
    """RepoTags become whole names; of a tag and a digest the digest counts."""
    assert docker_name(tag) == name


def test_what_is_no_docker_name_is_refused():
    """A RepoTag that cannot be read is no name."""
    with pytest.raises(InvalidArgumentError):
        docker_name("Not:A/Name")


@pytest.mark.parametrize(
    ("ref", "added", "filtered"),
    [
        ("latest", "base/a:latest", "base/a:latest"),
        ("base/a:1", "base/a:1", "base/a:1"),
        ("base/a/b:1", "base/a/b:1", "base/a/b:1"),
        (f"base/a@{DIGEST}", f"base/a@{DIGEST}", f"base/a@{DIGEST}"),
        ("base/ab:1", "base/ab:1", ""),
        ("other:1", "other:1", ""),
        ("base/a", "base/a", "base/a"),
    ],
)
def test_tags_are_completed_by_the_base_name(ref: str, added: str, filtered: str):
    """A tag gets it; whole names keep their own, or are left out if they begin otherwise."""
    assert add_base_name("base/a")(ref) == added
    assert filter_base_name("base/a")(ref) == filtered


def test_the_whole_name_counts_first():
    """The annotation with the whole name is taken as it is, the other one is translated, none is no name."""
    translate = add_base_name("base")
    assert image_name({IMAGE_NAME: "x", REF_NAME: "y"}, translate) == "x"
    assert image_name({REF_NAME: "y"}, translate) == "base:y"
    assert image_name({IMAGE_NAME: "", REF_NAME: ""}, translate) == ""
    assert image_name({}, translate) == ""


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_documents_are_written_as_go_writes_them():
    """The order of members, sorted annotations, escapes that Go makes and others that it does not."""
    descriptor = Descriptor(
        media_type="application/vnd.oci.image.manifest.v1+json",
        digest=DIGEST,
        size=7,
        annotations={"b": "<ä&>\u2028", "a": "1"},
        platform=Platform(os="linux", architecture="arm", variant="v7", os_version="1"),
        urls=("https://example.com/",),
        data=b"seven77",
        artifact_type="x/y",
    )
    assert index_document([descriptor]).decode() == (
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":['
        f'{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{DIGEST}","size":7,'
        '"urls":["https://example.com/"],"annotations":{"a":"1","b":"\\u003cä\\u0026\\u003e\\u2028"},'
        '"data":"c2V2ZW43Nw==","platform":{"architecture":"arm","os":"linux","os.version":"1","variant":"v7"},'
        '"artifactType":"x/y"}]}'
    )
    assert index_document([], media_type="") == b'{"schemaVersion":2,"manifests":[]}'


def test_docker_documents_are_written_as_go_writes_them():
    """manifest.json and the manifest of an image that came without one."""
    image = DockerImage(config=blob_path(DIGEST), layers=("a", "b"), repo_tags=("x:1",))
    unnamed = DockerImage(config="c", layers=())
    assert docker_images_document([image, unnamed]).decode() == (
        f'[{{"Config":"blobs/sha256/{"a" * 64}","RepoTags":["x:1"],"Layers":["a","b"]}},'
        '{"Config":"c","RepoTags":null,"Layers":null}]'
    )
    assert read_docker_images(docker_images_document([image, unnamed])) == [image, unnamed]
    config, layer = (Descriptor(media_type=kind, digest=DIGEST, size=1) for kind in ("c", "l"))
    manifest = json.loads(docker_manifest_document(config, [layer]))
    assert [*manifest] == ["schemaVersion", "mediaType", "config", "layers"]
    assert manifest["layers"] == [{"mediaType": "l", "digest": DIGEST, "size": 1}]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"imageLayoutVersion":"1.0.1"}', "version '1.0.1'"),
        (b'{"imageLayoutVersion":""}', "version ''"),
        (b"{}", "version ''"),
        (b"[]", "expected an object"),
        (b'{"imageLayoutVersion":1}', "expected a string"),
        (b'{"imageLayoutVersion":"1.0.0","ImageLayoutVersion":"2"}', "differ in case|spelled differently"),
        (b'{"imageLayoutVersion":"1.0.0","imageLayoutVersion":"1.0.0"}', "twice"),
        (b"", "oci-layout"),
        (b"\xff", "oci-layout"),
    ],
)
def test_layouts_of_other_versions_are_refused(data: bytes, words: str):
    """There is one version, and it must be said without ambiguity."""
    with pytest.raises(ArchiveError, match=words):
        check_layout(data)
    check_layout(b'{"imageLayoutVersion":"1.0.0","more":1}')


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{}", "expected an array"),
        (b"1", "expected an array"),
        (b"[1]", "expected an object"),
        (b'[{"Config":1}]', "expected a string"),
        (b'[{"Config":"c","Layers":"l"}]', "expected an array"),
        (b'[{"Config":"c","Layers":[1]}]', "expected a string"),
        (b'[{"Config":"c","config":"d"}]', "case"),
        (b'[{"CONFIG":"c"}]', "spelled differently"),
        (b'[],"more":1', "expected an array"),
        (b'[],"images":[]', "twice"),
        (b"[]}", "manifest.json"),
        (b"[", "manifest.json"),
        (b"", "manifest.json"),
        (b"[NaN]", "NaN"),
        (json.dumps([{"Config": "c", "Layers": ["l"] * MAX_REFERENCES}]).encode(), "more than the"),
        (b"[" + b"{}," * 10**6 + b"{}]", "has more than"),
        (b"[{" + b'"a":[' * 10**6, "has more than"),
    ],
)
def test_docker_images_that_are_none_are_refused(data: bytes, words: str):
    """What two readers could understand differently, and what is no list of images."""
    with pytest.raises(ArchiveError, match=words):
        read_docker_images(data)


def test_docker_images_may_say_more():
    """Docker writes members that nobody here needs, and null where there is nothing."""
    data = b'[{"Config":"c","RepoTags":null,"Layers":null,"Parent":"p","LayerSources":{"sha256:a":{}}}]'
    assert read_docker_images(data) == [DockerImage(config="c", layers=())]
