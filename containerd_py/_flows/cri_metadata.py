"""What Kubernetes' side of containerd (CRI) notes beside its records, read and never written. Asks no daemon.

The notes are JSON of CRI's own version "v1", in an extension of a container's or sandbox's record. Damaged ones, and
those of another version, count as absent: labels say the most important things too. Source: containerd, internal/cri.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.json_fields import Fields
from containerd_py.oci.strict_json import load_object
from containerd_py.types import NO_LABELS, frozen_map
from containerd_py.typeurl import TypedValue

KIND: Final = "io.cri-containerd.kind"  # label: "sandbox" or "container"
POD_NAME: Final = "io.kubernetes.pod.name"
POD_NAMESPACE: Final = "io.kubernetes.pod.namespace"
POD_UID: Final = "io.kubernetes.pod.uid"
CONTAINER_NAME: Final = "io.kubernetes.container.name"
SANDBOX_NOTES: Final = "io.cri-containerd.sandbox.metadata"  # extension of a container's record
CONTAINER_NOTES: Final = "io.cri-containerd.container.metadata"
STORED_NOTES: Final = "metadata"  # extension of a sandbox's record, from 2.0 on

_VERSION: Final = "v1"
_MAX_SIZE: Final = 4 * 1024 * 1024  # bytes; a record must fit into a message of 16 MiB with all its annotations
_MAPS: Final = frozenset({"labels", "annotations"})
_ENVELOPE: Final = frozenset({"Version", "Metadata"})
_SANDBOX: Final = frozenset({"ID", "Name", "Config", "NetNSPath", "IP", "AdditionalIPs", "RuntimeHandler"})
_CONTAINER: Final = frozenset({"ID", "Name", "SandboxID", "Config", "ImageRef", "LogPath"})
_CONFIG: Final = frozenset({"metadata", "hostname", "log_directory", "labels", "annotations"})
_IDENTITY: Final = frozenset({"name", "uid", "namespace", "attempt"})


@attrs.frozen(kw_only=True)
class Identity:
    """Who a pod or container is, in Kubernetes' words; `attempt` counts how often it was made anew."""

    name: str = ""
    uid: str = ""
    namespace: str = ""
    attempt: int = 0


@attrs.frozen(kw_only=True)
class SandboxNotes:
    """What is noted of a pod's sandbox."""

    identity: Identity = Identity()  # frozen
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    annotations: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    addresses: tuple[str, ...] = ()
    netns_path: str = ""
    runtime_handler: str = ""
    log_directory: str = ""


@attrs.frozen(kw_only=True)
class ContainerNotes:
    """What is noted of a pod's container."""

    identity: Identity = Identity()  # frozen
    sandbox_id: str = ""
    annotations: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    log_path: str = ""


def sandbox_notes(value: TypedValue | None) -> SandboxNotes:
    """Return the notes in an extension; empty ones where there are none that can be read."""
    try:
        notes = _notes(value, _SANDBOX)
        if notes is None:
            return SandboxNotes()
        config = notes.nested("Config", _CONFIG) or _nothing()
        addresses = [address for address in (notes.string("IP"), *notes.strings("AdditionalIPs")) if address]
        return SandboxNotes(
            identity=_identity(config),
            labels=config.string_map("labels"),
            annotations=config.string_map("annotations"),
            addresses=tuple(addresses),
            netns_path=notes.string("NetNSPath"),
            runtime_handler=notes.string("RuntimeHandler"),
            log_directory=config.string("log_directory"),
        )
    except InvalidArgumentError:
        return SandboxNotes()


def container_notes(value: TypedValue | None) -> ContainerNotes:
    """Return the notes in an extension; empty ones where there are none that can be read."""
    try:
        notes = _notes(value, _CONTAINER)
        if notes is None:
            return ContainerNotes()
        config = notes.nested("Config", _CONFIG) or _nothing()
        return ContainerNotes(
            identity=_identity(config),
            sandbox_id=notes.string("SandboxID"),
            annotations=config.string_map("annotations"),
            log_path=notes.string("LogPath"),
        )
    except InvalidArgumentError:
        return ContainerNotes()


def _notes(value: TypedValue | None, known: frozenset[str]) -> Fields | None:
    if value is None:
        return None
    what = f"CRI's {value.name}"
    members = load_object(value.value, what=what, max_size=_MAX_SIZE, maps=_MAPS)
    envelope = Fields(members=members, known=_ENVELOPE, what=what)
    return envelope.nested("Metadata", known) if envelope.string("Version") == _VERSION else None


def _identity(config: Fields) -> Identity:
    found = config.nested("metadata", _IDENTITY) or _nothing()
    return Identity(
        name=found.string("name"),
        uid=found.string("uid"),
        namespace=found.string("namespace"),
        attempt=found.integer("attempt") or 0,
    )


def _nothing() -> Fields:
    return Fields(members={}, known=frozenset(), what="nothing")
