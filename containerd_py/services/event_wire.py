"""Wire forms of events: by the name in the `Any` to our class, and back. Fields have the same names on both sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs
import betterproto2

from containerd_py._generated.containerd import events as wire
from containerd_py._generated.containerd.services.images import v1 as image_wire
from containerd_py._generated.containerd.types import Envelope as WireEnvelope
from containerd_py._generated.containerd.types import Mount as WireMount
from containerd_py._generated.google.protobuf import Any as WireAny
from containerd_py._generated.google.protobuf import Timestamp as WireTimestamp
from containerd_py.errors import InvalidArgumentError
from containerd_py.services import event_types as ours
from containerd_py.services.containers import Runtime
from containerd_py.services.event_types import Envelope, Event, EventsGap, TaskIO
from containerd_py.services.wire import (
    any_from_wire,
    any_to_wire,
    mounts_from_wire,
    mounts_to_wire,
    process_time_from_wire,
    time_from_wire,
    time_to_wire,
)
from containerd_py.types import Timestamp
from containerd_py.typeurl import TypedValue


@attrs.frozen
class _Kind:
    name: str
    made: Callable[..., Event]
    message: type[betterproto2.Message]


_KINDS: Final = (
    _Kind("containerd.events.ContainerCreate", ours.ContainerCreate, wire.ContainerCreate),
    _Kind("containerd.events.ContainerUpdate", ours.ContainerUpdate, wire.ContainerUpdate),
    _Kind("containerd.events.ContainerDelete", ours.ContainerDelete, wire.ContainerDelete),
    # These three were moved into the service's package before the API was fixed, and stayed there.
    _Kind("containerd.services.images.v1.ImageCreate", ours.ImageCreate, image_wire.ImageCreate),
    _Kind("containerd.services.images.v1.ImageUpdate", ours.ImageUpdate, image_wire.ImageUpdate),
    _Kind("containerd.services.images.v1.ImageDelete", ours.ImageDelete, image_wire.ImageDelete),
    _Kind("containerd.events.ContentCreate", ours.ContentCreate, wire.ContentCreate),
    _Kind("containerd.events.ContentDelete", ours.ContentDelete, wire.ContentDelete),
    _Kind("containerd.events.NamespaceCreate", ours.NamespaceCreate, wire.NamespaceCreate),
    _Kind("containerd.events.NamespaceUpdate", ours.NamespaceUpdate, wire.NamespaceUpdate),
    _Kind("containerd.events.NamespaceDelete", ours.NamespaceDelete, wire.NamespaceDelete),
    _Kind("containerd.events.SnapshotPrepare", ours.SnapshotPrepare, wire.SnapshotPrepare),
    _Kind("containerd.events.SnapshotCommit", ours.SnapshotCommit, wire.SnapshotCommit),
    _Kind("containerd.events.SnapshotRemove", ours.SnapshotRemove, wire.SnapshotRemove),
    _Kind("containerd.events.TaskCreate", ours.TaskCreate, wire.TaskCreate),
    _Kind("containerd.events.TaskStart", ours.TaskStart, wire.TaskStart),
    _Kind("containerd.events.TaskDelete", ours.TaskDelete, wire.TaskDelete),
    _Kind("containerd.events.TaskExit", ours.TaskExit, wire.TaskExit),
    _Kind("containerd.events.TaskOOM", ours.TaskOOM, wire.TaskOom),
    _Kind("containerd.events.TaskExecAdded", ours.TaskExecAdded, wire.TaskExecAdded),
    _Kind("containerd.events.TaskExecStarted", ours.TaskExecStarted, wire.TaskExecStarted),
    _Kind("containerd.events.TaskPaused", ours.TaskPaused, wire.TaskPaused),
    _Kind("containerd.events.TaskResumed", ours.TaskResumed, wire.TaskResumed),
    _Kind("containerd.events.TaskCheckpointed", ours.TaskCheckpointed, wire.TaskCheckpointed),
    _Kind("containerd.events.SandboxCreate", ours.SandboxCreate, wire.SandboxCreate),
    _Kind("containerd.events.SandboxStart", ours.SandboxStart, wire.SandboxStart),
    _Kind("containerd.events.SandboxExit", ours.SandboxExit, wire.SandboxExit),
)
_BY_NAME: Final[Mapping[str, _Kind]] = {kind.name: kind for kind in _KINDS}
_BY_CLASS: Final[Mapping[object, _Kind]] = {kind.made: kind for kind in _KINDS}


def event_from_wire(value: WireAny | None) -> Event | TypedValue:
    """Return the event in an `Any`; as it came where its type is unknown or its bytes are not of that type."""
    raw = any_from_wire(value) or TypedValue(type_url="")
    kind = _BY_NAME.get(raw.name)
    if kind is None:
        return raw
    try:
        message = kind.message.parse(raw.value)
    except Exception:  # noqa: BLE001  # anybody may publish anything: damage must not end a subscription
        return raw
    return kind.made(**{name: _field_from_wire(getattr(message, name)) for name in _field_names(kind.made)})


def event_to_wire(event: Event | TypedValue) -> WireAny:
    """Return the `Any` that holds an event."""
    if isinstance(event, TypedValue):
        return WireAny(type_url=event.type_url, value=event.value)
    kind = _BY_CLASS[type(event)]
    message = kind.message(**{name: _field_to_wire(getattr(event, name)) for name in _field_names(kind.made)})
    return WireAny(type_url=kind.name, value=bytes(message))


def envelope_from_wire(value: WireEnvelope) -> Envelope:
    """Return an event and where it came from."""
    return Envelope(
        timestamp=time_from_wire(value.timestamp),
        namespace=value.namespace,
        topic=value.topic,
        event=event_from_wire(value.event),
    )


def envelope_to_wire(envelope: Envelope) -> WireEnvelope:
    """Return the wire form of an envelope.

    Raises:
        InvalidArgumentError: It has no timestamp, which the daemon demands, or holds a gap, which is no event.
    """
    if isinstance(envelope.event, EventsGap):
        raise InvalidArgumentError("a gap between events is no event that could be forwarded")
    if envelope.timestamp is None:
        raise InvalidArgumentError("an envelope to forward needs a timestamp: say when its event happened")
    return WireEnvelope(
        timestamp=time_to_wire(envelope.timestamp),
        namespace=envelope.namespace,
        topic=envelope.topic,
        event=event_to_wire(envelope.event),
    )


def _field_names(made: object) -> list[str]:
    assert isinstance(made, type)
    return [field.name for field in attrs.fields(made)]


def _field_from_wire(value: object) -> object:
    match value:
        case WireTimestamp():  # of all events: when a process ended
            return process_time_from_wire(value)
        case wire.ContainerCreateRuntime():
            return Runtime(name=value.name, options=any_from_wire(value.options))
        case wire.TaskIo():
            return TaskIO(stdin=value.stdin, stdout=value.stdout, stderr=value.stderr, terminal=value.terminal)
        case list():  # the one repeated field of all events: TaskCreate.rootfs
            return tuple(mounts_from_wire(mount for mount in value if isinstance(mount, WireMount)))
        case _:
            return value


def _field_to_wire(value: object) -> object:
    match value:
        case Timestamp():
            return time_to_wire(value)
        case Runtime():
            return wire.ContainerCreateRuntime(name=value.name, options=any_to_wire(value.options))
        case TaskIO():
            return wire.TaskIo(stdin=value.stdin, stdout=value.stdout, stderr=value.stderr, terminal=value.terminal)
        case tuple():
            return mounts_to_wire(value)
        case Mapping():
            return dict(value)
        case _:
            return value
