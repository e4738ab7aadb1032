"""What a snapshotter holds in a namespace, and what of it nobody needs any more.

Removing is left to containerd's garbage collection, which alone can do it safely while others pull and create: it looks
at references and removes under one lock, a child before its parent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

import anyio
import attrs

from containerd_py._flows.content_labels import snapshot_ref_label
from containerd_py._flows.defaults import chosen_snapshotter
from containerd_py._flows.image_walk import local_config, top_chain_id, walk_image
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.parallel import unwrapped
from containerd_py.errors import NotFoundError, UnimplementedError
from containerd_py.labels import GC_EXPIRE, GC_REF_SNAPSHOT, GC_ROOT
from containerd_py.oci.image_spec import ImageConfig
from containerd_py.services.bundle import Services
from containerd_py.services.snapshots import SnapshotInfo, SnapshotKind, Usage
from containerd_py.types import Descriptor, FrozenMap

_AT_ONCE: Final = 10  # questions; that for an active snapshot makes the daemon walk its files
# Conditions and references back from a snapshot to what it lives as long as: from containerd 2.2 on. Not weighed here:
# whoever has one counts as used, and the collection decides.
_KEEPING_PREFIXES: Final = ("containerd.io/gc.bref.", "containerd.io/gc.cond.")


def _frozen_counts(counts: Mapping[SnapshotKind, int]) -> Mapping[SnapshotKind, int]:
    return FrozenMap(counts)


@attrs.frozen(kw_only=True)
class SnapshotterInfo:
    """What a snapshotter holds in a namespace: `size` in bytes and `inodes`, together; how many of each kind."""

    name: str
    size: int
    inodes: int
    counts: Mapping[SnapshotKind, int] = attrs.field(converter=_frozen_counts, hash=False)

    @property
    def count(self) -> int:
        """How many snapshots there are."""
        return sum(self.counts.values())


@attrs.frozen(kw_only=True)
class UnusedSnapshot:
    """A snapshot that nothing needed, and what it took: `size` in bytes, and `inodes`."""

    name: str
    kind: SnapshotKind
    size: int
    inodes: int


@attrs.frozen(kw_only=True)
class CleanupReport:
    """What was removed of a snapshotter, or would be where `is_dry_run`, children before their parents."""

    snapshotter: str
    removed: tuple[UnusedSnapshot, ...]
    is_dry_run: bool

    @property
    def size(self) -> int:
        """The bytes it took."""
        return sum(snapshot.size for snapshot in self.removed)

    @property
    def inodes(self) -> int:
        """The inodes it took."""
        return sum(snapshot.inodes for snapshot in self.removed)


async def snapshotter_info(services: Services, name: str) -> SnapshotterInfo:
    """Add up what a snapshotter holds; see `Client.snapshotter_info`."""
    infos = await services.snapshotter(name).list()
    usages = await _usages(services, name, infos)
    return SnapshotterInfo(
        name=name,
        size=sum(usage.size for usage in usages.values()),
        inodes=sum(usage.inodes for usage in usages.values()),
        counts=Counter(info.kind for info in infos),
    )


async def cleanup_snapshots(
    services: Services, snapshotter: str | None = None, *, dry_run: bool = False
) -> CleanupReport:
    """Remove the snapshots that nothing needs; see `Client.cleanup_snapshots`."""
    name = await chosen_snapshotter(services, snapshotter)
    unused = await _unused(services, name)
    usages = await _usages(services, name, unused)
    if not dry_run:
        await _keep_images(services, name)
        left = await _collect(services, name, {info.name for info in unused})
        unused = [info for info in unused if info.name not in left]
    return CleanupReport(
        snapshotter=name,
        removed=tuple(
            UnusedSnapshot(name=info.name, kind=info.kind, size=usages[info.name].size, inodes=usages[info.name].inodes)
            for info in unused
            if info.name in usages
        ),
        is_dry_run=dry_run,
    )


async def _collect(services: Services, name: str, unwanted: set[str]) -> set[str]:
    """Have garbage collected until no more of the unwanted snapshots go; return those that stay.

    One pass may miss some: containerd removes from its database while it walks through it.
    """
    while True:
        async with hold_lease(services.in_scope(), synchronous=True):
            pass  # the collection runs, and is waited for, when the lease goes
        left = unwanted & {info.name for info in await services.snapshotter(name).list()}
        if not left or left == unwanted:
            break
        unwanted = left
    with suppress(UnimplementedError):
        await services.snapshotter(name).cleanup()  # frees what the collection only forgot
    return left


async def _usages(services: Services, name: str, infos: Iterable[SnapshotInfo]) -> dict[str, Usage]:
    """Ask what snapshots take; those that vanish meanwhile are left out."""
    usages: dict[str, Usage] = {}
    limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def ask(key: str) -> None:
        async with limiter:
            with suppress(NotFoundError):
                usages[key] = await services.snapshotter(name).usage(key)

    with unwrapped():
        async with anyio.create_task_group() as group:
            for info in infos:
                group.start_soon(ask, info.name)
    return usages


async def _unused(services: Services, name: str) -> list[SnapshotInfo]:
    """Return the snapshots that no container, image, lease, content or child needs, children before their parents."""
    infos = {info.name: info for info in await services.snapshotter(name).list()}
    pending = [
        *_holding_themselves(infos.values()),
        *await _held_by_containers(services, name),
        *await _held_by_content(services, name),
        *await _held_by_images(services, name),
        *await _held_by_leases(services, name),
    ]
    used: set[str] = set()
    while pending:
        key = pending.pop()
        if key in infos and key not in used:
            used.add(key)
            pending += [infos[key].parent, *_references(name, infos[key].labels)]
    return _children_first({key: info for key, info in infos.items() if key not in used})


def _children_first(infos: Mapping[str, SnapshotInfo]) -> list[SnapshotInfo]:
    def depth(info: SnapshotInfo) -> int:
        steps = 0
        while (parent := infos.get(info.parent)) is not None:
            info, steps = parent, steps + 1
        return steps

    return sorted(infos.values(), key=lambda info: (-depth(info), info.name))


def _references(name: str, labels: Mapping[str, str]) -> list[str]:
    """Return the snapshots that labels hold: keys are the snapshotter's name, and what follows a slash."""
    key = f"{GC_REF_SNAPSHOT}.{name}"
    # containerd.io itself has a slash: what follows the second one is free.
    return [value for label, value in labels.items() if "/".join(label.split("/")[:2]) == key]


def _holding_themselves(infos: Iterable[SnapshotInfo]) -> list[str]:
    return [
        info.name
        for info in infos
        if GC_ROOT in info.labels
        or GC_EXPIRE in info.labels
        or any(key.startswith(_KEEPING_PREFIXES) for key in info.labels)
    ]


async def _held_by_containers(services: Services, name: str) -> list[str]:
    held = []
    for record in await services.containers.list():
        held += _references(name, record.labels)
        if record.snapshotter == name:
            held.append(record.snapshot_key)
    return held


async def _held_by_content(services: Services, name: str) -> list[str]:
    return [key for info in await services.content.list() for key in _references(name, info.labels)]


async def _held_by_images(services: Services, name: str) -> list[str]:
    """Return the topmost snapshots of images that are unpacked, whether or not labels say so."""
    held: list[str] = []
    for record in await services.images.list():
        held += _references(name, record.labels)
        held += [top_chain_id(config) for _, config in await _configs(services, record.target)]
    return held


async def _keep_images(services: Services, name: str) -> None:
    """Give unpacked images the label that keeps their snapshots, where whoever unpacked them did not."""
    snapshots = {info.name for info in await services.snapshotter(name).list()}
    label = snapshot_ref_label(name)
    for record in await services.images.list():
        for descriptor, config in await _configs(services, record.target):
            chain_id = top_chain_id(config)
            with suppress(NotFoundError):
                if chain_id in snapshots and (await services.content.info(descriptor.digest)).labels.get(label) is None:
                    await services.content.update(descriptor.digest, {label: chain_id})


async def _configs(services: Services, target: Descriptor) -> list[tuple[Descriptor, ImageConfig]]:
    """Return an image's configurations that are here, one for each platform."""
    found = []
    for manifest in (await walk_image(services, target)).manifests:
        config = await local_config(services, manifest)
        if config is not None:
            found.append((manifest.manifest.config, config))
    return found


async def _held_by_leases(services: Services, name: str) -> list[str]:
    held = []
    for lease in await services.leases.list():
        held += _references(name, lease.labels)
        with suppress(NotFoundError):
            resources = await services.leases.list_resources(lease.id)
            held += [resource.id for resource in resources if resource.type == f"snapshots/{name}"]
    return held
