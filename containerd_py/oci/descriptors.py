"""Descriptors and platforms inside image documents. Knows their fields and what makes one valid; fetches nothing."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from containerd_py.oci.digests import algorithm_of, digest_of, is_digest
from containerd_py.oci.json_fields import Fields
from containerd_py.types import Descriptor, Platform

DESCRIPTOR_FIELDS: Final = frozenset(
    {"mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"}
)
PLATFORM_FIELDS: Final = frozenset({"architecture", "os", "os.version", "os.features", "variant"})

# Printable ASCII, single inner spaces for parameters: what a header or a log line can carry unharmed.
_MEDIA_TYPE: Final = re.compile(r"[!-~]+(?: [!-~]+)*", re.ASCII)
_MAX_MEDIA_TYPE: Final = 255  # RFC 6838, twice 127 and the slash


def read_descriptor(fields: Fields) -> Descriptor:
    """Read one descriptor; inline data must be what the digest and size say.

    Raises:
        InvalidArgumentError: A field is missing, mistyped or cannot be true.
    """
    digest = fields.string("digest")
    if not is_digest(digest):
        raise fields.error("digest", f"{digest[:160]!a} is not a sha256, sha384 or sha512 digest")
    size = fields.integer("size")
    if size is None or size < 0:
        raise fields.error("size", f"{'missing' if size is None else size}, expected a number of bytes")
    platform = fields.nested("platform", PLATFORM_FIELDS)
    return Descriptor(
        media_type=_read_media_type(fields, "mediaType"),
        digest=digest,
        size=size,
        annotations=fields.string_map("annotations"),
        platform=read_platform(platform) if platform is not None else None,
        urls=fields.strings("urls"),
        data=_read_data(fields, digest, size),
        artifact_type=_read_media_type(fields, "artifactType") if fields.string("artifactType") else None,
    )


def read_platform(fields: Fields) -> Platform:
    """Read a platform as it is written, not normalised.

    Raises:
        InvalidArgumentError: A field is mistyped.
    """
    return Platform(
        os=fields.string("os"),
        architecture=fields.string("architecture"),
        variant=fields.string("variant"),
        os_version=fields.string("os.version"),
        os_features=fields.strings("os.features"),
    )


def _read_media_type(fields: Fields, key: str) -> str:
    media_type = fields.string(key)
    if len(media_type) > _MAX_MEDIA_TYPE or not _MEDIA_TYPE.fullmatch(media_type):
        raise fields.error(key, f"{media_type[:160]!a} is not a media type")
    return media_type


def _read_data(fields: Fields, digest: str, size: int) -> bytes | None:
    encoded = fields.optional_string("data")
    if encoded is None:
        return None
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise fields.error("data", "not base64") from error
    if len(data) != size:
        raise fields.error("data", f"{len(data)} bytes, size says {size}")
    if digest_of(data, algorithm=algorithm_of(digest)) != digest:
        raise fields.error("data", f"does not have digest {digest}")
    return data
