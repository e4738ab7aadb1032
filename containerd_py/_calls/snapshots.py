"""Care for snapshots."""

from __future__ import annotations

from containerd_py._calls.calls import Calls
from containerd_py._flows.snapshotter_care import CleanupReport, SnapshotterInfo, cleanup_snapshots, snapshotter_info


class SnapshotCalls(Calls):
    """Care for snapshots."""

    async def snapshotter_info(self, name: str) -> SnapshotterInfo:
        """Return what a snapshotter holds in this namespace: size and inodes in all, how many snapshots of each kind.

        Active snapshots are walked for it, which takes its time.

        Raises:
            InvalidArgumentError: The daemon has no such snapshotter.
        """
        return await snapshotter_info(self._services, name)

    async def cleanup_snapshots(self, snapshotter: str | None = None, *, dry_run: bool = False) -> CleanupReport:
        """Remove the snapshots of a snapshotter (None: the namespace's default) that nothing needs, and tell which.

        What a container, an image, a lease, another snapshot or a label of containerd's garbage collection holds stays.
        It is that collection which removes, so that nothing is lost to who pulls or creates meanwhile; content that
        nothing needs goes with it. `dry_run` tells and removes nothing.

        Raises:
            InvalidArgumentError: The daemon has no such snapshotter.
        """
        return await cleanup_snapshots(self._services, snapshotter, dry_run=dry_run)
