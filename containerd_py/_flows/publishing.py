"""Giving a new image its name, and taking it back when the flow that made it ends badly after all."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from containerd_py._flows.image_records import save_record
from containerd_py._flows.undoing import Undo, settled
from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.references import Reference
from containerd_py.services.bundle import Services
from containerd_py.services.images import ImageRecord


def new_name(ref: str) -> str:
    """Return the name an image made here gets.

    Raises:
        InvalidArgumentError: It is no reference, or one with a digest, which nobody can choose.
    """
    reference = Reference.parse(ref)
    if reference.digest:
        raise InvalidArgumentError(f"{ref}: an image is named by a tag, its digest comes of its content")
    return str(reference)


async def publish(leased: Services, undo: Undo, record: ImageRecord) -> ImageRecord:
    """Save the record of a new image; what the name stood for before comes back if the flow is undone."""
    before: ImageRecord | None = None
    with suppress(NotFoundError):
        before = await leased.images.get(record.name)
    undo.push(f"taking back image {record.name}", partial(_take_back, leased.in_scope(), record, before))
    return await settled(partial(save_record, leased, record))


async def _take_back(services: Services, record: ImageRecord, before: ImageRecord | None) -> None:
    present = await services.images.get(record.name)
    if present.target.digest != record.target.digest:
        return  # somebody else gave the name to another image
    if before is None:
        await services.images.delete(record.name)
    elif before.target.digest != record.target.digest:
        await services.images.update(before, fields=["target", "labels"])
