"""Importing images, whichever way suits daemon and request, with the progress on the side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Unpack

from containerd_py._flows.import_archive import import_archive
from containerd_py._flows.import_options import ImportOptions, ImportWish
from containerd_py._flows.progress_board import ProgressBoard
from containerd_py._flows.together import working_together
from containerd_py._flows.transfer_import import import_by_transfer
from containerd_py._flows.watched import Watched
from containerd_py.archives.sources import ArchiveSource
from containerd_py.image import Image
from containerd_py.services.bundle import Services


class Import(Watched[list[Image]]):
    """An import under way: an iterator over its progress, and the images once it has ended. Made by `open_import`."""

    @property
    def images(self) -> list[Image]:
        """The images, in the archive's order. See `wait`, which waits for them.

        Raises:
            FailedPreconditionError: The import has not ended, or was left before its end.
            Exception: What it failed with.
        """
        return self.result


@asynccontextmanager
async def open_import(
    services: Services, source: ArchiveSource, **options: Unpack[ImportOptions]
) -> AsyncIterator[Import]:
    """Import while the block reads the progress; leaving the block early cancels the import. See `import_images`.

    Raises:
        Exception: What the import failed with, out of the iteration; at the end of the block if nobody read it.
    """
    wish = ImportWish(**options)

    async def flow(board: ProgressBoard) -> list[Image]:
        return await _import(services, source, wish, board)

    importing = Import("the import", flow)
    async with working_together() as group:
        group.start_soon(importing.run)
        try:
            yield importing
        finally:
            await group.end()
    importing.raise_unseen()


async def import_images(services: Services, source: ArchiveSource, **options: Unpack[ImportOptions]) -> list[Image]:
    """Import the images of an archive or layout, unpack them, and return them in the archive's order.

    Nothing is kept unless everything is well: content is checked against its digests, and image records come last.
    """
    async with open_import(services, source, **options) as importing:
        return await importing.wait()


async def _import(services: Services, source: ArchiveSource, wish: ImportWish, board: ProgressBoard) -> list[Image]:
    plan = await wish.settle(services)
    # "auto" is us: the daemon's own import checks less, knows fewer of the options, and its streams are slower.
    do = import_by_transfer if wish.via == "transfer" else import_archive
    records = await do(services, source, plan, board)
    return [Image(services, name=record.name, target=record.target, platform=plan.platform) for record in records]
