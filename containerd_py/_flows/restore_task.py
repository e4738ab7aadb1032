"""What a task is to be brought back from: criu's files in the content store, or in a folder of the daemon's host."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from containerd_py._flows.image_content import read_index
from containerd_py.errors import InvalidArgumentError
from containerd_py.image import Image
from containerd_py.oci.media_types import MEDIA_TYPE_CHECKPOINT, is_index
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord
from containerd_py.services.runc import RuncOptions
from containerd_py.types import Descriptor
from containerd_py.typeurl import TypedValue

RestorePoint: TypeAlias = Image | Descriptor | str


@attrs.frozen(kw_only=True)
class TaskStart:
    """How a task begins: from nothing, from criu's files in the content store, or as the runtime's options say."""

    files: Descriptor | None = None
    options: TypedValue | None = None


async def restore_point(
    services: Services, record: ContainerRecord, checkpoint: RestorePoint | None, options: TypedValue | None
) -> TaskStart:
    """Find what a task is to be brought back from."""
    match checkpoint:
        case None:
            return TaskStart(options=options)
        case Descriptor():
            return TaskStart(files=checkpoint, options=options)
        case Image():
            return TaskStart(files=await _files(services, checkpoint), options=options)
        case str():
            return TaskStart(options=_from_folder(record, checkpoint, options))


async def _files(services: Services, checkpoint: Image) -> Descriptor:
    if is_index(checkpoint.target.media_type):
        for member in (await read_index(services, checkpoint.target)).manifests:
            if member.media_type == MEDIA_TYPE_CHECKPOINT:
                return member
    raise InvalidArgumentError(f"{checkpoint.name} has no task in it: make the checkpoint with task=True")


def _from_folder(record: ContainerRecord, folder: str, options: TypedValue | None) -> TypedValue:
    """Return the options that would hold without the checkpoint, with the folder added."""
    if not folder.startswith("/"):
        raise InvalidArgumentError(f"{folder!a} is no absolute path: name criu's folder on the daemon's host")
    present = record.runtime.options if options is None else options
    base = RuncOptions() if present is None else RuncOptions.from_value(present)
    return attrs.evolve(base, criu_image_path=folder).to_value()
