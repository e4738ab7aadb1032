"""Exporting by transfer: the daemon makes the archive, we check it and write it on. From containerd 1.7 on.

The daemon ends its stream neither when it is done nor when it failed: the archive's own end marker ends it, and every
blob in it is digested on the way.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

import anyio

from containerd_py import platforms
from containerd_py._flows.export_plan import ExportScope, NamedImage
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.together import working_together
from containerd_py._flows.transfer_archives import transfer_archive
from containerd_py.archives.documents import BLOBS, DOCKER_FILE, INDEX_FILE
from containerd_py.archives.image_writers import ImageWriter
from containerd_py.archives.tar_headers import Kind
from containerd_py.archives.tar_reader import Member, TarReader
from containerd_py.archives.tar_writer import BLOB_MODE, FILE_MODE
from containerd_py.errors import ArchiveError, DataLossError, DigestMismatchError, InvalidArgumentError
from containerd_py.oci.digests import is_digest
from containerd_py.progress import Progress
from containerd_py.services.bundle import Services
from containerd_py.services.streaming import new_stream_id
from containerd_py.services.transfer import ExportStreamEndpoint, ExtraReference, ImageStoreEndpoint

_STALL_BOUND: Final = 10.0  # seconds that the rest may take to arrive once the daemon says it has sent all


async def export_by_transfer(
    services: Services,
    images: list[NamedImage],
    scope: ExportScope,
    writer: ImageWriter,
    *,
    docker_manifest: bool,
) -> None:
    """Have the daemon write an archive of the images, and write its files on.

    Raises:
        InvalidArgumentError: An option is nothing for a daemon.
        NotSupportedError: The daemon is older than containerd 1.7.
        NotFoundError: Content is missing, or an image has nothing for the platform.
        DataLossError: What arrived is not what the daemon meant to send.
    """
    if scope.skip_missing:
        raise InvalidArgumentError('a daemon that exports itself knows no skip_missing: export via="client"')
    archive_id = new_stream_id("export")
    source = ImageStoreEndpoint(
        name="", extra_references=tuple(ExtraReference(name=name) for name in {image.name: None for image in images})
    )
    destination = ExportStreamEndpoint(
        stream=archive_id,
        platforms=platforms.only(scope.platform).platforms or (),
        all_platforms=scope.all_platforms,
        skip_compatibility_manifest=not docker_manifest,
        skip_non_distributable=scope.skip_non_distributable,
    )
    async with (
        hold_lease(services) as leased,
        leased.streaming.open(archive_id) as stream,
        aclosing(stream.receive_bytes()) as chunks,
        working_together() as group,
    ):
        receiving = _Receiving(chunks, writer)
        group.start_soon(receiving.run)
        await transfer_archive(leased, source, destination, _to_nobody)
        await receiving.wait_for_rest()


def _to_nobody(_progress: Progress) -> None:
    """Report to nobody."""


class _Receiving:
    """An archive that arrives, on its way into a writer."""

    def __init__(self, chunks: AsyncIterator[bytes], writer: ImageWriter) -> None:
        self._reader = TarReader(chunks, reads_on=False)
        self._writer = writer
        self._has_ended = anyio.Event()

    async def run(self) -> None:
        async for member in self._reader:
            if member.kind is Kind.FOLDER:
                await self._writer.folder(member.path)
            elif member.kind is Kind.FILE:
                await self._file(member)
            else:
                raise ArchiveError(f"the daemon sent a {member.kind.value}", offset=member.offset)
        self._has_ended.set()

    async def wait_for_rest(self) -> None:
        """Wait for the end of the archive, which the daemon has sent."""
        while not self._has_ended.is_set():
            offset = self._reader.offset
            with anyio.move_on_after(_STALL_BOUND):
                await self._has_ended.wait()
            if self._reader.offset == offset and not self._has_ended.is_set():
                raise DataLossError(f"the daemon has sent an archive, and only {offset} bytes of it arrived")

    async def _file(self, member: Member) -> None:
        mode = FILE_MODE if member.path in {INDEX_FILE, DOCKER_FILE} else BLOB_MODE
        await self._writer.file(member.path, member.size, mode)
        promised = _digest_in(member.path)
        digest = hashlib.new(promised.partition(":")[0] or "sha256")
        while chunk := bytes(await self._reader.chunk()):
            digest.update(chunk)
            await self._writer.write(chunk)
        actual = f"{digest.name}:{digest.hexdigest()}"
        if promised not in {"", actual}:
            raise DigestMismatchError(promised, actual, "the daemon")
        await self._writer.end_file()


def _digest_in(path: str) -> str:
    parts = path.split("/")
    digest = ":".join(parts[1:])
    return digest if parts[0] == BLOBS and is_digest(digest) else ""
