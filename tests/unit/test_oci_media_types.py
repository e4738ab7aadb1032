"""Media types are told apart as containerd tells them apart."""

import pytest

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci import image_spec, media_types
from containerd_py.oci.image_spec import is_config, is_index, is_layer, is_manifest
from containerd_py.oci.media_types import (
    is_attestation,
    is_docker,
    is_encrypted,
    is_known_config,
    is_nondistributable,
    is_schema1,
    layer_compression,
)

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."

KINDS = {
    OCI + "index.v1+json": {is_index},
    DOCKER + "distribution.manifest.list.v2+json": {is_index, is_docker},
    OCI + "manifest.v1+json": {is_manifest},
    DOCKER + "distribution.manifest.v2+json": {is_manifest, is_docker},
    DOCKER + "distribution.manifest.v1+json": {is_schema1, is_docker},
    DOCKER + "distribution.manifest.v1+prettyjws": {is_schema1, is_docker},
    OCI + "config.v1+json": {is_config, is_known_config},
    DOCKER + "container.image.v1+json": {is_config, is_known_config, is_docker},
    "application/vnd.containerd.container.criu.checkpoint.criu.tar": {is_known_config},
    "application/vnd.containerd.container.checkpoint.config.v1+proto": {is_known_config},
    OCI + "layer.v1.tar": {is_layer},
    OCI + "layer.v1.tar+gzip": {is_layer},
    OCI + "layer.v1.tar+zstd": {is_layer},
    OCI + "layer.v1.tar+gzip+encrypted": {is_layer, is_encrypted},
    OCI + "layer.nondistributable.v1.tar+gzip": {is_layer, is_nondistributable},
    DOCKER + "image.rootfs.diff.tar": {is_layer, is_docker},
    DOCKER + "image.rootfs.diff.tar.gzip": {is_layer, is_docker},
    DOCKER + "image.rootfs.diff.tar.zstd": {is_layer, is_docker},
    DOCKER + "image.rootfs.diff.tar.gzip+encrypted": {is_layer, is_docker, is_encrypted},
    DOCKER + "image.rootfs.foreign.diff.tar": {is_layer, is_docker, is_nondistributable},
    DOCKER + "image.rootfs.foreign.diff.tar.gzip": {is_layer, is_docker, is_nondistributable},
    "application/vnd.erofs.layer.v1": {is_layer},
    "application/vnd.in-toto+json": {is_attestation},
    "application/vnd.oci.empty.v1+json": set(),
    "application/vnd.oci.artifact.manifest.v1+json": set(),
    OCI + "index.v1+json ": set(),
    "APPLICATION/VND.OCI.IMAGE.INDEX.V1+JSON": set(),
    "": set(),
}
PREDICATES = {
    is_index,
    is_manifest,
    is_config,
    is_known_config,
    is_layer,
    is_nondistributable,
    is_docker,
    is_schema1,
    is_attestation,
    is_encrypted,
}


@pytest.mark.parametrize(("media_type", "expected"), KINDS.items())
def test_kinds(media_type: str, expected: set):
    """Each type answers exactly the predicates that name it."""
    assert {predicate for predicate in PREDICATES if predicate(media_type)} == expected


@pytest.mark.parametrize(
    ("media_type", "compression"),
    [
        (OCI + "layer.v1.tar", ""),
        (OCI + "layer.v1.tar+gzip", "gzip"),
        (OCI + "layer.v1.tar+zstd", "zstd"),
        (OCI + "layer.v1.tar+gzip+encrypted", "gzip"),
        (OCI + "layer.v1.tar+encrypted", ""),
        (OCI + "layer.nondistributable.v1.tar+gzip", "gzip"),
        (DOCKER + "image.rootfs.diff.tar", "unknown"),
        (DOCKER + "image.rootfs.foreign.diff.tar", "unknown"),
        (DOCKER + "image.rootfs.diff.tar.gzip", "gzip"),
        (DOCKER + "image.rootfs.diff.tar.zstd", "zstd"),
        (DOCKER + "image.rootfs.diff.tar.gzip+encrypted", ""),
    ],
)
def test_compression(media_type: str, compression: str):
    """The compression is in the type, except for Docker's oldest."""
    assert layer_compression(media_type) == compression


@pytest.mark.parametrize("media_type", ["", OCI + "config.v1+json", "application/vnd.erofs.layer.v1", "text/plain"])
def test_compression_of_what_is_no_tar_layer(media_type: str):
    """Asking for the compression of anything else is a mistake."""
    with pytest.raises(InvalidArgumentError):
        layer_compression(media_type)


def test_one_door():
    """Everything of `media_types` is found in `image_spec`, next to the documents it names."""
    public = {name for name in vars(media_types) if name.startswith(("MEDIA_TYPE_", "is_"))}
    assert len(public) > 30
    assert all(getattr(image_spec, name) is getattr(media_types, name) for name in public)
