"""Media types of image content and what they say about it. Knows names; reads no content.

Sources: OCI image specification (media types), Docker image manifest version 2 schema 2, containerd (core/images).
"""

from __future__ import annotations

from typing import Final

from containerd_py.errors import InvalidArgumentError

MEDIA_TYPE_INDEX: Final = "application/vnd.oci.image.index.v1+json"
MEDIA_TYPE_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
MEDIA_TYPE_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
MEDIA_TYPE_EMPTY: Final = "application/vnd.oci.empty.v1+json"
MEDIA_TYPE_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
MEDIA_TYPE_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
MEDIA_TYPE_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
MEDIA_TYPE_LAYER_ENCRYPTED: Final = "application/vnd.oci.image.layer.v1.tar+encrypted"
MEDIA_TYPE_LAYER_GZIP_ENCRYPTED: Final = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
MEDIA_TYPE_LAYER_NONDISTRIBUTABLE: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"
MEDIA_TYPE_LAYER_NONDISTRIBUTABLE_GZIP: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
MEDIA_TYPE_LAYER_NONDISTRIBUTABLE_ZSTD: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"

MEDIA_TYPE_DOCKER_MANIFEST_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_TYPE_DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
MEDIA_TYPE_DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
MEDIA_TYPE_DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
MEDIA_TYPE_DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
MEDIA_TYPE_DOCKER_LAYER_ZSTD: Final = "application/vnd.docker.image.rootfs.diff.tar.zstd"
MEDIA_TYPE_DOCKER_LAYER_FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar"
MEDIA_TYPE_DOCKER_LAYER_FOREIGN_GZIP: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
MEDIA_TYPE_DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
MEDIA_TYPE_DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

MEDIA_TYPE_EROFS_LAYER: Final = "application/vnd.erofs.layer.v1"
MEDIA_TYPE_IN_TOTO: Final = "application/vnd.in-toto+json"

MEDIA_TYPE_CHECKPOINT: Final = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
MEDIA_TYPE_CHECKPOINT_PREDUMP: Final = "application/vnd.containerd.container.criu.checkpoint.predump.tar"
MEDIA_TYPE_CHECKPOINT_RESOURCE: Final = "application/vnd.containerd.container.resource.tar"
MEDIA_TYPE_CHECKPOINT_RW: Final = "application/vnd.containerd.container.rw.tar"
MEDIA_TYPE_CHECKPOINT_CONFIG: Final = "application/vnd.containerd.container.checkpoint.config.v1+proto"
MEDIA_TYPE_CHECKPOINT_OPTIONS: Final = "application/vnd.containerd.container.checkpoint.options.v1+proto"
MEDIA_TYPE_CHECKPOINT_RUNTIME_NAME: Final = "application/vnd.containerd.container.checkpoint.runtime.name"
MEDIA_TYPE_CHECKPOINT_RUNTIME_OPTIONS: Final = "application/vnd.containerd.container.checkpoint.runtime.options+proto"

_INDEXES: Final = frozenset({MEDIA_TYPE_INDEX, MEDIA_TYPE_DOCKER_MANIFEST_LIST})
_MANIFESTS: Final = frozenset({MEDIA_TYPE_MANIFEST, MEDIA_TYPE_DOCKER_MANIFEST})
_CONFIGS: Final = frozenset({MEDIA_TYPE_CONFIG, MEDIA_TYPE_DOCKER_CONFIG})
_CHECKPOINTS: Final = frozenset({MEDIA_TYPE_CHECKPOINT, MEDIA_TYPE_CHECKPOINT_CONFIG})
_SCHEMA1: Final = frozenset({MEDIA_TYPE_DOCKER_SCHEMA1, MEDIA_TYPE_DOCKER_SCHEMA1_SIGNED})
_OCI_LAYER_PREFIX: Final = "application/vnd.oci.image.layer."
_OCI_LAYERS: Final = frozenset({MEDIA_TYPE_LAYER, MEDIA_TYPE_LAYER_NONDISTRIBUTABLE})
_DOCKER_COMPRESSION: Final = {
    MEDIA_TYPE_DOCKER_LAYER: "unknown",  # old pushes were gzip under this name: look at the bytes
    MEDIA_TYPE_DOCKER_LAYER_FOREIGN: "unknown",
    MEDIA_TYPE_DOCKER_LAYER_GZIP: "gzip",
    MEDIA_TYPE_DOCKER_LAYER_FOREIGN_GZIP: "gzip",
    MEDIA_TYPE_DOCKER_LAYER_ZSTD: "zstd",
}


def is_index(media_type: str) -> bool:
    """Tell whether this is a list of manifests: an OCI index or a Docker manifest list."""
    return media_type in _INDEXES


def is_manifest(media_type: str) -> bool:
    """Tell whether this is the manifest of one image; Docker's schema 1 is not."""
    return media_type in _MANIFESTS


def is_config(media_type: str) -> bool:
    """Tell whether this is an image configuration."""
    return media_type in _CONFIGS


def is_known_config(media_type: str) -> bool:
    """Tell whether this is a configuration containerd labels as one: an image's or a checkpoint's."""
    return media_type in _CONFIGS or media_type in _CHECKPOINTS


def is_layer(media_type: str) -> bool:
    """Tell whether this is a file system layer, whatever its compression or encryption."""
    base = media_type.partition("+")[0]
    return media_type.startswith(_OCI_LAYER_PREFIX) or base in _DOCKER_COMPRESSION or base == MEDIA_TYPE_EROFS_LAYER


def is_nondistributable(media_type: str) -> bool:
    """Tell whether registries may lack this layer and it is fetched from its URLs instead."""
    return media_type.startswith(
        ("application/vnd.oci.image.layer.nondistributable.", "application/vnd.docker.image.rootfs.foreign.")
    )


def is_docker(media_type: str) -> bool:
    """Tell whether this is one of Docker's own types."""
    return media_type.startswith("application/vnd.docker.")


def is_schema1(media_type: str) -> bool:
    """Tell whether this is Docker's manifest of before 2016, which nothing here can use."""
    return media_type in _SCHEMA1


def is_attestation(media_type: str) -> bool:
    """Tell whether this is an in-toto attestation, as build tools add."""
    return media_type == MEDIA_TYPE_IN_TOTO


def is_encrypted(media_type: str) -> bool:
    """Tell whether this is a layer only a key can open."""
    return is_layer(media_type) and "encrypted" in media_type.split("+")[1:]


def layer_compression(media_type: str) -> str:
    """Return how a layer is compressed: "gzip", "zstd", "" for not (or wrapped), "unknown" for look at the bytes.

    Raises:
        InvalidArgumentError: This is not a layer of tar files.
    """
    base, _, suffix = media_type.partition("+")
    if base in _DOCKER_COMPRESSION:
        return "" if suffix else _DOCKER_COMPRESSION[base]
    if base in _OCI_LAYERS:
        # containerd looks at the alphabetically last suffix: "encrypted" before "gzip" before "zstd".
        last = max(suffix.split("+"))
        return last if last in {"gzip", "zstd"} else ""
    raise InvalidArgumentError(f"{media_type[:160]!a} is not the media type of a tar layer")
