"""Indexes, manifests and image configurations as values, read from bytes nobody vouches for.

Knows the OCI image specification and Docker's schema 2; fetches nothing. Every parser refuses what two readers could
understand differently (CVE-2021-41190) and names the field at fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import attrs

from containerd_py.errors import InvalidArgumentError
from containerd_py.labels import MAX_LABEL_SIZE
from containerd_py.oci.descriptors import DESCRIPTOR_FIELDS, PLATFORM_FIELDS, read_descriptor, read_platform
from containerd_py.oci.digests import chain_ids as chain_ids  # its users look for it here
from containerd_py.oci.digests import is_digest
from containerd_py.oci.health_check import HEALTH_CHECK_FIELDS, HealthCheck, read_health_check
from containerd_py.oci.json_fields import Fields
from containerd_py.oci.media_types import *  # noqa: F403  # one door for documents and the types that name them
from containerd_py.oci.media_types import is_index, is_layer, is_manifest, is_schema1
from containerd_py.oci.rfc3339 import parse_time
from containerd_py.oci.strict_json import load_object
from containerd_py.types import NO_LABELS, Descriptor, Platform, Timestamp, frozen_map

MAX_MANIFEST_SIZE: Final = 4_393_216  # bytes; containerd's limit, so that we accept what ctr accepts
MAX_CONFIG_SIZE: Final = 4 * 1024 * 1024  # bytes; as containers/image
MAX_REFERENCES: Final = 10_000  # descriptors of one document; containerd's limit for an image

_DOCUMENT_FIELDS: Final = frozenset(
    {
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "subject",
        "annotations",
        "fsLayers",
    }
)
_IMAGE_FIELDS: Final = PLATFORM_FIELDS | {"created", "author", "config", "rootfs", "history"}
_CONFIG_FIELDS: Final = frozenset(
    {"User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "ArgsEscaped"}
    | {"Healthcheck"}  # Docker's
)
_HISTORY_FIELDS: Final = frozenset({"created", "created_by", "author", "comment", "empty_layer"})
_MAPS: Final = frozenset({"annotations", "Labels", "Volumes", "ExposedPorts"})  # their keys are data
_SCHEMA_VERSION: Final = 2
# containerd acts on these: a log URI among them runs a command as root on 1.6 and 1.7 (CVE-2026-53488).
# nerdctl and we act on the others: what they name is read as a log, mounted, or removed with the container.
_RESERVED_PREFIXES: Final = ("containerd.io/", "io.cri-containerd", "nerdctl/", "containerd-py/")


@attrs.frozen(kw_only=True)
class Index:
    """A list of manifests, usually one per platform (OCI image index, Docker manifest list)."""

    manifests: tuple[Descriptor, ...]
    media_type: str | None = None
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)


@attrs.frozen(kw_only=True)
class Manifest:
    """One image or artifact: its configuration and its layers, lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str | None = None
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)


@attrs.frozen(kw_only=True)
class History:
    """How one layer of an image came to be, in its maker's words."""

    created: Timestamp | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@attrs.frozen(kw_only=True)
class ImageConfig:
    """What an image says about itself and how it wants to be run. Nothing of it is to be trusted.

    `platform` is None where the image does not say both operating system and architecture. `diff_ids` are the digests
    of the unpacked layers, lowest first; `chain_ids` makes snapshot names of them.
    """

    platform: Platform | None = None
    created: Timestamp | None = None
    author: str = ""
    env: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    args_escaped: bool = False
    stop_signal: str | None = None
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    diff_ids: tuple[str, ...] = ()
    history: tuple[History, ...] = ()
    health_check: HealthCheck | None = None


@attrs.frozen(kw_only=True)
class DroppedLabel:
    """A label of an image that no container gets: reserved for containerd, too large for it, or without a key."""

    key: str
    reason: Literal["reserved", "oversized", "empty key"]


@attrs.frozen(kw_only=True)
class ContainerLabels:
    """The labels a container takes over from its image, and those it does not."""

    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    dropped: tuple[DroppedLabel, ...] = ()


def parse_index(data: bytes) -> Index:
    """Read an index or manifest list.

    Raises:
        InvalidArgumentError: It is not one, or could be taken for something else; the message has the field's path.
    """
    fields = _document(data, "index")
    media_type = fields.optional_string("mediaType")
    if media_type is not None and is_manifest(media_type):
        raise fields.error("mediaType", f"expected an index, found {media_type}")
    for foreign in ("config", "layers"):
        if fields.has(foreign):
            raise fields.error(foreign, "expected an index, found a manifest")
    if not fields.has("manifests"):
        raise fields.error("manifests", "missing")
    return Index(
        manifests=_descriptors(fields, "manifests"),
        media_type=media_type,
        artifact_type=fields.optional_string("artifactType"),
        subject=_descriptor(fields, "subject"),
        annotations=fields.string_map("annotations"),
    )


def parse_manifest(data: bytes) -> Manifest:
    """Read the manifest of one image or artifact.

    Raises:
        InvalidArgumentError: It is not one, or could be taken for something else; the message has the field's path.
    """
    fields = _document(data, "manifest")
    media_type = fields.optional_string("mediaType")
    if media_type is not None and is_index(media_type):
        raise fields.error("mediaType", f"expected a manifest, found {media_type}")
    if fields.has("manifests"):
        raise fields.error("manifests", "expected a manifest, found an index")
    config = _descriptor(fields, "config")
    if config is None:
        raise fields.error("config", "missing")
    return Manifest(
        config=config,
        layers=_descriptors(fields, "layers"),
        media_type=media_type,
        artifact_type=fields.optional_string("artifactType"),
        subject=_descriptor(fields, "subject"),
        annotations=fields.string_map("annotations"),
    )


def parse_config(data: bytes) -> ImageConfig:
    """Read an image configuration.

    Raises:
        InvalidArgumentError: It is not one; the message has the field's path.
    """
    what = "image config"
    members = load_object(data, what=what, max_size=MAX_CONFIG_SIZE, maps=_MAPS)
    image = Fields(members=members, known=_IMAGE_FIELDS, what=what)
    platform = read_platform(image)
    config = image.nested("config", _CONFIG_FIELDS) or Fields(members={}, known=_CONFIG_FIELDS, what=what)
    return ImageConfig(
        platform=platform if platform.os and platform.architecture else None,
        created=_time(image, "created"),
        author=image.string("author"),
        env=config.strings("Env"),
        cwd=config.string("WorkingDir"),
        user=config.string("User"),
        entrypoint=config.strings("Entrypoint"),
        cmd=config.strings("Cmd"),
        args_escaped=config.boolean("ArgsEscaped"),
        stop_signal=config.optional_string("StopSignal"),
        labels=config.string_map("Labels"),
        volumes=config.keys("Volumes"),
        exposed_ports=config.keys("ExposedPorts"),
        diff_ids=_diff_ids(image),
        health_check=_health_check(config),
        history=tuple(_history(entry) for entry in image.nested_array("history", _HISTORY_FIELDS)),
    )


def unpackable_layers(manifest: Manifest, config: ImageConfig) -> list[tuple[Descriptor, str]]:
    """Pair the layers of an image, lowest first, with the digests they unpack to.

    Raises:
        InvalidArgumentError: Manifest and configuration do not belong together: their numbers of layers differ.
    """
    layers = [layer for layer in manifest.layers if is_layer(layer.media_type)]
    if len(layers) != len(config.diff_ids):
        raise InvalidArgumentError(
            f"image config: rootfs.diff_ids: {len(config.diff_ids)} entries for {len(layers)} layers of the manifest"
        )
    return list(zip(layers, config.diff_ids, strict=True))


def reserved_label(key: str) -> bool:
    """Tell whether containerd, its CRI plugin, nerdctl or this package gives this label key a meaning of its own."""
    return key.startswith(_RESERVED_PREFIXES)


def container_labels(config: ImageConfig) -> ContainerLabels:
    """Take over an image's labels, but for those that could steer containerd or make it refuse the container."""
    labels: dict[str, str] = {}
    dropped: list[DroppedLabel] = []
    for key, value in config.labels.items():
        reason = _reason_to_drop(key, value)
        if reason is None:
            labels[key] = value
        else:
            dropped.append(DroppedLabel(key=key, reason=reason))
    return ContainerLabels(labels=labels, dropped=tuple(dropped))


def _document(data: bytes, what: str) -> Fields:
    members = load_object(data, what=what, max_size=MAX_MANIFEST_SIZE, maps=_MAPS)
    fields = Fields(members=members, known=_DOCUMENT_FIELDS, what=what)
    if fields.has("fsLayers") or is_schema1(fields.string("mediaType")):
        raise fields.error("fsLayers", "Docker schema 1 images are not supported: push the image again")
    if fields.integer("schemaVersion") not in {None, _SCHEMA_VERSION}:
        raise fields.error("schemaVersion", f"{fields.integer('schemaVersion')}, expected {_SCHEMA_VERSION}")
    return fields


def _descriptors(fields: Fields, key: str) -> tuple[Descriptor, ...]:
    found = fields.nested_array(key, DESCRIPTOR_FIELDS)
    if len(found) > MAX_REFERENCES:
        raise fields.error(key, f"{len(found)} entries are more than the {MAX_REFERENCES} allowed")
    return tuple(read_descriptor(entry) for entry in found)


def _descriptor(fields: Fields, key: str) -> Descriptor | None:
    found = fields.nested(key, DESCRIPTOR_FIELDS)
    return read_descriptor(found) if found is not None else None


def _diff_ids(image: Fields) -> tuple[str, ...]:
    rootfs = image.nested("rootfs", frozenset({"type", "diff_ids"}))
    if rootfs is None:
        return ()
    if rootfs.string("type", "layers") != "layers":
        raise rootfs.error("type", f"{rootfs.string('type')[:64]!a}, expected 'layers'")
    diff_ids = rootfs.strings("diff_ids")
    for index, diff_id in enumerate(diff_ids):
        if not is_digest(diff_id):
            raise rootfs.error("diff_ids", f"item {index}: {diff_id[:160]!a} is not a digest")
    return diff_ids


def _health_check(config: Fields) -> HealthCheck | None:
    """Read what Docker adds to the specification."""
    found = config.nested("Healthcheck", HEALTH_CHECK_FIELDS)
    return None if found is None else read_health_check(found)


def _history(entry: Fields) -> History:
    return History(
        created=_time(entry, "created"),
        created_by=entry.string("created_by"),
        author=entry.string("author"),
        comment=entry.string("comment"),
        empty_layer=entry.boolean("empty_layer"),
    )


def _time(fields: Fields, key: str) -> Timestamp | None:
    text = fields.optional_string(key)
    if text is None:
        return None
    try:
        return parse_time(text)
    except InvalidArgumentError as error:
        raise fields.error(key, str(error)) from error


def _reason_to_drop(key: str, value: str) -> Literal["reserved", "oversized", "empty key"] | None:
    if reserved_label(key):
        return "reserved"
    if not key:
        return "empty key"  # its database takes none
    if len(key.encode()) + len(value.encode()) > MAX_LABEL_SIZE:
        return "oversized"
    return None
