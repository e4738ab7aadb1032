"""Snapshots: layers of file systems. Knows the Snapshots service, one snapshotter at a time; mounts nothing."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Final

import attrs

from containerd_py._generated.containerd.services.snapshots.v1 import (
    CleanupRequest,
    CommitSnapshotRequest,
    ListSnapshotsRequest,
    ListSnapshotsResponse,
    MountsRequest,
    PrepareSnapshotRequest,
    RemoveSnapshotRequest,
    SnapshotsStub,
    StatSnapshotRequest,
    UpdateSnapshotRequest,
    UsageRequest,
    ViewSnapshotRequest,
)
from containerd_py._generated.containerd.services.snapshots.v1 import Info as WireInfo
from containerd_py._generated.containerd.services.snapshots.v1 import Kind as WireKind
from containerd_py._transport.connection import Rpc
from containerd_py.filters import checked_filters
from containerd_py.labels import check_labels
from containerd_py.services.wire import label_mask, mask_to_wire, mounts_from_wire, required, time_from_bytes
from containerd_py.types import NO_LABELS, Mount, Timestamp, frozen_map

LIST_ROUTE: Final = "/containerd.services.snapshots.v1.Snapshots/List"


class SnapshotKind(enum.StrEnum):
    """What may be done with a snapshot."""

    UNKNOWN = "unknown"
    VIEW = "view"
    ACTIVE = "active"
    COMMITTED = "committed"


_KINDS = {
    WireKind.VIEW: SnapshotKind.VIEW,
    WireKind.ACTIVE: SnapshotKind.ACTIVE,
    WireKind.COMMITTED: SnapshotKind.COMMITTED,
}


@attrs.frozen(kw_only=True)
class SnapshotInfo:
    """A snapshot (containerd.services.snapshots.v1.Info). Only its labels may be changed."""

    name: str
    parent: str = ""
    kind: SnapshotKind
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    created_at: Timestamp | None = None
    updated_at: Timestamp | None = None

    @property
    def is_committed(self) -> bool:
        """Whether it is a finished layer that others may stand on."""
        return self.kind is SnapshotKind.COMMITTED


@attrs.frozen(kw_only=True)
class Usage:
    """What a snapshot takes itself, without its parents: `size` in bytes, and `inodes`."""

    size: int
    inodes: int


def _info(data: bytes, begin: int, end: int) -> SnapshotInfo:
    name, parent, kind, created_at, updated_at, labels = WireInfo.values(data, begin, end)
    return SnapshotInfo(
        name=name,
        parent=parent,
        kind=_KINDS.get(kind, SnapshotKind.UNKNOWN),
        labels=labels,
        created_at=time_from_bytes(created_at),
        updated_at=time_from_bytes(updated_at),
    )


def _info_from_wire(value: WireInfo | None) -> SnapshotInfo:
    data = bytes(required(value, "the snapshot"))
    return _info(data, 0, len(data))


class SnapshotsService:
    """The Snapshots service for one snapshotter, typed (containerd.services.snapshots.v1.Snapshots).

    A snapshotter the daemon does not have makes every call raise InvalidArgumentError.
    """

    def __init__(self, rpc: Rpc, snapshotter: str) -> None:
        self._rpc = rpc
        self.snapshotter = snapshotter

    @cached_property
    def _stub(self) -> SnapshotsStub:
        return self._rpc.stub(SnapshotsStub)

    async def prepare(self, key: str, *, parent: str = "", labels: Mapping[str, str] = NO_LABELS) -> list[Mount]:
        """Create an active snapshot on a committed parent and return its mounts (Snapshots.Prepare).

        Raises:
            AlreadyExistsError: The key is taken, or a snapshot the label `containerd.io/snapshot.ref` names is there.
            NotFoundError: There is no such parent.
        """
        check_labels(labels)
        request = PrepareSnapshotRequest(snapshotter=self.snapshotter, key=key, parent=parent, labels=dict(labels))
        return mounts_from_wire((await self._stub.prepare(request)).mounts)

    async def view(self, key: str, *, parent: str = "", labels: Mapping[str, str] = NO_LABELS) -> list[Mount]:
        """Create a read-only snapshot on a committed parent and return its mounts (Snapshots.View)."""
        check_labels(labels)
        request = ViewSnapshotRequest(snapshotter=self.snapshotter, key=key, parent=parent, labels=dict(labels))
        return mounts_from_wire((await self._stub.view(request)).mounts)

    async def mounts(self, key: str) -> list[Mount]:
        """Return the mounts of an active snapshot or view (Snapshots.Mounts)."""
        reply = await self._rpc.read(self._stub.mounts, MountsRequest(snapshotter=self.snapshotter, key=key))
        return mounts_from_wire(reply.mounts)

    async def commit(self, name: str, key: str, *, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Turn the active snapshot `key` into the committed one `name` (Snapshots.Commit).

        Raises:
            AlreadyExistsError: A snapshot of that name exists; the active one stays.
        """
        check_labels(labels)
        await self._stub.commit(
            CommitSnapshotRequest(snapshotter=self.snapshotter, name=name, key=key, labels=dict(labels))
        )

    async def remove(self, key: str) -> None:
        """Remove a snapshot (Snapshots.Remove).

        Raises:
            NotFoundError: There is none.
            FailedPreconditionError: Others stand on it.
        """
        await self._stub.remove(RemoveSnapshotRequest(snapshotter=self.snapshotter, key=key))

    async def stat(self, key: str) -> SnapshotInfo:
        """Return what is known of a snapshot (Snapshots.Stat).

        Raises:
            NotFoundError: There is none.
        """
        reply = await self._rpc.read(self._stub.stat, StatSnapshotRequest(snapshotter=self.snapshotter, key=key))
        return _info_from_wire(reply.info)

    async def update(self, key: str, labels: Mapping[str, str], *, replace: bool = False) -> SnapshotInfo:
        """Set labels, an empty value removing one; `replace` drops all others (Snapshots.Update)."""
        check_labels(labels)
        request = UpdateSnapshotRequest(
            snapshotter=self.snapshotter,
            info=WireInfo(name=key, labels=dict(labels)),
            update_mask=mask_to_wire(["labels"] if replace else label_mask(labels)),
        )
        return _info_from_wire((await self._stub.update(request)).info)

    @asynccontextmanager
    async def open_list(self, filters: Iterable[str] = ()) -> AsyncIterator[AsyncIterator[SnapshotInfo]]:
        """Lend an iterator over snapshots as the daemon finds them (Snapshots.List)."""
        request = ListSnapshotsRequest(snapshotter=self.snapshotter, filters=checked_filters(filters))
        async with self._rpc.entries(LIST_ROUTE, request, ListSnapshotsResponse, _info) as found:
            yield (info async for infos in found for info in infos)

    async def list(self, filters: Iterable[str] = ()) -> list[SnapshotInfo]:
        """Return the snapshots that match any of the filters, all without one (Snapshots.List).

        Filter fields: `kind`, `name`, `parent`, `labels`.
        """
        request = ListSnapshotsRequest(snapshotter=self.snapshotter, filters=checked_filters(filters))
        return await self._rpc.list(LIST_ROUTE, request, ListSnapshotsResponse, _info)

    async def usage(self, key: str) -> Usage:
        """Return what the snapshot takes itself (Snapshots.Usage); slow for an active one, which is walked."""
        reply = await self._rpc.read(self._stub.usage, UsageRequest(snapshotter=self.snapshotter, key=key))
        return Usage(size=reply.size, inodes=reply.inodes)

    async def cleanup(self) -> None:
        """Let the snapshotter free what it removed lazily (Snapshots.Cleanup).

        Raises:
            UnimplementedError: This snapshotter has no such step.
        """
        await self._stub.cleanup(CleanupRequest(snapshotter=self.snapshotter))
