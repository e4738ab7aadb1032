"""OCI's media types and Docker's for the same things, and a layer's under another compression. Pure."""

from __future__ import annotations

from typing import Final, Literal

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.media_types import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_DOCKER_CONFIG,
    MEDIA_TYPE_DOCKER_LAYER,
    MEDIA_TYPE_DOCKER_LAYER_FOREIGN,
    MEDIA_TYPE_DOCKER_LAYER_FOREIGN_GZIP,
    MEDIA_TYPE_DOCKER_LAYER_GZIP,
    MEDIA_TYPE_DOCKER_LAYER_ZSTD,
    MEDIA_TYPE_DOCKER_MANIFEST,
    MEDIA_TYPE_DOCKER_MANIFEST_LIST,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_LAYER,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_LAYER_NONDISTRIBUTABLE,
    MEDIA_TYPE_LAYER_NONDISTRIBUTABLE_GZIP,
    MEDIA_TYPE_LAYER_ZSTD,
    MEDIA_TYPE_MANIFEST,
    is_docker,
)

MediaTypes = Literal["oci", "docker"]
Compression = Literal["gzip", "zstd", "none"]
FAMILIES: Final[tuple[MediaTypes, ...]] = ("oci", "docker")
COMPRESSIONS: Final[tuple[Compression, ...]] = ("gzip", "zstd", "none")

_TO_DOCKER: Final = {
    MEDIA_TYPE_INDEX: MEDIA_TYPE_DOCKER_MANIFEST_LIST,
    MEDIA_TYPE_MANIFEST: MEDIA_TYPE_DOCKER_MANIFEST,
    MEDIA_TYPE_CONFIG: MEDIA_TYPE_DOCKER_CONFIG,
    MEDIA_TYPE_LAYER: MEDIA_TYPE_DOCKER_LAYER,
    MEDIA_TYPE_LAYER_GZIP: MEDIA_TYPE_DOCKER_LAYER_GZIP,
    MEDIA_TYPE_LAYER_NONDISTRIBUTABLE: MEDIA_TYPE_DOCKER_LAYER_FOREIGN,
    MEDIA_TYPE_LAYER_NONDISTRIBUTABLE_GZIP: MEDIA_TYPE_DOCKER_LAYER_FOREIGN_GZIP,
}
_TO_OCI: Final = {docker: oci for oci, docker in _TO_DOCKER.items()} | {
    MEDIA_TYPE_DOCKER_LAYER_ZSTD: MEDIA_TYPE_LAYER_ZSTD
}
_OCI_LAYERS: Final[dict[Compression, str]] = {
    "gzip": MEDIA_TYPE_LAYER_GZIP,
    "zstd": MEDIA_TYPE_LAYER_ZSTD,
    "none": MEDIA_TYPE_LAYER,
}


def check_family(media_types: str) -> MediaTypes:
    """Return the family if it is one.

    Raises:
        InvalidArgumentError: It is not.
    """
    for known in FAMILIES:
        if media_types == known:
            return known
    raise InvalidArgumentError(f"media_types={media_types!r}: say one of {', '.join(FAMILIES)}")


def check_compression(compression: str) -> Compression:
    """Return the compression if it is one.

    Raises:
        InvalidArgumentError: It is not.
    """
    for known in COMPRESSIONS:
        if compression == known:
            return known
    raise InvalidArgumentError(f"compression={compression!r}: say one of {', '.join(COMPRESSIONS)}")


def family_of(media_type: str) -> MediaTypes:
    """Tell whose media type it is."""
    return "docker" if is_docker(media_type) else "oci"


def in_family(media_type: str, family: MediaTypes) -> str:
    """Return the family's media type for the same thing.

    Raises:
        InvalidArgumentError: Docker has none. Its type for zstd is one that containerd 1.6 and 1.7 do not know.
    """
    if family == "oci":
        return _TO_OCI.get(media_type, media_type)
    if is_docker(media_type) and media_type != MEDIA_TYPE_DOCKER_LAYER_ZSTD:
        return media_type
    if media_type not in _TO_DOCKER:
        raise InvalidArgumentError(f"{media_type} has no counterpart among Docker's media types: keep OCI's")
    return _TO_DOCKER[media_type]


def layer_type(compression: Compression, family: MediaTypes) -> str:
    """Return the media type of a layer.

    Raises:
        InvalidArgumentError: The family has none for the compression.
    """
    return in_family(_OCI_LAYERS[compression], family)
