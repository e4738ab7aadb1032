"""Preparing an active snapshot, also after a crash of the daemon in the middle of doing so."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from containerd_py._flows.undoing import settled
from containerd_py.errors import UnknownError
from containerd_py.services.snapshots import SnapshotsService
from containerd_py.types import NO_LABELS, Mount

# A daemon killed between making a folder and noting it down finds the folder in its way at the next snapshot. It fails,
# and removes the folder while it does.
_IN_THE_WAY: Final = "failed to rename"


async def prepare_snapshot(
    snapshots: SnapshotsService, key: str, *, parent: str = "", labels: Mapping[str, str] = NO_LABELS
) -> list[Mount]:
    """Create an active snapshot and return its mounts; a cancellation is raised once the call has ended.

    Settled, since a call that was broken off could still make the snapshot after whoever undoes it has removed it.
    """
    prepare = partial(snapshots.prepare, key, parent=parent, labels=labels)
    try:
        return await settled(prepare)
    except UnknownError as error:
        if _IN_THE_WAY not in str(error):
            raise
    return await settled(prepare)
