"""User and group IDs on both sides of a user namespace. Pure.

Source: user_namespaces(7), and `linux.uidMappings` of the OCI runtime specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.runtime_spec import IDMapping, Spec

OVERFLOW: Final = 65534  # what the kernel shows for an ID that the namespace does not have


@attrs.frozen
class IDMaps:
    """How IDs in a container stand for IDs on the host; without any mapping they are the same."""

    uids: Sequence[IDMapping] = ()
    gids: Sequence[IDMapping] = ()

    def to_container(self, uid: int, gid: int) -> tuple[int, int]:
        """Return who owns a file as seen in the container; `OVERFLOW` for whom it does not have."""
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


IDENTITY: Final = IDMaps()


def id_maps_of(spec: Spec) -> IDMaps:
    """Return the maps of a container by its spec."""
    linux = spec.get("linux", {})
    if not any(namespace["type"] == "user" for namespace in linux.get("namespaces", [])):
        return IDENTITY
    return IDMaps(uids=tuple(linux.get("uidMappings", ())), gids=tuple(linux.get("gidMappings", ())))


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
