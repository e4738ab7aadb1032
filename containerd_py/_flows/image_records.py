"""Writing image records next to others who write them too. Knows the Images service."""

from __future__ import annotations

from containerd_py.errors import AlreadyExistsError, NotFoundError
from containerd_py.services.bundle import Services
from containerd_py.services.images import ImageRecord
from containerd_py.services.wire import label_mask


async def save_record(services: Services, record: ImageRecord) -> ImageRecord:
    """Create an image record, or give the one of that name this target and these labels; its other labels stay."""
    while True:  # others may create or delete it between our calls
        try:
            return await services.images.create(record)
        except AlreadyExistsError:
            pass
        try:
            return await services.images.update(record, fields=["target", *label_mask(record.labels)])
        except NotFoundError:
            continue
