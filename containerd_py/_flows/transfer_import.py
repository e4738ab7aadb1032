"""Importing by transfer: we send the archive as it is, the daemon reads and stores it. From containerd 1.7 on."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Self

from containerd_py import platforms
from containerd_py._flows.import_options import ImportPlan, ImportWish, default_base_name
from containerd_py._flows.import_unpack import unpack_imported
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.progress_board import ProgressBoard
from containerd_py._flows.together import working_together
from containerd_py._flows.transfer_archives import transfer_archive
from containerd_py.archives.limits import DEFAULT_LIMITS
from containerd_py.archives.sources import ArchiveSource, is_folder, open_source
from containerd_py.errors import ArchiveError, ContainerdError, InvalidArgumentError
from containerd_py.progress import Progress
from containerd_py.services.bundle import Services
from containerd_py.services.images import ImageRecord
from containerd_py.services.streaming import DaemonStream, new_stream_id
from containerd_py.services.transfer import ExtraReference, ImageStoreEndpoint, ImportStreamEndpoint

_log = logging.getLogger(__name__)


async def import_by_transfer(
    services: Services, source: ArchiveSource, plan: ImportPlan, board: ProgressBoard
) -> list[ImageRecord]:
    """Have the daemon import an archive and return the image records it made; then unpack.

    Unlike in a client-side import the records are there before the images are unpacked, and stay if that fails.

    Raises:
        InvalidArgumentError: An option or the source is nothing for a daemon.
        NotSupportedError: The daemon is older than containerd 1.7.
        ArchiveError: The daemon does not take the archive, or it names none of its images.
        NotFoundError: There is no such file, or nothing for the platform.
    """
    _check(source, plan.wish)
    saved: dict[str, None] = {}

    def report(progress: Progress) -> None:
        if progress.event == "saved":
            saved[progress.name] = None
        board.report(progress)

    archive_id = new_stream_id("import")
    async with hold_lease(services) as leased:
        async with (
            open_source(source) as chunks,
            leased.streaming.open(archive_id) as stream,
            working_together() as group,
        ):
            group.start_soon(_send, stream, _Watched(chunks))
            endpoint = ImportStreamEndpoint(stream=archive_id, force_compress=plan.wish.compress_layers)
            await transfer_archive(leased, endpoint, _destination(plan), report)
            await group.end()  # the daemon reads no further than to the archive's end
        if not saved:
            raise ArchiveError("the archive names none of its images, or none with the base name")
        records = [await leased.images.get(name) for name in saved]
        for record in {record.target.digest: record for record in records}.values():
            await unpack_imported(leased, record.target, plan, board)
    return records


def _check(source: ArchiveSource, wish: ImportWish) -> None:
    asked = {
        "translate_name": wish.translate_name is not None,
        "skip_missing": wish.skip_missing,
        "discard_unpacked_layers": wish.discard_unpacked_layers,
        "limits": wish.limits != DEFAULT_LIMITS,
    }
    ours = [name for name, is_asked in asked.items() if is_asked]
    if ours:
        raise InvalidArgumentError(f'a daemon that imports itself knows no {", ".join(ours)}: import via="client"')
    if is_folder(source):
        raise InvalidArgumentError('a folder cannot be sent to the daemon: import it via="client"')


def _destination(plan: ImportPlan) -> ImageStoreEndpoint:
    wish = plan.wish
    reference = ExtraReference(
        name=wish.base_name or default_base_name(),
        is_prefix=True,
        allow_overwrite=wish.base_name is None,
        add_digest=wish.digest_names != "never",
        skip_named_digest=wish.digest_names == "unnamed",
    )
    return ImageStoreEndpoint(
        name=wish.index_name or "",
        labels=plan.labels,
        platforms=() if wish.all_platforms else platforms.only(plan.platform).platforms or (),
        extra_references=(reference,),
    )


class _Watched:
    """Iterates over a source's chunks, and remembers what it failed with."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.failure: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.failure = error
            raise


async def _send(stream: DaemonStream, chunks: _Watched) -> None:
    try:
        await stream.send_bytes(chunks)
    except ContainerdError as error:
        if chunks.failure is not None:
            raise  # before the daemon takes the source's failure for the archive's end
        _log.debug("the daemon stopped reading an archive: %r", error)  # why, the transfer's own call says
