"""A container's changes as a new image on top of the very image it was created from."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime

from containerd_py._flows.assembling import Base, base_of, write_image
from containerd_py._flows.defaults import default_platform
from containerd_py._flows.layer_diffs import diff_snapshot
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.parent_image import find_parent
from containerd_py._flows.pausing import paused
from containerd_py._flows.publishing import new_name, publish
from containerd_py._flows.specs import spec_of
from containerd_py._flows.undoing import undoing
from containerd_py._flows.unpack import unpack_image
from containerd_py.container import Container
from containerd_py.errors import FailedPreconditionError
from containerd_py.image import Image
from containerd_py.oci.config_changes import NO_CHANGES, ConfigChanges
from containerd_py.oci.image_spec import History
from containerd_py.oci.media_type_families import Compression, check_compression
from containerd_py.oci.user_namespaces import HOST_IDS, user_namespace_of
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord
from containerd_py.services.images import ImageRecord
from containerd_py.types import Timestamp


async def commit(
    services: Services,
    container: Container | str,
    ref: str,
    *,
    author: str | None = None,
    message: str | None = None,
    changes: ConfigChanges = NO_CHANGES,
    pause: bool = True,
    compression: Compression = "gzip",
) -> Image:
    """Make an image of a container's file system; see `Client.commit`."""
    name = new_name(ref)
    compression = check_compression(compression)
    record = await services.containers.get(container if isinstance(container, str) else container.id)
    if not record.snapshot_key:
        raise FailedPreconditionError(f"container {record.id} has no snapshot: there is nothing to commit")
    if record.spec is not None and user_namespace_of(spec_of(record)) != HOST_IDS:
        raise FailedPreconditionError(
            f"container {record.id} has a user namespace: its files belong to users of the host, and would in "
            "an image, too: none can be made of it"
        )
    async with undoing(services.connection) as undo:
        async with hold_lease(services) as leased:
            base = await _parent(leased, record)
            async with paused(leased, record.id) if pause else nullcontext():
                layer = await diff_snapshot(
                    leased, record.snapshotter, record.snapshot_key, compression=compression, family=base.family
                )
            created = Timestamp.from_datetime(datetime.now(UTC))
            step = History(created=created, created_by=_command(record), author=author or "", comment=message or "")
            target = await write_image(
                leased, base, [layer], history=[step], changes=changes, created=created, author=author
            )
            await unpack_image(leased, target, base.platform, record.snapshotter)
            await publish(leased, undo, ImageRecord(name=name, target=target))
        undo.keep()
    return Image(services, name=name, target=target, platform=base.platform)


async def _parent(leased: Services, record: ContainerRecord) -> Base:
    chain_id = (await leased.snapshotter(record.snapshotter).stat(record.snapshot_key)).parent
    parent = await find_parent(leased, record, chain_id)
    platform = await default_platform(leased)
    return Base(platform=platform) if parent is None else await base_of(leased, parent, platform)


def _command(record: ContainerRecord) -> str:
    return "" if record.spec is None else " ".join(spec_of(record).get("process", {}).get("args", ()))
