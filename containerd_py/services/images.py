"""Image records: names for content. Knows the Images service; knows nothing of registries or of what an image holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Final

import attrs

from containerd_py._generated.containerd.services.images.v1 import (
    CreateImageRequest,
    DeleteImageRequest,
    GetImageRequest,
    ImagesStub,
    ListImagesRequest,
    ListImagesResponse,
    UpdateImageRequest,
)
from containerd_py._generated.containerd.services.images.v1 import Image as WireImage
from containerd_py._transport.connection import Rpc
from containerd_py.filters import checked_filters
from containerd_py.labels import check_labels
from containerd_py.services.wire import (
    descriptor_from_bytes,
    descriptor_to_wire,
    mask_to_wire,
    required,
    time_from_bytes,
    time_to_wire,
)
from containerd_py.types import NO_LABELS, Descriptor, Timestamp, frozen_map

LIST_ROUTE: Final = "/containerd.services.images.v1.Images/List"


@attrs.frozen(kw_only=True)
class ImageRecord:
    """A name and the content it stands for, as the daemon keeps it (containerd.services.images.v1.Image).

    `target` and `labels` may be changed; the name identifies; the times are the daemon's.
    """

    name: str
    target: Descriptor
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    created_at: Timestamp | None = None
    updated_at: Timestamp | None = None


def _record(data: bytes, begin: int, end: int) -> ImageRecord:
    name, labels, target, created_at, updated_at = WireImage.values(data, begin, end)
    return ImageRecord(
        name=name,
        target=descriptor_from_bytes(required(target, "the image's target")),
        labels=labels,
        created_at=time_from_bytes(created_at),
        updated_at=time_from_bytes(updated_at),
    )


def _record_from_wire(value: WireImage | None) -> ImageRecord:
    data = bytes(required(value, "the image"))
    return _record(data, 0, len(data))


def _record_to_wire(record: ImageRecord) -> WireImage:
    check_labels(record.labels)
    return WireImage(name=record.name, labels=dict(record.labels), target=descriptor_to_wire(record.target))


class ImagesService:
    """The Images service, typed (containerd.services.images.v1.Images)."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def _stub(self) -> ImagesStub:
        return self._rpc.stub(ImagesStub)

    async def get(self, name: str) -> ImageRecord:
        """Return the record of that exact name (Images.Get).

        Raises:
            NotFoundError: There is none.
        """
        reply = await self._rpc.read(self._stub.get, GetImageRequest(name=name))
        return _record_from_wire(reply.image)

    async def list(self, filters: Iterable[str] = ()) -> list[ImageRecord]:
        """Return the records that match any of the filters, all without one (Images.List).

        Filter fields: `name`, `target.digest`, `target.mediatype`, `labels`, `annotations`.
        """
        request = ListImagesRequest(filters=checked_filters(filters))
        return await self._rpc.list(LIST_ROUTE, request, ListImagesResponse, _record, is_stream=False)

    async def create(self, record: ImageRecord, *, source_date_epoch: Timestamp | None = None) -> ImageRecord:
        """Create a record (Images.Create); `source_date_epoch` becomes its creation time, from containerd 1.7 on.

        Raises:
            AlreadyExistsError: The name is taken.
        """
        request = CreateImageRequest(image=_record_to_wire(record), source_date_epoch=time_to_wire(source_date_epoch))
        return _record_from_wire((await self._stub.create(request)).image)

    async def update(
        self,
        record: ImageRecord,
        *,
        fields: Iterable[str] | None = None,
        source_date_epoch: Timestamp | None = None,
    ) -> ImageRecord:
        """Change a record (Images.Update).

        Without `fields`, target and labels are replaced. Fields: `target`, `labels`, `labels.KEY` (an empty value
        removes it), `annotations`.

        Raises:
            NotFoundError: There is no image of that name.
        """
        request = UpdateImageRequest(
            image=_record_to_wire(record),
            update_mask=mask_to_wire(fields),
            source_date_epoch=time_to_wire(source_date_epoch),
        )
        return _record_from_wire((await self._stub.update(request)).image)

    async def delete(self, name: str, *, synchronous: bool = False, target: Descriptor | None = None) -> None:
        """Delete a record (Images.Delete); its content goes with the next garbage collection.

        `synchronous` waits for that collection. With `target`, daemons from 2.0 on refuse when the image stands for
        something else by now.

        Raises:
            NotFoundError: There is no image of that name, or it has another target.
        """
        wire_target = None if target is None else descriptor_to_wire(target)
        await self._stub.delete(DeleteImageRequest(name=name, sync=synchronous, target=wire_target))
