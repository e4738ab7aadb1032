"""The documents of an image archive, written as Go's tools write them, so that digests and whole archives are the same.

Knows the OCI image layout and Docker's manifest.json (docker save, v1.2). Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from containerd_py.oci.image_documents import descriptor_document
from containerd_py.oci.media_types import MEDIA_TYPE_DOCKER_MANIFEST, MEDIA_TYPE_INDEX
from containerd_py.types import Descriptor

LAYOUT_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
DOCKER_FILE: Final = "manifest.json"
BLOBS: Final = "blobs"
LAYOUT_VERSION: Final = "1.0.0"
IMAGE_NAME: Final = "io.containerd.image.name"  # annotation: the whole name (containerd)
LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
# encoding/json escapes these even inside strings, for the sake of browsers.
_GO_ESCAPES: Final = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


@attrs.frozen(kw_only=True)
class DockerImage:
    """An entry of Docker's manifest.json: paths in the archive and the names of the image."""

    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] = ()


def blob_path(digest: str) -> str:
    """Return where a blob is in a layout."""
    algorithm, _, encoded = digest.partition(":")
    return f"{BLOBS}/{algorithm}/{encoded}"


def index_document(manifests: Iterable[Descriptor], *, media_type: str = MEDIA_TYPE_INDEX) -> bytes:
    """Return an index; without a media type if that is empty."""
    head: dict[str, object] = {"schemaVersion": 2}
    if media_type:
        head["mediaType"] = media_type
    return _render({**head, "manifests": [_descriptor(manifest) for manifest in manifests]})


def docker_manifest_document(config: Descriptor, layers: Iterable[Descriptor]) -> bytes:
    """Return the manifest of an image that came without one."""
    return _render(
        {
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE_DOCKER_MANIFEST,
            "config": _descriptor(config),
            "layers": [_descriptor(layer) for layer in layers],
        }
    )


def docker_images_document(images: Iterable[DockerImage]) -> bytes:
    """Return a manifest.json."""
    return _render(
        [
            {
                "Config": image.config,
                "RepoTags": list(image.repo_tags) or None,
                "Layers": list(image.layers) or None,
            }
            for image in images
        ]
    )


def _render(document: Mapping[str, object] | Sequence[object]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).translate(_GO_ESCAPES).encode()


def _descriptor(descriptor: Descriptor) -> dict[str, object]:
    return descriptor_document(attrs.evolve(descriptor, annotations=dict(sorted(descriptor.annotations.items()))))
