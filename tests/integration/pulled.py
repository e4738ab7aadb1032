"""What a pull leaves at the daemon, in a form that two pulls can be compared in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from containerd_py import Client

SNAPSHOT_REF = "containerd.io/snapshot.ref"


@attrs.frozen(kw_only=True)
class Left:
    """Records, content and snapshots with all their labels; no times, no random keys."""

    images: Mapping[str, Any]
    content: Mapping[str, Mapping[str, str]]
    snapshots: Mapping[str, Any]
    leases: int
    ingests: int
    unfinished: int  # snapshots that are not committed

    def without_snapshot_labels(self) -> Left:
        """Leave the label out that containerd's pull sets on snapshots and ctr's own unpacking does not."""
        snapshots = {
            name: (parent, {key: value for key, value in labels.items() if key != SNAPSHOT_REF})
            for name, (parent, labels) in self.snapshots.items()
        }
        return attrs.evolve(self, snapshots=snapshots)


async def abort_ingests(client: Client) -> None:
    """Throw away what a pull that did not end well has kept for the next one."""
    for status in await client.content.list_statuses():
        await client.content.abort(status.ref)


async def left_in(client: Client, *, snapshotter: str = "overlayfs") -> Left:
    """List everything there is in the client's namespace."""
    snapshots = await client.snapshotter(snapshotter).list()
    return Left(
        images={
            record.name: (record.target.media_type, record.target.digest, record.target.size, dict(record.labels))
            for record in await client.images.list()
        },
        content={info.digest: dict(info.labels) for info in await client.content.list()},
        snapshots={info.name: (info.parent, dict(info.labels)) for info in snapshots if info.is_committed},
        leases=len(await client.leases.list()),
        ingests=len(await client.content.list_statuses()),
        unfinished=sum(not info.is_committed for info in snapshots),
    )
