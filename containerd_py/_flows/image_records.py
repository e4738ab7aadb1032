"""Writing image records next to others who write them too. Knows the Images service."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

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


async def change_labels(services: Services, name: str, labels: Mapping[str, str]) -> ImageRecord:
    """Set labels of a record, an empty value removing one; the others stay.

    Raises:
        NotFoundError: There is no image of that name.
    """
    record = await services.images.get(name)
    return await services.images.update(attrs.evolve(record, labels=labels), fields=label_mask(labels))
