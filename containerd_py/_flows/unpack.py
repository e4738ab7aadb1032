"""Unpacking an image: its layers become a chain of snapshots, one standing on the other.

Safe next to another client that does the same at the same time, also a Go one: whoever commits a layer first has made
it for both. Knows snapshots, diff, content and leases; where the layers come from is its caller's business.
Source: containerd, core/unpack.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import attrs

from containerd_py._flows.content_labels import snapshot_labels, snapshot_ref_label
from containerd_py._flows.exclusive import exclusively
from containerd_py._flows.image_content import ImageContent, read_image
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.prepare_snapshot import prepare_snapshot
from containerd_py._flows.together import Workers, working_together
from containerd_py._flows.undoing import Undo, settled, undoing
from containerd_py.errors import (
    AlreadyExistsError,
    ContainerdError,
    NotFoundError,
    UnavailableError,
    UnpackError,
)
from containerd_py.labels import UNCOMPRESSED
from containerd_py.oci.image_spec import Manifest, chain_ids, unpackable_layers
from containerd_py.services.bundle import Services
from containerd_py.services.leases import LeaseResource
from containerd_py.types import Descriptor, Mount, Platform

PREPARE_TRIES: Final = 3  # as containerd's unpacker


@attrs.frozen(kw_only=True)
class LayerPlan:
    """One layer to unpack: into the snapshot `chain_id`, standing on `parent` (empty for the lowest)."""

    descriptor: Descriptor
    diff_id: str
    chain_id: str
    parent: str = ""


async def _at_once(_index: int) -> None:
    """Wait for a layer that is there already."""


def _to_nobody(_event: str, _descriptor: Descriptor) -> None:
    """Report to nobody."""


@attrs.frozen(kw_only=True)
class UnpackHooks:
    """What an unpacking asks and tells its caller.

    `ready` returns once the blob of the layer at that index is in the content store; it is not called for layers whose
    snapshot exists. `report` is told "extracting" and "extracted".
    """

    ready: Callable[[int], Awaitable[None]] = _at_once
    report: Callable[[str, Descriptor], None] = _to_nobody


def plan_layers(image: ImageContent) -> list[LayerPlan]:
    """Say which snapshots an image's layers become, lowest first.

    Raises:
        InvalidArgumentError: Manifest and configuration contradict each other.
    """
    pairs = unpackable_layers(image.manifest, image.config)
    chain = chain_ids(diff_id for _, diff_id in pairs)
    return [
        LayerPlan(descriptor=layer, diff_id=diff_id, chain_id=chain_id, parent=parent)
        for (layer, diff_id), chain_id, parent in zip(pairs, chain, ["", *chain][: len(chain)], strict=True)
    ]


def artifact_error(name: str, manifest: Manifest) -> UnpackError:
    """Make the error for something that was never meant to be unpacked."""
    return UnpackError(f"{name} is an artifact ({manifest.config.media_type}), no image: pull it with unpack=False")


async def is_unpacked(services: Services, chain_id: str, snapshotter: str) -> bool:
    """Tell whether a stack of layers is a committed snapshot; one of no layers always is."""
    if not chain_id:
        return True
    try:
        return (await services.snapshotter(snapshotter).stat(chain_id)).is_committed
    except NotFoundError:
        return False


async def unpack_image(services: Services, target: Descriptor, platform: Platform, snapshotter: str) -> str:
    """Unpack the image for a platform from the content store and return the chain ID of its topmost layer.

    What is unpacked already stays as it is.

    Raises:
        NotFoundError: The image has nothing for the platform, or content is missing here.
        UnpackError: A layer is damaged or is not what the configuration says.
    """
    async with hold_lease(services) as leased:
        image = await read_image(leased, target, platform)
        return await unpack_layers(leased, snapshotter, plan_layers(image), image.manifest.config)


async def unpack_layers(
    leased: Services,
    snapshotter: str,
    layers: Sequence[LayerPlan],
    config: Descriptor,
    *,
    hooks: UnpackHooks = UnpackHooks(),
) -> str:
    """Unpack layers in order, then have the configuration keep the result; return the topmost chain ID.

    `leased` keeps the snapshots alive until the configuration itself is referenced.
    """
    async with working_together() as group:  # labels are set while the next layer is under way already
        for index, layer in enumerate(layers):
            await _Unpacking(leased, snapshotter, layer, partial(hooks.ready, index), hooks.report, group).run()
    if not layers:
        return ""
    chain_id = layers[-1].chain_id
    await leased.content.update(config.digest, {snapshot_ref_label(snapshotter): chain_id})
    return chain_id


class _Unpacking:
    """The unpacking of one layer."""

    def __init__(
        self,
        leased: Services,
        snapshotter: str,
        layer: LayerPlan,
        ready: Callable[[], Awaitable[None]],
        report: Callable[[str, Descriptor], None],
        group: Workers,
    ) -> None:
        self._leased = leased
        self._snapshots = leased.snapshotter(snapshotter)
        self._unleased = leased.in_scope().snapshotter(snapshotter)  # removing must work when the lease has gone
        self._layer = layer
        self._ready = ready
        self._report = report
        self._group = group

    async def run(self) -> None:
        connection, place = self._leased.connection, (self._leased.namespace, self._snapshots.snapshotter)
        for _ in range(PREPARE_TRIES):
            async with exclusively(connection, *place, self._layer.chain_id), undoing(connection) as undo:
                if await self._attempt(undo):
                    return
        raise UnpackError(
            f"snapshot {self._layer.chain_id} is said to exist and cannot be found: {PREPARE_TRIES} attempts to unpack "
            f"layer {self._layer.descriptor.digest} failed"
        )

    async def _attempt(self, undo: Undo) -> bool:
        """Make the layer's snapshot or find it; False when somebody is in the way and another key may help."""
        key = f"extract-{time.time_ns() % 10**9}-{secrets.token_urlsafe(6)} {self._layer.chain_id}"
        labels = snapshot_labels(self._layer.descriptor, self._layer.chain_id)
        try:
            with undo.making(f"removing snapshot {key!r}", partial(self._unleased.remove, key)):
                mounts = await prepare_snapshot(self._snapshots, key, parent=self._layer.parent, labels=labels)
        except AlreadyExistsError:
            return await self._is_there()
        if not _is_staged(mounts):
            await self._ready()
            await self._extract(mounts)
        try:
            await settled(partial(self._snapshots.commit, self._layer.chain_id, key, labels=labels))
        except AlreadyExistsError:
            return await self._is_there()  # somebody else was faster; ours is removed on the way out
        undo.keep()
        if not _is_staged(mounts):
            labels = {UNCOMPRESSED: self._layer.diff_id}
            self._group.start_soon(self._leased.content.update, self._layer.descriptor.digest, labels)
        return True

    async def _is_there(self) -> bool:
        """Tell whether the snapshot exists, once our lease keeps it: daemons before 2.1 do not add it themselves."""
        if self._leased.lease is not None:
            resource = LeaseResource(type=f"snapshots/{self._snapshots.snapshotter}", id=self._layer.chain_id)
            await self._leased.leases.add_resource(self._leased.lease, resource)
        try:
            await self._snapshots.stat(self._layer.chain_id)
        except NotFoundError:
            return False
        return True

    async def _extract(self, mounts: Sequence[Mount]) -> None:
        layer = self._layer
        self._report("extracting", layer.descriptor)
        try:
            applied = await self._leased.diff.apply(layer.descriptor, mounts)
        except (NotFoundError, UnavailableError):
            raise  # the blob has gone, or the daemon has: nothing is wrong with the layer
        except ContainerdError as error:
            raise UnpackError(f"layer {layer.descriptor.digest} cannot be unpacked: {error}") from error
        if applied.digest != layer.diff_id:
            raise UnpackError(
                f"layer {layer.descriptor.digest} unpacks to {applied.digest}, the image's configuration says "
                f"{layer.diff_id}"
            )
        self._report("extracted", layer.descriptor)


def _is_staged(mounts: Sequence[Mount]) -> bool:
    # Some snapshotters of containerd 2.4 hand out a layer they know already: read-only, to be committed as it is.
    return bool(mounts) and "ro" in mounts[-1].options
