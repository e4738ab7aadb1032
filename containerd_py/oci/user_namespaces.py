"""User and group IDs on both sides of a user namespace. Pure.

Source: user_namespaces(7), and `linux.uidMappings` of the OCI runtime specification.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Final, Self

import attrs

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.runtime_spec import IDMapping, Spec

OVERFLOW: Final = 65534  # what the kernel shows for an ID that the namespace does not have
_MAX_ID: Final = 2**32 - 2
_MAX_RANGES: Final = 340  # the kernel's limit
_NUMBER: Final = re.compile(r"[0-9]{1,10}", re.ASCII)  # of 32 bits


def _frozen(mappings: Iterable[IDMapping]) -> Sequence[IDMapping]:
    return tuple(mappings)


@attrs.frozen(kw_only=True)
class UserNamespace:
    """Whom the users and groups of a container are on the host: ranges of IDs, that of root among them.

    `UserNamespace.of(100000)` makes the container's root the host's user and group 100000, and so on for 65,536 IDs.
    Nobody else on the host should have them.
    """

    uids: Sequence[IDMapping] = attrs.field(converter=_frozen, hash=False)
    gids: Sequence[IDMapping] = attrs.field(converter=_frozen, hash=False)

    @classmethod
    def of(cls, host_id: int, size: int = 65536) -> Self:
        """Map `size` users and groups, from root on, to the host's from `host_id` on.

        Raises:
            InvalidArgumentError: There are no such IDs.
        """
        mapping: IDMapping = {"containerID": 0, "hostID": host_id, "size": size}
        return cls(uids=(mapping,), gids=(mapping,)).checked()

    def checked(self) -> Self:
        """Return it.

        Raises:
            InvalidArgumentError: The kernel would refuse these maps, or root is not in them.
        """
        for mappings in (self.uids, self.gids):
            if not 1 <= len(mappings) <= _MAX_RANGES:
                raise InvalidArgumentError(
                    f"a user namespace has 1 to {_MAX_RANGES} ranges of IDs, not {len(mappings)}"
                )
            for mapping in mappings:
                _check(mapping)
            for side in ([each["containerID"] for each in mappings], [each["hostID"] for each in mappings]):
                _check_apart(side, mappings)
        if _outward(self.uids, 0) is None or _outward(self.gids, 0) is None:
            raise InvalidArgumentError("a user namespace needs a range with the container's root, ID 0, in it")
        return self

    def to_container(self, uid: int, gid: int) -> tuple[int, int]:
        """Return who owns a file as seen in the container; 65534 for whom it does not have."""
        user, group = _inward(self.uids, uid), _inward(self.gids, gid)
        return OVERFLOW if user is None else user, OVERFLOW if group is None else group

    def to_host(self, uid: int, gid: int) -> tuple[int, int]:
        """Return who owns a file as noted on the disk.

        Raises:
            InvalidArgumentError: The container has no such user or group.
        """
        user, group = _outward(self.uids, uid), _outward(self.gids, gid)
        if user is None or group is None:
            raise InvalidArgumentError(f"{uid}:{gid} is not mapped in the container's user namespace")
        return user, group


HOST_IDS: Final = UserNamespace(uids=(), gids=())  # no namespace: the same on both sides


def user_namespace_of(spec: Spec) -> UserNamespace:
    """Return the maps of a container by its spec."""
    linux = spec.get("linux") or {}
    if not any(namespace.get("type") == "user" for namespace in linux.get("namespaces") or ()):
        return HOST_IDS
    return UserNamespace(uids=linux.get("uidMappings") or (), gids=linux.get("gidMappings") or ())


def from_maps(uids: str, gids: str) -> UserNamespace:
    """Return the maps of a process, as /proc/PID/uid_map and gid_map have them, seen from our own namespace."""
    return UserNamespace(uids=_ranges(uids), gids=_ranges(gids))


def _ranges(text: str) -> list[IDMapping]:
    numbers = [tuple(map(int, line.split())) for line in text.splitlines()]
    return [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in numbers]


def as_label(mappings: Iterable[IDMapping]) -> str:
    """Return ranges as snapshotters take them: CONTAINER:HOST:SIZE, with commas between."""
    return ",".join(f"{each['containerID']}:{each['hostID']}:{each['size']}" for each in mappings)


def as_map(mappings: Iterable[IDMapping]) -> str:
    """Return ranges as the kernel takes them in /proc/PID/uid_map."""
    return "".join(f"{each['containerID']} {each['hostID']} {each['size']}\n" for each in mappings)


def from_label(label: str) -> list[IDMapping]:
    """Read ranges as snapshotters hand them out.

    Raises:
        InvalidArgumentError: They are none.
    """
    mappings: list[IDMapping] = []
    for part in label.split(","):
        numbers = part.split(":")
        if len(numbers) != 3 or not all(_NUMBER.fullmatch(number) for number in numbers):
            raise InvalidArgumentError(f"{label[:160]!a} is no range of IDs")
        container, host, size = map(int, numbers)
        mappings.append({"containerID": container, "hostID": host, "size": size})
    return mappings


def _check(mapping: IDMapping) -> None:
    for start in (mapping["containerID"], mapping["hostID"]):
        if start < 0 or mapping["size"] < 1 or start + mapping["size"] - 1 > _MAX_ID:
            raise InvalidArgumentError(f"{as_label([mapping])} is no range of IDs: they are 0 to {_MAX_ID}")


def _check_apart(starts: Sequence[int], mappings: Sequence[IDMapping]) -> None:
    ranges = sorted((start, start + mapping["size"]) for start, mapping in zip(starts, mappings, strict=True))
    if any(after[0] < before[1] for before, after in itertools.pairwise(ranges)):
        raise InvalidArgumentError(f"ranges of IDs overlap: {as_label(mappings)}")


def _inward(mappings: Sequence[IDMapping], number: int) -> int | None:
    for mapping in mappings:
        if mapping["hostID"] <= number < mapping["hostID"] + mapping["size"]:
            return mapping["containerID"] + number - mapping["hostID"]
    return None if mappings else number


def _outward(mappings: Sequence[IDMapping], number: int) -> int | None:
    for mapping in mappings:
        if mapping["containerID"] <= number < mapping["containerID"] + mapping["size"]:
            return mapping["hostID"] + number - mapping["containerID"]
    return None if mappings else number
