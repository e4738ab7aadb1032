"""Names and labels of image content are those of containerd's own client."""

from __future__ import annotations

import pytest

from containerd_py._flows.content_labels import child_labels, ingest_ref, snapshot_labels, source_labels
from containerd_py.oci import media_types as types
from containerd_py.references import Reference
from containerd_py.types import Descriptor


def described(media_type: str, digit: str = "a", **more: object) -> Descriptor:
    return Descriptor(media_type=media_type, digest="sha256:" + digit * 64, size=1, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("media_type", "prefix"),
    [
        (types.MEDIA_TYPE_MANIFEST, "manifest"),
        (types.MEDIA_TYPE_DOCKER_MANIFEST, "manifest"),
        (types.MEDIA_TYPE_INDEX, "index"),
        (types.MEDIA_TYPE_DOCKER_MANIFEST_LIST, "index"),
        (types.MEDIA_TYPE_LAYER_ZSTD, "layer"),
        (types.MEDIA_TYPE_DOCKER_LAYER_FOREIGN_GZIP, "layer"),
        (types.MEDIA_TYPE_CONFIG, "config"),
        (types.MEDIA_TYPE_CHECKPOINT_CONFIG, "config"),
        (types.MEDIA_TYPE_IN_TOTO, "attestation"),
        ("application/octet-stream", "unknown"),
    ],
)
def test_ingests_are_named_after_kind_and_digest(media_type: str, prefix: str) -> None:
    """An ingest's name is the kind of content and its digest."""
    assert ingest_ref(described(media_type)) == f"{prefix}-sha256:{'a' * 64}"


def test_the_name_an_annotation_gives_is_part_of_the_ingests_name() -> None:
    """A descriptor named by annotation has that name before its digest."""
    layer = described(types.MEDIA_TYPE_LAYER, annotations={"org.opencontainers.image.ref.name": "v1"})
    assert ingest_ref(layer) == f"layer-v1@sha256:{'a' * 64}"


def test_children_are_counted_by_kind() -> None:
    """Each kind of child is numbered by itself; a second configuration is too, and indexes count as anything else."""
    children = [
        described(types.MEDIA_TYPE_CONFIG, "0"),
        described(types.MEDIA_TYPE_LAYER, "1"),
        described(types.MEDIA_TYPE_DOCKER_LAYER_GZIP, "2"),
        described(types.MEDIA_TYPE_MANIFEST, "3"),
        described(types.MEDIA_TYPE_INDEX, "4"),
        described("text/plain", "5"),
        described(types.MEDIA_TYPE_DOCKER_CONFIG, "6"),
    ]
    prefix = "containerd.io/gc.ref.content"
    assert child_labels(children) == {
        f"{prefix}.config": children[0].digest,
        f"{prefix}.l.0": children[1].digest,
        f"{prefix}.l.1": children[2].digest,
        f"{prefix}.m.0": children[3].digest,
        f"{prefix}.0": children[4].digest,
        f"{prefix}.1": children[5].digest,
        f"{prefix}.config1": children[6].digest,
    }


@pytest.mark.parametrize(
    ("ref", "host"),
    [("alpine", "docker.io"), ("127.0.0.1:5000/library/alpine", "127.0.0.1"), ("[::1]:5000/library/alpine", "::1")],
)
def test_the_source_is_host_and_repository(ref: str, host: str) -> None:
    """The source label's key has the registry's host without port, its value the repository."""
    assert source_labels(Reference.parse(ref), {}) == {f"containerd.io/distribution.source.{host}": "library/alpine"}


def test_sources_add_up_in_order_and_once() -> None:
    """A further repository is put among those there are, sorted, each once."""
    key = "containerd.io/distribution.source.docker.io"
    assert source_labels(Reference.parse("library/m"), {key: "library/z,library/a,library/m"}) == {
        key: "library/a,library/m,library/z"
    }


def test_a_source_label_that_would_be_too_large_is_left_out() -> None:
    """What would exceed containerd's label size is not written at all."""
    key = "containerd.io/distribution.source.docker.io"
    assert source_labels(Reference.parse("library/m"), {key: "x" * 4096}) == {}


def test_a_snapshot_inherits_only_snapshot_annotations() -> None:
    """Of a layer's annotations only those about snapshots become labels; which snapshot it becomes is ours to say."""
    layer = described(
        types.MEDIA_TYPE_LAYER,
        annotations={
            "containerd.io/snapshot/remote": "yes",
            "containerd.io/snapshot.ref": "forged",
            "containerd.io/gc.root": "forged",
            "title": "no",
        },
    )
    assert snapshot_labels(layer, "sha256:chain") == {
        "containerd.io/snapshot/remote": "yes",
        "containerd.io/snapshot.ref": "sha256:chain",
    }
