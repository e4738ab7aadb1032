"""A snapshot's difference to its parent as a layer: computed by the daemon, compressed or rewritten here if need be."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

import attrs
from anyio import to_thread

from containerd_py._flows.authoring import ByteStream, Layer, read_layer, write_layer
from containerd_py._flows.undoing import Undo, settled, undoing
from containerd_py.errors import UnimplementedError
from containerd_py.labels import UNCOMPRESSED
from containerd_py.oci.media_type_families import Compression, MediaTypes, in_family, layer_type
from containerd_py.oci.tar_times import TimeClamp
from containerd_py.services.bundle import Services
from containerd_py.services.snapshots import SnapshotKind
from containerd_py.types import Mount, Timestamp

_MAPPED: Final = ("uidmap=", "gidmap=")  # options of a mount for a user namespace


async def diff_snapshot(
    leased: Services,
    snapshotter: str,
    key: str,
    *,
    compression: Compression,
    family: MediaTypes,
    latest: Timestamp | None = None,
) -> Layer:
    """Store what a snapshot has that its parent has not as a layer; no time in it lies after `latest`.

    Source: containerd, pkg/rootfs (CreateDiff).
    """
    snapshots = leased.snapshotter(snapshotter)
    info = await snapshots.stat(key)
    async with undoing(leased.connection) as undo:
        lower = await view_snapshot(leased, undo, snapshotter, info.parent)
        is_active = info.kind is SnapshotKind.ACTIVE
        upper = await snapshots.mounts(key) if is_active else await view_snapshot(leased, undo, snapshotter, key)
        upper = _unmapped(upper)
        # Daemons before 1.7 know no bound on times, and those after it differ on what gets which.
        if latest is None:
            try:
                return await _compare(leased, lower, upper, compression, family)
            except UnimplementedError:
                pass  # containerd 1.6 compresses with gzip alone
        plain = await _compare(leased, lower, upper, "none", "oci")
        tar = read_layer(leased, plain.descriptor)
        if latest is not None:
            tar = _clamped(tar, latest)
        return await write_layer(leased, tar, compression=compression, family=family)


def _unmapped(mounts: Sequence[Mount]) -> list[Mount]:
    """Show files with their owners on the disk, as the parent's are: mapped for a user namespace, all would differ."""
    return [
        attrs.evolve(mount, options=tuple(option for option in mount.options if not option.startswith(_MAPPED)))
        for mount in mounts
    ]


async def view_snapshot(leased: Services, undo: Undo, snapshotter: str, parent: str) -> list[Mount]:
    """Make a view that goes when `undo` runs, which is in any case."""
    key = f"containerd-py-view-{secrets.token_hex(12)}"
    undo.push(f"removing snapshot {key}", partial(leased.in_scope().snapshotter(snapshotter).remove, key))
    return await settled(partial(leased.snapshotter(snapshotter).view, key, parent=parent))


async def _compare(
    leased: Services, lower: Sequence[Mount], upper: Sequence[Mount], compression: Compression, family: MediaTypes
) -> Layer:
    media_type = layer_type(compression, "oci")
    made = await leased.diff.compare(lower, upper, media_type=media_type)
    # The label alone tells: answers of older daemons have no annotation.
    labels = (await leased.content.info(made.digest)).labels
    diff_id = made.digest if compression == "none" else labels[UNCOMPRESSED]
    descriptor = attrs.evolve(made, media_type=in_family(media_type, family), annotations={})
    return Layer(descriptor=descriptor, diff_id=diff_id)


async def _clamped(tar: ByteStream, latest: Timestamp) -> ByteStream:
    clamp = TimeClamp(latest.parts[0])
    async with aclosing(tar):
        async for chunk in tar:
            yield await to_thread.run_sync(clamp.feed, chunk)
    clamp.end()
