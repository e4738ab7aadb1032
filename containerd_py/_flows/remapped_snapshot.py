"""A container's snapshot in which files belong to the users of a user namespace. Knows snapshots and leases.

Snapshotters that can show files as other users' do it at no cost: containerd 2.0's overlayfs on Linux 5.19. For the
others a copy is made whose files are given away, once for all containers with the same image and the same maps. It is
kept by the containers that stand on it, and collected after the last.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from functools import partial
from typing import Final

import attrs

from containerd_py._completion import run_to_completion
from containerd_py._flows.exclusive import exclusively
from containerd_py._flows.prepare_snapshot import prepare_snapshot
from containerd_py._flows.same_host import require_same_host
from containerd_py._flows.steps import run_steps
from containerd_py._flows.undoing import settled, undoing
from containerd_py.errors import AlreadyExistsError, NotFoundError, NotSupportedError, PermissionDeniedError
from containerd_py.oci.user_namespaces import UserNamespace, as_label
from containerd_py.services.bundle import Services
from containerd_py.services.containers import Runtime
from containerd_py.services.leases import LeaseResource
from containerd_py.services.runc import RuncOptions
from containerd_py.trees.private_mounts import open_mounted
from containerd_py.trees.shifting import shift_owners
from containerd_py.types import NO_LABELS, Mount

_SNAPSHOTTER: Final = "io.containerd.snapshotter.v1"
_REMAPS: Final = "remap-ids"  # capabilities of snapshotters (containerd 2.1)
_ONLY_REMAPS: Final = "only-remap-ids"
_RUNC_LIKE: Final = frozenset({"io.containerd.runc.v2", "io.containerd.runc.v1"})
_UID_MAPPING: Final = "containerd.io/snapshot/uidmapping"
_GID_MAPPING: Final = "containerd.io/snapshot/gidmapping"


async def snapshot_base(
    leased: Services, snapshotter: str, parent: str, ids: UserNamespace
) -> tuple[str, Mapping[str, str]]:
    """Return what a container's snapshot is to stand on, and the labels to prepare it with.

    Raises:
        NotSupportedError: Neither the snapshotter nor this program can give the files to the namespace's users.
    """
    can = await _capabilities(leased, snapshotter)
    if _REMAPS in can:
        return parent, {_UID_MAPPING: as_label(ids.uids), _GID_MAPPING: as_label(ids.gids)}
    if _ONLY_REMAPS in can:
        raise NotSupportedError(
            f"snapshotter {snapshotter} cannot map IDs on this kernel, and must not copy: Linux 5.19 maps them, and "
            "slow_chown in the snapshotter's configuration lets it copy"
        )
    return await _copied(leased, snapshotter, parent, ids), NO_LABELS


async def _capabilities(services: Services, snapshotter: str) -> frozenset[str]:
    plugins = await services.introspection.plugins([f"type=={_SNAPSHOTTER},id=={snapshotter}"])
    return frozenset(each for plugin in plugins for each in plugin.capabilities)


async def _copied(leased: Services, snapshotter: str, parent: str, ids: UserNamespace) -> str:
    """Return the snapshot with a copy of the parent's files that are the namespace's users'; make it if need be."""
    maps = f"{parent} {as_label(ids.uids)} {as_label(ids.gids)}"
    name = f"containerd-py-remapped-{hashlib.sha256(maps.encode()).hexdigest()}"
    snapshots = leased.snapshotter(snapshotter)
    async with exclusively(leased.connection, "remapping", leased.namespace, snapshotter, name):
        if await _hold(leased, snapshotter, name):
            return name
        await require_same_host(leased, "a copy of an image for a user namespace is made")
        key = f"{name}-{secrets.token_hex(8)}"
        async with undoing(leased.connection) as undo:
            undo.push(f"removing snapshot {key}", partial(leased.in_scope().snapshotter(snapshotter).remove, key))
            await _give_away(await prepare_snapshot(snapshots, key, parent=parent), ids)
            try:
                await settled(partial(snapshots.commit, name, key))
            except AlreadyExistsError:
                if not await _hold(leased, snapshotter, name):  # another program's, gone again by now
                    raise
            else:
                undo.keep()
    return name


async def _hold(leased: Services, snapshotter: str, name: str) -> bool:
    """Put a snapshot into the lease, so that nobody collects it; tell whether it is there."""
    if leased.lease is not None:
        await leased.leases.add_resource(leased.lease, LeaseResource(id=name, type=f"snapshots/{snapshotter}"))
    try:
        await leased.snapshotter(snapshotter).stat(name)
    except NotFoundError:
        return False
    return True


async def _give_away(mounts: list[Mount], ids: UserNamespace) -> None:
    opened: list[int] = []
    try:
        await run_to_completion(lambda: opened.append(open_mounted(mounts, writable=True)))
        await run_steps(shift_owners(opened[0], ids))
    except PermissionDeniedError as error:
        raise NotSupportedError(
            "this daemon's snapshotter does not map IDs (overlayfs of containerd 2.0 on Linux 5.19 does), and a copy "
            f"for the user namespace can only be made by root on the daemon's host: {error}"
        ) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def runtime_for(runtime: Runtime, ids: UserNamespace) -> Runtime:
    """Have runc give the pipes of stdin, stdout and stderr to the namespace's root, unless its options say to whom."""
    if runtime.name not in _RUNC_LIKE:
        return runtime
    options = RuncOptions() if runtime.options is None else RuncOptions.from_value(runtime.options)
    if options.io_uid or options.io_gid:
        return runtime
    uid, gid = ids.to_host(0, 0)
    return Runtime(name=runtime.name, options=attrs.evolve(options, io_uid=uid, io_gid=gid))
