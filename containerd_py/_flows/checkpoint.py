"""Checkpoints: what runs in a container, its file system and what it is made of, as an index that can be restored.

`ctr` restores what is written here, and the reverse. Source: containerd, client (container.Checkpoint).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final

import attrs

from containerd_py._flows.authoring import write_document
from containerd_py._flows.criu_errors import raise_explained
from containerd_py._flows.defaults import default_platform
from containerd_py._flows.layer_diffs import diff_snapshot
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.pausing import paused
from containerd_py._flows.publishing import new_name
from containerd_py._flows.store_content import Incoming, store_content
from containerd_py._flows.undoing import settled, undoing
from containerd_py.errors import AlreadyExistsError, ContainerdError, FailedPreconditionError, NotFoundError
from containerd_py.image import Image
from containerd_py.labels import CHECKPOINT, GC_REF_CONTENT
from containerd_py.oci.digests import digest_of
from containerd_py.oci.image_documents import descriptor_document
from containerd_py.oci.media_types import (
    MEDIA_TYPE_CHECKPOINT,
    MEDIA_TYPE_CHECKPOINT_CONFIG,
    MEDIA_TYPE_CHECKPOINT_OPTIONS,
    MEDIA_TYPE_CHECKPOINT_RUNTIME_OPTIONS,
    MEDIA_TYPE_INDEX,
)
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord
from containerd_py.services.images import ImageRecord
from containerd_py.services.runc import CheckpointOptions
from containerd_py.services.tasks import TaskState
from containerd_py.services.wire import typed_to_bytes
from containerd_py.types import Descriptor, Platform
from containerd_py.typeurl import TypedValue

# Annotations of the index. The last is that of checkpoints of a task, the others are those of a container.
IMAGE_REF: Final = "org.opencontainers.image.ref.name"
RUNTIME_NAME: Final = "io.containerd.checkpoint.runtime"
SNAPSHOTTER_NAME: Final = "io.containerd.checkpoint.snapshotter"
IMAGE_NAME: Final = "image.name"
_RESTORABLE: Final = frozenset({TaskState.RUNNING, TaskState.PAUSED, TaskState.PAUSING})


@attrs.frozen(kw_only=True)
class Parts:
    """What goes into a checkpoint besides the container's spec."""

    task: bool = True
    rw: bool = True
    image: bool = True
    runtime: bool = True


ALL_PARTS: Final = Parts()


def checkpoint_name(container_id: str) -> str:
    """Return the name of a checkpoint that nobody has named."""
    moment = f"{datetime.now(UTC):%m-%d-%Y-%H-%M-%S}"
    return f"containerd.io/checkpoint/{container_id.lower()}:{moment}-{secrets.token_hex(4)}"


async def checkpoint(
    services: Services, container_id: str, ref: str, *, options: CheckpointOptions, parts: Parts = ALL_PARTS
) -> Image:
    """Write a checkpoint and give it a name; the container keeps still meanwhile. See `Container.checkpoint`."""
    name = new_name(ref)
    async with undoing(services.connection) as undo:
        async with hold_lease(services) as leased:
            await _refuse_taken(leased, name)
            record = await leased.containers.get(container_id)
            if parts.task:
                await _check_runs(leased, container_id)
            platform = await default_platform(leased)
            index = _Index(leased, record, platform)
            async with paused(leased, container_id):
                await index.add(parts, options)
            target = await index.write()
            image = ImageRecord(name=name, target=target, labels={CHECKPOINT: "true"})
            with undo.making(f"deleting image {name}", lambda: services.images.delete(name)):
                image = await settled(lambda: leased.images.create(image))
        undo.keep()
    return Image(services, name=name, target=image.target, platform=platform)


async def dump_task(services: Services, container_id: str, *, options: CheckpointOptions) -> None:
    """Have the task's state written into `options.image_path`, a folder on the daemon's host."""
    await _check_runs(services, container_id)
    await _dump(services, container_id, options)


async def _dump(services: Services, container_id: str, options: CheckpointOptions) -> list[Descriptor]:
    try:
        return await settled(partial(services.tasks.checkpoint, container_id, options=options.to_value()))
    except ContainerdError as error:
        await raise_explained(error, f"checkpoint of container {container_id}")
        raise


async def _check_runs(services: Services, container_id: str) -> None:
    try:
        state = (await services.tasks.get(container_id)).state
    except NotFoundError as error:
        raise FailedPreconditionError(f"container {container_id} has no task to make a checkpoint of") from error
    if state not in _RESTORABLE:
        raise FailedPreconditionError(
            f"the task of container {container_id} is {state}: a checkpoint needs a running one"
        )


async def _refuse_taken(services: Services, name: str) -> None:
    """Refuse before the container is stopped for nothing."""
    try:
        await services.images.get(name)
    except NotFoundError:
        return
    raise AlreadyExistsError(f"there is an image {name} already: choose another name for the checkpoint")


async def _content_of(leased: Services) -> set[str]:
    """Return the digests of what the lease holds."""
    resources = await leased.leases.list_resources(leased.lease or "")
    return {resource.id for resource in resources if resource.type == "content"}


class _Index:
    """The index of a checkpoint that is being made."""

    def __init__(self, leased: Services, record: ContainerRecord, platform: Platform) -> None:
        self._leased = leased
        self._record = record
        self._platform = platform
        self._members: list[Descriptor] = []

    async def add(self, parts: Parts, options: CheckpointOptions) -> None:
        """Take what is asked for. The task comes last: it may have ended afterwards."""
        leased, record = self._leased, self._record
        members = self._members
        if parts.image and record.image:
            members.append((await leased.images.get(record.image)).target)
        if parts.runtime and record.runtime.options is not None:
            members.append(await self._typed(MEDIA_TYPE_CHECKPOINT_RUNTIME_OPTIONS, record.runtime.options))
        if parts.rw and record.snapshot_key:
            layer = await diff_snapshot(
                leased, record.snapshotter, record.snapshot_key, compression="gzip", family="oci"
            )
            members.append(attrs.evolve(layer.descriptor, platform=self._platform))
        if parts.task:
            dumped = await self._dump(options)  # criu's files, and the spec
            members += [attrs.evolve(descriptor, platform=self._platform) for descriptor in dumped]
            members.append(await self._typed(MEDIA_TYPE_CHECKPOINT_OPTIONS, options.to_value()))
        elif record.spec is not None:
            members.append(await self._typed(MEDIA_TYPE_CHECKPOINT_CONFIG, record.spec))

    async def _dump(self, options: CheckpointOptions) -> list[Descriptor]:
        leased, record = self._leased, self._record
        before = await _content_of(leased)
        try:
            return await _dump(leased, record.id, options)
        except AlreadyExistsError:
            # Daemons before 2.0 fail once the spec is in the store, as after an earlier checkpoint; criu's files are
            # written by then, and are what the lease has got meanwhile.
            new = await _content_of(leased) - before
            if record.spec is not None:
                new.discard(digest_of(typed_to_bytes(record.spec)))
            if len(new) != 1 or record.spec is None:
                raise
            digest = new.pop()
        files = Descriptor(
            media_type=MEDIA_TYPE_CHECKPOINT, digest=digest, size=(await leased.content.info(digest)).size
        )
        return [files, await self._typed(MEDIA_TYPE_CHECKPOINT_CONFIG, record.spec)]

    async def write(self) -> Descriptor:
        """Store the index; its labels keep what it names."""
        document: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE_INDEX,
            "manifests": [descriptor_document(member) for member in self._members],
            "annotations": self._annotations(),
        }
        labels = {f"{GC_REF_CONTENT}.{place}": member.digest for place, member in enumerate(self._members)}
        return await write_document(self._leased, document, MEDIA_TYPE_INDEX, labels=labels)

    def _annotations(self) -> Mapping[str, str]:
        record = self._record
        return {
            IMAGE_REF: record.image,
            IMAGE_NAME: record.image,
            RUNTIME_NAME: record.runtime.name,
            SNAPSHOTTER_NAME: record.snapshotter,
        }

    async def _typed(self, media_type: str, value: TypedValue) -> Descriptor:
        data = typed_to_bytes(value)
        digest = digest_of(data)
        pieces = iter([data, b""])

        async def following() -> bytes:
            return next(pieces)

        await store_content(
            self._leased, Incoming(next=following, size=len(data), digest=digest, source=f"the {media_type}")
        )
        return Descriptor(media_type=media_type, digest=digest, size=len(data), platform=self._platform)
