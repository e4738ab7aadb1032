"""Writing manifests, indexes and image configurations. Pure; the counterpart of `image_spec`, which reads them.

What is made from another document keeps the members this package does not know. The same input gives the same bytes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from containerd_py.oci.config_changes import NO_CHANGES, ConfigChanges, apply_changes
from containerd_py.oci.image_spec import MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, History, ImageConfig, parse_config
from containerd_py.oci.strict_json import load_object
from containerd_py.types import Descriptor, Platform, Timestamp

_MAPS: Final = frozenset({"annotations", "Labels", "Volumes", "ExposedPorts"})  # their keys are data
# What says how the image below was made, and would be untrue of one made from it.
_MADE_BY_DOCKER: Final = frozenset({"container", "container_config", "docker_version", "id", "parent"})
_BUILDKIT_PREFIX: Final = "moby.buildkit."


def dump_document(document: Mapping[str, object]) -> bytes:
    """Return a document's bytes."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def load_document(data: bytes, *, what: str) -> dict[str, object]:
    """Return a document's members, all of them, to be changed and written again.

    Raises:
        InvalidArgumentError: It is no strict JSON.
    """
    limit = MAX_CONFIG_SIZE if what == "image config" else MAX_MANIFEST_SIZE
    return load_object(data, what=what, max_size=limit, maps=_MAPS)


def platform_document(platform: Platform) -> dict[str, object]:
    """Return a platform as documents say it."""
    members = {
        "architecture": platform.architecture,
        "os": platform.os,
        "os.version": platform.os_version,
        "os.features": [*platform.os_features],
        "variant": platform.variant,
    }
    return {key: value for key, value in members.items() if value}


def descriptor_document(descriptor: Descriptor) -> dict[str, object]:
    """Return a descriptor as documents say it."""
    members: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.urls:
        members["urls"] = [*descriptor.urls]
    if descriptor.annotations:
        members["annotations"] = dict(descriptor.annotations)
    if descriptor.data is not None:
        members["data"] = base64.b64encode(descriptor.data).decode()
    if descriptor.platform is not None:
        members["platform"] = platform_document(descriptor.platform)
    if descriptor.artifact_type is not None:
        members["artifactType"] = descriptor.artifact_type
    return members


def manifest_document(*, media_type: str, config: Descriptor, layers: Iterable[Descriptor]) -> dict[str, object]:
    """Return the manifest of an image."""
    return {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor_document(config),
        "layers": [descriptor_document(layer) for layer in layers],
    }


def config_document(
    base: bytes | None,
    *,
    platform: Platform,
    diff_ids: Sequence[str],
    history: Sequence[History],
    changes: ConfigChanges = NO_CHANGES,
    created: Timestamp | None = None,
    author: str | None = None,
) -> dict[str, object]:
    """Return the configuration of an image made from another one, whose configuration is `base`, or from nothing.

    `diff_ids` and `history` are what comes on top. Where something comes on top of an image that tells no history, its
    layers get one that says nothing.

    Raises:
        InvalidArgumentError: The base is no image configuration.
    """
    below = parse_config(base) if base is not None else ImageConfig()
    document = load_document(base, what="image config") if base is not None else {}
    for key in [key for key in document if key in _MADE_BY_DOCKER or key.startswith(_BUILDKIT_PREFIX)]:
        del document[key]
    section = document.get("config")
    changed = apply_changes(section if isinstance(section, dict) else {}, changes)
    changed.pop("Image", None)
    document |= platform_document(platform) | {
        "config": changed,
        "rootfs": {"type": "layers", "diff_ids": [*below.diff_ids, *diff_ids]},
        "history": [*_history_of(document, below), *map(_history_document, history)],
    }
    if created is not None:
        document["created"] = _time(created)
    if author is not None:
        document["author"] = author
    return document


def _history_of(document: Mapping[str, object], below: ImageConfig) -> list[object]:
    steps = document.get("history")
    told = [*steps] if isinstance(steps, list) else []
    untold = len(below.diff_ids) - sum(not step.empty_layer for step in below.history)
    return told + [{} for _ in range(untold)]


def _history_document(step: History) -> dict[str, object]:
    members = {
        "created": _time(step.created) if step.created is not None else None,
        "created_by": step.created_by,
        "author": step.author,
        "comment": step.comment,
        "empty_layer": step.empty_layer,
    }
    return {key: value for key, value in members.items() if value}


def _time(moment: Timestamp) -> str:
    """Write a time as Go does: no more digits than it has."""
    nanos = moment.parts[1]
    return f"{moment:%Y-%m-%dT%H:%M:%S}" + (f".{nanos:09d}".rstrip("0") if nanos else "") + "Z"
