"""How a container's files differ from its image's: as paths, and as a layer. Knows snapshots and leases.

An overlay's upper layer has just what was changed: with overlayfs the image is not read, however large it is.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs

from containerd_py._completion import run_to_completion
from containerd_py._flows.layer_diffs import diff_snapshot, view_snapshot
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.same_host import require_same_host
from containerd_py._flows.steps import run_steps
from containerd_py._flows.undoing import undoing
from containerd_py.errors import FailedPreconditionError
from containerd_py.oci.media_type_families import Compression, check_compression
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord
from containerd_py.services.snapshots import SnapshotKind
from containerd_py.trees.changes import Comparison, FileChange, OverlayLayer
from containerd_py.trees.failures import typed_errors
from containerd_py.trees.private_mounts import open_mounted
from containerd_py.types import Descriptor, Mount

_UPPER: Final = "upperdir="
_REDIRECTS: Final = "redirect_dir=on"


async def container_changes(services: Services, container_id: str) -> list[FileChange]:
    """Compare a container's files with its image's; see `Container.changes`."""
    await require_same_host(services, "a container's files are compared with its image's")
    record = await _record(services, container_id)
    snapshots = services.snapshotter(record.snapshotter)
    info = await snapshots.stat(record.snapshot_key)
    if info.kind is not SnapshotKind.ACTIVE:
        return []  # nobody can have changed anything
    mounts = await snapshots.mounts(record.snapshot_key)
    opened: list[int] = []
    try:
        if _is_layered(mounts):
            await run_to_completion(partial(_open_layers, mounts[0], opened))
            return await run_steps(Comparison(opened[0], opened[1], _layer(mounts[0])).run())
        async with _mounts_of_parent(services, record.snapshotter, info.parent) as lower:
            await run_to_completion(partial(_open_trees, mounts, lower, opened))
            return await run_steps(Comparison(opened[0], opened[1] if lower else None, None).run())
    finally:
        for descriptor in opened:
            os.close(descriptor)


async def container_diff(services: Services, container_id: str, *, compression: Compression) -> Descriptor:
    """Store what a container's files have more than its image's as a layer; see `Container.diff`."""
    check_compression(compression)
    if services.lease is None:
        raise FailedPreconditionError(
            "a layer that nothing names is collected at once: load the container from a client with a lease, as in "
            "`async with client.hold_lease() as leased: …`"
        )
    record = await _record(services, container_id)
    layer = await diff_snapshot(
        services, record.snapshotter, record.snapshot_key, compression=compression, family="oci"
    )
    return layer.descriptor


async def _record(services: Services, container_id: str) -> ContainerRecord:
    record = await services.containers.get(container_id)
    if not record.snapshot_key:
        raise FailedPreconditionError(f"container {record.id} has no snapshot: there is nothing to compare")
    return record


def _is_layered(mounts: Sequence[Mount]) -> bool:
    """Tell whether this is one overlay whose upper layer can be read by itself."""
    if len(mounts) != 1 or mounts[0].type != "overlay" or _REDIRECTS in mounts[0].options:
        return False
    return any(option.startswith(_UPPER) for option in mounts[0].options)


def _layer(overlay: Mount) -> OverlayLayer:
    return OverlayLayer(attributes="user.overlay.") if "userxattr" in overlay.options else OverlayLayer()


def _open_layers(overlay: Mount, opened: list[int]) -> None:
    upper = next(option.removeprefix(_UPPER) for option in overlay.options if option.startswith(_UPPER))
    with typed_errors("opening the container's layer"):
        opened.append(os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    lower = tuple(option for option in overlay.options if not option.startswith((_UPPER, "workdir=")))
    opened.append(open_mounted([attrs.evolve(overlay, options=lower)], writable=False))


def _open_trees(upper: Sequence[Mount], lower: Sequence[Mount], opened: list[int]) -> None:
    opened.append(open_mounted(upper, writable=False))
    if lower:
        opened.append(open_mounted(lower, writable=False))


@asynccontextmanager
async def _mounts_of_parent(services: Services, snapshotter: str, parent: str) -> AsyncIterator[list[Mount]]:
    """Lend the mounts of what a snapshot stands on; none where it stands on nothing."""
    if not parent:
        yield []
        return
    async with hold_lease(services) as leased, undoing(services.connection) as undo:
        yield await view_snapshot(leased, undo, snapshotter, parent)
