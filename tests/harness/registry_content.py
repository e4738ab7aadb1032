"""What a registry holds: blobs, manifests and tags by repository, and images made from a few bytes."""

import gzip
import hashlib
import json
import mmap
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from containerd_py.types import Descriptor, Platform

INDEX: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"

Buffer = bytes | mmap.mmap  # a mapped file serves for layers larger than memory


def digest_of(data: Buffer) -> str:
    """Return the sha256 digest of ``data`` in its usual form."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@attrs.frozen(kw_only=True)
class StoredManifest:
    """A manifest as it was put."""

    media_type: str
    data: bytes


@attrs.define(kw_only=True)
class Repository:
    """One repository; manifests are by digest."""

    blobs: dict[str, Buffer] = attrs.Factory(dict)
    manifests: dict[str, StoredManifest] = attrs.Factory(dict)
    tags: dict[str, str] = attrs.Factory(dict)

    def manifest(self, reference: str) -> tuple[str, StoredManifest] | None:
        """Find a manifest by tag or digest."""
        digest = self.tags.get(reference, reference)
        stored = self.manifests.get(digest)
        return None if stored is None else (digest, stored)


class Content:
    """Everything behind one or several origins; change it at any time, also in the middle of a pull."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}

    def repository(self, name: str) -> Repository:
        """Return a repository, made when it is not there."""
        return self.repositories.setdefault(name, Repository())

    def add_blob(
        self, data: Buffer, *, repository: str, media_type: str = "application/octet-stream", digest: str | None = None
    ) -> Descriptor:
        """Add a blob; ``digest`` makes it pose as another."""
        name = digest or digest_of(data)
        self.repository(repository).blobs[name] = data
        return Descriptor(media_type=media_type, digest=name, size=len(data))

    def add_manifest(
        self,
        document: "Mapping[str, Any] | bytes",
        *,
        repository: str,
        tag: str | None = None,
        media_type: str = MANIFEST,
        digest: str | None = None,
    ) -> Descriptor:
        """Add a manifest or index, as it is when given in bytes; ``digest`` makes it pose as another."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        name = digest or digest_of(data)
        target = self.repository(repository)
        target.manifests[name] = StoredManifest(media_type=media_type, data=data)
        if tag is not None:
            target.tags[tag] = name
        return Descriptor(media_type=media_type, digest=name, size=len(data))

    def add_image(
        self,
        layers: Sequence[bytes],
        *,
        repository: str = "library/test",
        tag: str | None = "latest",
        config: Mapping[str, Any] | None = None,
        platform: Platform | None = None,
        compress: bool = False,
        annotations: Mapping[str, str] | None = None,
    ) -> Descriptor:
        """Add an image of uncompressed layers (tar archives, if it is to be unpacked); return its manifest.

        ``config`` is merged over a minimal image configuration, whose diff IDs are right; ``compress`` stores the
        layers gzipped.
        """
        platform = platform or Platform(os="linux", architecture="amd64")
        document = {
            "os": platform.os,
            "architecture": platform.architecture,
            **({"variant": platform.variant} if platform.variant else {}),
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            **(config or {}),
        }
        config_data = json.dumps(document).encode()
        stored = [
            self.add_blob(
                gzip.compress(layer, compresslevel=1, mtime=0) if compress else layer,
                repository=repository,
                media_type=f"{LAYER}+gzip" if compress else LAYER,
            )
            for layer in layers
        ]
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": as_json(self.add_blob(config_data, repository=repository, media_type=CONFIG)),
            "layers": [as_json(layer) for layer in stored],
        }
        if annotations:
            manifest["annotations"] = dict(annotations)
        return attrs.evolve(self.add_manifest(manifest, repository=repository, tag=tag), platform=platform)

    def add_index(
        self, manifests: Sequence[Descriptor], *, repository: str = "library/test", tag: str | None = "latest"
    ) -> Descriptor:
        """Add an index of manifests that are there already."""
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [as_json(each) for each in manifests]}
        return self.add_manifest(document, repository=repository, tag=tag, media_type=INDEX)


def as_json(descriptor: Descriptor) -> dict[str, Any]:
    """Render a descriptor as image-spec JSON."""
    document: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.annotations:
        document["annotations"] = dict(descriptor.annotations)
    if descriptor.urls:
        document["urls"] = list(descriptor.urls)
    if descriptor.platform is not None:
        platform = {"os": descriptor.platform.os, "architecture": descriptor.platform.architecture}
        document["platform"] = platform | ({"variant": variant} if (variant := descriptor.platform.variant) else {})
    return document
