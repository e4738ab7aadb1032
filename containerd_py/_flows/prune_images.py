"""Removing images that nobody needs: their names; content goes with the garbage collection that follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import attrs

from containerd_py._flows.image_walk import local_config, top_chain_id, walk_image
from containerd_py._flows.load_image import find_record
from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.references import Reference
from containerd_py.services.bundle import Services
from containerd_py.services.images import ImageRecord


@attrs.frozen(kw_only=True)
class PruneReport:
    """What was removed, or would be where `is_dry_run`: records, and the bytes of content that only they named."""

    images: tuple[ImageRecord, ...]
    size: int
    is_dry_run: bool


async def prune_images(
    services: Services, *, unused: bool = False, filters: Iterable[str] = (), dry_run: bool = False
) -> PruneReport:
    """Remove images that no container uses; see `Client.prune_images`."""
    records = await services.images.list()
    chosen = {record.name for record in await services.images.list([*filters])}
    usage = await _usage(services, records)
    doomed = [
        record
        for record in records
        if record.name in chosen
        and (unused or not _has_tag(record.target.digest, records))
        and not await usage.covers(services, record)
    ]
    size = await _size_without(services, doomed, [record for record in records if record not in doomed])
    gone = doomed if dry_run else await _delete(services, doomed)
    return PruneReport(images=tuple(gone), size=size, is_dry_run=dry_run)


async def untag(services: Services, name: str, *, synchronous: bool) -> None:
    """Remove a name, taken as it is first and then normalised as in a pull."""
    record = await find_record(services, name)
    await services.images.delete(record.name, synchronous=synchronous)


@attrs.frozen
class _Usage:
    """What containers use: the targets of the names they were created from, and the snapshots they stand on."""

    targets: frozenset[str]
    chain_ids: frozenset[str]

    async def covers(self, services: Services, record: ImageRecord) -> bool:
        if record.target.digest in self.targets:
            return True
        if not self.chain_ids:
            return False
        for found in (await walk_image(services, record.target)).manifests:
            config = await local_config(services, found)
            if config is not None and top_chain_id(config) in self.chain_ids:
                return True
        return False


async def _usage(services: Services, records: Sequence[ImageRecord]) -> _Usage:
    containers = await services.containers.list()
    names = {container.image for container in containers}
    parents = set()
    for container in containers:
        if container.snapshot_key and container.snapshotter:
            with suppress(NotFoundError):
                info = await services.snapshotter(container.snapshotter).stat(container.snapshot_key)
                parents.add(info.parent)
    return _Usage(
        targets=frozenset(record.target.digest for record in records if record.name in names),
        chain_ids=frozenset(parents - {""}),
    )


def _has_tag(digest: str, records: Iterable[ImageRecord]) -> bool:
    return any(record.target.digest == digest and _is_tagged(record.name) for record in records)


def _is_tagged(name: str) -> bool:
    """Tell whether a name is one that a person gave: neither a bare digest nor REPOSITORY@DIGEST."""
    if name.startswith("sha256:"):
        return False
    try:
        return Reference.parse(name).tag is not None
    except InvalidArgumentError:
        return True


async def _size_without(services: Services, doomed: Sequence[ImageRecord], kept: Sequence[ImageRecord]) -> int:
    if not doomed:
        return 0
    wanted = await _content_of(services, kept)
    alone = {digest for digest in await _content_of(services, doomed) if digest not in wanted}
    size = 0
    for digest in alone:
        with suppress(NotFoundError):
            size += (await services.content.info(digest)).size
    return size


async def _content_of(services: Services, records: Iterable[ImageRecord]) -> Mapping[str, object]:
    found: dict[str, object] = {}
    for target in {record.target.digest: record.target for record in records}.values():
        found |= (await walk_image(services, target)).blobs
    return found


async def _delete(services: Services, doomed: Sequence[ImageRecord]) -> list[ImageRecord]:
    gone = []
    for index, record in enumerate(doomed, start=1):
        with suppress(NotFoundError):  # somebody else has deleted it, or given its name to another image
            await services.images.delete(record.name, synchronous=index == len(doomed), target=record.target)
            gone.append(record)
    return gone
