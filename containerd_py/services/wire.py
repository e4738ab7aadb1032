"""Wire forms that several services share: times, descriptors, mounts, `Any`. The only shared knowledge of protobuf."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, wraps
from typing import Final, TypeVar

from anyio.lowlevel import checkpoint

from containerd_py._generated.containerd.types import Descriptor as WireDescriptor
from containerd_py._generated.containerd.types import Mount as WireMount
from containerd_py._generated.containerd.types import Platform as WirePlatform
from containerd_py._generated.google.protobuf import Any as WireAny
from containerd_py._generated.google.protobuf import FieldMask
from containerd_py._generated.google.protobuf import Timestamp as WireTimestamp
from containerd_py.errors import DataLossError, ProtocolError
from containerd_py.types import Descriptor, Mount, Platform, Timestamp
from containerd_py.typeurl import TypedValue

_GO_ZERO_TIME: Final = -62135596800  # seconds of 0001-01-01, which Go sends for "no time"
_LONGEST_REMEMBERED: Final = 512  # bytes
_TURN: Final = 200  # records that are made without letting others run: one to three milliseconds
T = TypeVar("T")
WireT = TypeVar("WireT")


async def converted(values: Sequence[WireT], convert: Callable[[WireT], T]) -> list[T]:
    """Return what `convert` makes of many messages, letting others run now and then."""
    made = [convert(value) for value in values[:_TURN]]
    for start in range(_TURN, len(values), _TURN):
        await checkpoint()
        made += [convert(value) for value in values[start : start + _TURN]]
    return made


def remembered(make: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """Make a frozen value once for bytes that come again and again; of long ones nothing is kept."""
    known = lru_cache(maxsize=64)(make)

    @wraps(make)
    def recall(data: bytes) -> T:
        return known(data) if len(data) <= _LONGEST_REMEMBERED else make(data)

    return recall


def required(value: T | None, what: str) -> T:
    """Return a submessage that the daemon always sends."""
    if value is None:
        raise ProtocolError(f"the daemon's answer lacks {what}")
    return value


def time_from_wire(value: WireTimestamp | None) -> Timestamp | None:
    """Return a point in time; None where there is none or it is Go's zero time."""
    return None if value is None else _moment(value.seconds, value.nanos)


@lru_cache(maxsize=64)  # most records were created and last updated at the same time
def time_from_bytes(data: bytes | None) -> Timestamp | None:
    """Return the same for a timestamp that was left undecoded."""
    return None if data is None else _moment(*WireTimestamp.values(data, 0, len(data)))


def _moment(seconds: int, nanos: int) -> Timestamp | None:
    if seconds <= _GO_ZERO_TIME:
        return None
    try:
        return Timestamp.from_parts(seconds, nanos)
    except OverflowError:
        return None  # beyond the year 9999: nothing a calendar can hold


def process_time_from_wire(value: WireTimestamp | None) -> Timestamp | None:
    """Return when a process began or ended; None also for the first moment of 1970, which shims send for "not yet"."""
    moment = time_from_wire(value)
    return None if moment is not None and moment.parts == (0, 0) else moment


def time_to_wire(value: Timestamp | None) -> WireTimestamp | None:
    """Return the wire form of a point in time."""
    if value is None:
        return None
    seconds, nanos = value.parts
    return WireTimestamp(seconds=seconds, nanos=nanos)


def descriptor_from_wire(value: WireDescriptor) -> Descriptor:
    """Return a descriptor; the daemon keeps no platform, URLs or inline data."""
    return Descriptor(media_type=value.media_type, digest=value.digest, size=value.size, annotations=value.annotations)


@remembered  # an image has many names
def descriptor_from_bytes(data: bytes) -> Descriptor:
    """Return the same for one that was left undecoded."""
    media_type, digest, size, annotations = WireDescriptor.values(data, 0, len(data))
    return Descriptor(media_type=media_type, digest=digest, size=size, annotations=annotations)


def descriptor_to_wire(value: Descriptor) -> WireDescriptor:
    """Return the wire form of a descriptor."""
    return WireDescriptor(
        media_type=value.media_type, digest=value.digest, size=value.size, annotations=dict(value.annotations)
    )


def mounts_from_wire(values: Iterable[WireMount]) -> list[Mount]:
    """Return mounts."""
    return [
        Mount(type=value.type, source=value.source, target=value.target, options=tuple(value.options))
        for value in values
    ]


def mounts_to_wire(values: Iterable[Mount]) -> list[WireMount]:
    """Return the wire form of mounts."""
    return [
        WireMount(type=value.type, source=value.source, target=value.target, options=list(value.options))
        for value in values
    ]


def platform_from_wire(value: WirePlatform) -> Platform:
    """Return a platform; the daemon's has no OS features."""
    return Platform(os=value.os, architecture=value.architecture, variant=value.variant, os_version=value.os_version)


def any_from_wire(value: WireAny | None) -> TypedValue | None:
    """Return a typed value; None where it is absent or empty."""
    if value is None or not (value.type_url or value.value):
        return None
    return TypedValue(type_url=value.type_url, value=value.value)


def any_from_bytes(data: bytes | None) -> TypedValue | None:
    """Return the same for one that was left undecoded."""
    if not data:
        return None
    type_url, value = WireAny.values(data, 0, len(data))
    return TypedValue(type_url=type_url, value=value) if type_url or value else None


def typed_from_any(data: bytes) -> TypedValue:
    """Return a typed value that was left undecoded."""
    type_url, value = WireAny.values(data, 0, len(data))
    return TypedValue(type_url=type_url, value=value)


def any_to_wire(value: TypedValue | None) -> WireAny | None:
    """Return the wire form of a typed value."""
    return None if value is None else WireAny(type_url=value.type_url, value=value.value)


def typed_from_bytes(data: bytes, *, what: str) -> TypedValue:
    """Return the typed value that a blob holds, as checkpoints keep them.

    Raises:
        DataLossError: It holds something else.
    """
    try:
        value = any_from_wire(WireAny.parse(data))
    except Exception as error:  # the codec raises what it likes on damaged input
        raise DataLossError(f"{what} cannot be read: {error}") from error
    if value is None:
        raise DataLossError(f"{what} is empty")
    return value


def typed_to_bytes(value: TypedValue) -> bytes:
    """Return a typed value as a blob holds it."""
    return bytes(WireAny(type_url=value.type_url, value=value.value))


def mask_to_wire(fields: Iterable[str] | None) -> FieldMask | None:
    """Return a field mask; None means all fields."""
    return None if fields is None else FieldMask(paths=list(fields))


def label_mask(labels: Mapping[str, str], prefix: str = "labels") -> list[str]:
    """Return the mask that changes just these labels and leaves the others."""
    return [f"{prefix}.{key}" for key in labels]
