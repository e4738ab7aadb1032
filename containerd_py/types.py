"""Values that several services share: descriptors, platforms, mounts, points in time. No I/O, compared by value."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn, TypeVar

import attrs

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class FrozenMap(dict[KeyT, ValueT]):
    """A dict that nobody can change: what holds it stays a value, to be hashed, pickled, copied and made JSON of.

    `dict(it)`, `it.copy()` and `it | other` give a dict of one's own.
    """

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        """Refuse to change it.

        Raises:
            TypeError: Always.
        """
        raise TypeError("this belongs to a value that does not change: make a dict of it first")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[FrozenMap[KeyT, ValueT]], tuple[dict[KeyT, ValueT]]]:
        return type(self), (dict(self),)


NO_LABELS: Final[Mapping[str, str]] = FrozenMap()


def frozen_map(items: Mapping[str, str]) -> Mapping[str, str]:
    """Copy a mapping into one nobody can change, so that values holding it stay values."""
    return FrozenMap(items) if items else NO_LABELS


class Timestamp(datetime):
    """A UTC `datetime` that keeps the nanoseconds containerd sends.

    Equal and ordered like a datetime; `nanosecond` is the part of the second in nanoseconds (0 to 999,999,999), of
    which `microsecond` is the truncation. Source: google.protobuf.Timestamp.
    """

    __slots__ = ("nanosecond",)

    nanosecond: int

    @classmethod
    def from_parts(cls, seconds: int, nanos: int = 0) -> Timestamp:
        """Make a timestamp from seconds and nanoseconds since 1970.

        Raises:
            OverflowError: The year is outside 1 to 9999.
        """
        made = _START + timedelta(0, seconds, nanos // 1000)
        made.nanosecond = nanos
        return made

    @classmethod
    def from_datetime(cls, moment: datetime) -> Timestamp:
        """Make a timestamp from any timezone-aware datetime; nanoseconds are kept when it has them."""
        if isinstance(moment, cls):
            return moment
        delta = moment.astimezone(UTC) - _EPOCH
        return cls.from_parts(delta.days * 86400 + delta.seconds, delta.microseconds * 1000)

    @property
    def parts(self) -> tuple[int, int]:
        """Seconds since 1970 and nanoseconds of that second."""
        delta = datetime.__sub__(self, _EPOCH)
        return delta.days * 86400 + delta.seconds, getattr(self, "nanosecond", self.microsecond * 1000)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self).from_parts, self.parts)

    def __str__(self) -> str:
        """RFC 3339 with nanoseconds."""
        return f"{self:%Y-%m-%dT%H:%M:%S}.{self.parts[1]:09d}Z"


_START: Final = Timestamp(1970, 1, 1, tzinfo=UTC)


@attrs.frozen(kw_only=True)
class Platform:
    """What an image was built for, in the words of the OCI image specification (image index, `platform`)."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Descriptor:
    """Where a piece of content is and how to know it: OCI image specification, "descriptor".

    `size` is in bytes. containerd itself keeps `media_type`, `digest`, `size` and `annotations`; the other fields come
    from indexes and manifests and are absent in what the daemon returns.
    """

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    data: bytes | None = attrs.field(default=None, repr=False)
    artifact_type: str | None = None


@attrs.frozen(kw_only=True)
class Mount:
    """A mount as snapshotters hand it out: opaque, to be passed on unchanged (containerd.types.Mount)."""

    type: str
    source: str
    target: str = ""
    options: tuple[str, ...] = ()
