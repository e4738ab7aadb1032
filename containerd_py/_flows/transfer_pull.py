"""Pulling by transfer: the daemon talks to the registry, and tells us how it goes and asks us who we are.

Needs containerd 1.7 or later. Source: containerd, core/transfer.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import attrs

from containerd_py import platforms
from containerd_py._flows.image_content import (
    ImageContent,
    find_manifest,
    list_platforms,
    no_such_platform,
    read_config,
)
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.progress_board import ProgressBoard
from containerd_py._flows.pull_request import PullRequest
from containerd_py._flows.transfer_errors import cannot_unpack, lacks_platform, poisoned_ingest, typed_error
from containerd_py._flows.transfer_talk import TransferTalk
from containerd_py._flows.undoing import tidy
from containerd_py._flows.unpack import artifact_error, is_unpacked, plan_layers, unpack_layers
from containerd_py.errors import ContainerdError, NotFoundError
from containerd_py.oci.image_spec import MEDIA_TYPE_INDEX, is_config
from containerd_py.services.bundle import Services
from containerd_py.services.images import ImageRecord
from containerd_py.services.transfer import ImageStoreEndpoint, Unpack
from containerd_py.services.wire import label_mask
from containerd_py.types import Descriptor

ATTEMPTS: Final = 2  # the second one after throwing bad content away


async def pull_by_transfer(services: Services, request: PullRequest, board: ProgressBoard) -> ImageRecord:
    """Have the daemon pull an image and return its record.

    Raises:
        NotSupportedError: The daemon is older than containerd 1.7.
        RegistryError: The registry refused, failed or misbehaved.
        NotFoundError: The image has nothing for the platform; the message says what it has.
        DataLossError: The registry sent something else than its descriptor says, twice.
        UnpackError: A layer is damaged.
    """
    async with hold_lease(services) as leased:
        labels = await _labels_of(leased, request.name)
        await _Pulling(leased, request, board).run()
        record = await leased.images.get(request.name)
        # The daemon replaces all labels, also those that others have put on the record.
        lost = {key: value for key, value in labels.items() if key not in record.labels}
        if lost:
            record = await leased.images.update(attrs.evolve(record, labels=lost), fields=label_mask(lost))
        if request.snapshotter is not None:
            await _unpack_rest(leased, record, request, request.snapshotter)
        return record


async def _labels_of(services: Services, name: str) -> dict[str, str]:
    try:
        return dict((await services.images.get(name)).labels)
    except NotFoundError:
        return {}


async def _unpack_rest(leased: Services, record: ImageRecord, request: PullRequest, snapshotter: str) -> None:
    """Unpack what the daemon has not: it does so only for the platforms and snapshotters of its configuration."""
    found = await find_manifest(leased, record.target, request.platform)
    if not is_config(found.manifest.config.media_type):
        raise artifact_error(request.name, found.manifest)
    image = ImageContent(found=found, config=await read_config(leased, found.manifest.config))
    layers = plan_layers(image)
    if layers and not await is_unpacked(leased, layers[-1].chain_id, snapshotter):
        await unpack_layers(leased, snapshotter, layers, image.manifest.config)


class _Pulling:
    """The transfer, done again where that helps."""

    def __init__(self, leased: Services, request: PullRequest, board: ProgressBoard) -> None:
        self._leased = leased
        self._request = request
        self._talk = TransferTalk(leased, request, board)

    async def run(self) -> None:
        unpack = self._request.snapshotter is not None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._transfer_or_leave_packed(unpack=unpack)
            except ContainerdError as error:
                ref = poisoned_ingest(error)
                if ref is not None:  # the daemon would commit it again and again without asking the registry
                    await tidy(f"aborting ingest {ref!r}", partial(self._leased.in_scope().content.abort, ref))
                if ref is None or attempt == ATTEMPTS:
                    raise await self._explained(error) from error.__cause__
            else:
                break
        self._talk.warn_of_lookup_failures()

    async def _transfer_or_leave_packed(self, *, unpack: bool) -> None:
        try:
            await self._transfer(unpack=unpack)
        except ContainerdError as error:
            if not (unpack and cannot_unpack(error)):
                raise
        else:
            return
        await self._transfer(unpack=False)

    async def _explained(self, error: ContainerdError) -> Exception:
        self._talk.raise_lookup_failure(error)
        if lacks_platform(error) and self._talk.root:
            index = Descriptor(media_type=MEDIA_TYPE_INDEX, digest=self._talk.root, size=0)
            present = await list_platforms(self._leased, index)
            return no_such_platform(f"{self._request.name} ({self._talk.root})", self._request.platform, present)
        return typed_error(error, self._request.reference.host)

    async def _transfer(self, *, unpack: bool) -> None:
        await self._talk.transfer(lambda registry: (registry, self._destination(unpack=unpack)))

    def _destination(self, *, unpack: bool) -> ImageStoreEndpoint:
        request = self._request
        one = () if request.all_platforms else platforms.only(request.platform).platforms or ()
        return ImageStoreEndpoint(
            name=request.name,
            labels=request.labels,
            platforms=one,
            manifest_limit=len(one[:1]),
            unpacks=(Unpack(platform=request.platform, snapshotter=request.snapshotter or ""),) if unpack else (),
        )
