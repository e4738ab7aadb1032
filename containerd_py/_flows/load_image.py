"""Finding images that are there, as handles."""

from __future__ import annotations

from collections.abc import Iterable

from containerd_py._flows.defaults import chosen_platform
from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.image import Image
from containerd_py.references import Reference
from containerd_py.services.bundle import Services
from containerd_py.services.images import ImageRecord
from containerd_py.types import Platform


async def load_image(services: Services, name: str, *, platform: Platform | str | None = None) -> Image:
    """Return the image of that name, taken as it is first and then normalised as in a pull.

    `platform` is what its manifest and configuration are read for; None: the daemon's.

    Raises:
        NotFoundError: There is none.
    """
    record = await find_record(services, name)
    return _image(services, record, await chosen_platform(services, platform))


async def list_images(
    services: Services, filters: Iterable[str] = (), *, platform: Platform | str | None = None
) -> list[Image]:
    """Return the images that match any of the filters, all without one; see `ImagesService.list` for the fields."""
    records = await services.images.list(filters)
    chosen = await chosen_platform(services, platform)
    return [_image(services, record, chosen) for record in records]


async def find_record(services: Services, name: str) -> ImageRecord:
    """Return the record of that name, taken as it is first and then normalised.

    Raises:
        NotFoundError: There is none.
    """
    try:
        return await services.images.get(name)
    except NotFoundError:
        full = _full_name(name)
        if full == name:
            raise
    return await services.images.get(full)


def _full_name(name: str) -> str:
    try:
        return str(Reference.parse(name))
    except InvalidArgumentError:
        return name  # some programs name images as no reference could be


def _image(services: Services, record: ImageRecord, platform: Platform) -> Image:
    return Image(services, name=record.name, target=record.target, platform=platform)
