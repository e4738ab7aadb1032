"""Exporting images, whichever way suits daemon and request, to wherever the bytes are to go."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Final, Self, TypedDict, Unpack, get_args

import anyio
import attrs
from anyio import to_thread

from containerd_py._flows.defaults import chosen_platform
from containerd_py._flows.export_archive import export_archive
from containerd_py._flows.export_plan import ExportScope, NamedImage
from containerd_py._flows.import_options import ArchiveVia
from containerd_py._flows.load_image import find_record
from containerd_py._flows.together import working_together
from containerd_py._flows.transfer_export import export_by_transfer
from containerd_py.archives.image_writers import ImageWriter, open_folder, open_tar
from containerd_py.archives.sinks import ByteSink, open_file_sink
from containerd_py.errors import InvalidArgumentError
from containerd_py.image import Image
from containerd_py.oci.media_type_families import COMPRESSIONS, Compression
from containerd_py.services.bundle import Services
from containerd_py.types import Platform

ExportNames = str | Image | Iterable[str | Image]
Destination = str | os.PathLike[str] | ByteSink

_VIAS: Final = get_args(ArchiveVia)


class ExportOptions(TypedDict, total=False):
    """The options of an export, by keyword."""

    platform: Platform | str | None
    all_platforms: bool
    skip_missing: bool
    skip_non_distributable: bool
    docker_manifest: bool
    compression: Compression
    via: ArchiveVia


@attrs.frozen(kw_only=True)
class ExportWish:
    """An export as it was asked for. See `export_images` for the fields."""

    platform: Platform | str | None = None
    all_platforms: bool = False
    skip_missing: bool = False
    skip_non_distributable: bool = False
    docker_manifest: bool = True
    compression: Compression = "none"
    via: ArchiveVia = "auto"

    def __attrs_post_init__(self) -> None:
        for name, value, allowed in (("via", self.via, _VIAS), ("compression", self.compression, COMPRESSIONS)):
            if value not in allowed:
                raise InvalidArgumentError(f"{name}={value!r}: say one of {', '.join(allowed)}")
        if self.all_platforms and self.platform is not None:
            raise InvalidArgumentError("all_platforms leaves no platform to choose: give one or the other")


async def export_images(
    services: Services, names: ExportNames, destination: Destination, **options: Unpack[ExportOptions]
) -> None:
    """Write images into an archive, or a folder, as an OCI image layout; the same images give the same bytes.

    Raises:
        NotFoundError: There is no such image, content of it is missing, or it has nothing for the platform.
        DataLossError: Content is not what its descriptor says.
        AlreadyExistsError: The folder is there, and not empty.
        OSError: The file or folder cannot be written.
    """
    await _export(services, names, destination, ExportWish(**options))


async def _export(services: Services, names: ExportNames, destination: Destination, wish: ExportWish) -> None:
    images = await _find(services, names)
    scope = ExportScope(
        platform=await chosen_platform(services, wish.platform),
        all_platforms=wish.all_platforms,
        skip_missing=wish.skip_missing,
        skip_non_distributable=wish.skip_non_distributable,
    )
    # "auto" is us: the daemon's own export knows fewer of the options, and its streams are slower.
    export = export_by_transfer if wish.via == "transfer" else export_archive
    async with _open_writer(destination, wish.compression) as (writer, is_folder):
        await export(services, images, scope, writer, docker_manifest=wish.docker_manifest and not is_folder)


class Export:
    """An archive in the making: an iterator over its bytes, at whose end it is whole. Made by `open_export`."""

    def __init__(self, services: Services, names: ExportNames, wish: ExportWish) -> None:
        self._services = services
        self._names = names
        self._wish = wish
        self._send, self._receive = anyio.create_memory_object_stream[bytes](0)
        self._failure: Exception | None = None
        self._is_failure_seen = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            self.raise_unseen()
            raise StopAsyncIteration from None

    async def run(self) -> None:
        """Make it; for `open_export` alone."""
        async with self._send:
            try:
                await _export(self._services, self._names, self._send, self._wish)
            except Exception as error:  # noqa: BLE001  # raised where the bytes are read, or at the end of the block
                self._failure = error

    def close(self) -> None:
        """Give the stream back; for `open_export` alone."""
        self._receive.close()

    def raise_unseen(self) -> None:
        """Raise what the export failed with, unless somebody has seen it."""
        if self._failure is not None and not self._is_failure_seen:
            self._is_failure_seen = True
            raise self._failure


@asynccontextmanager
async def open_export(
    services: Services, names: ExportNames, **options: Unpack[ExportOptions]
) -> AsyncIterator[Export]:
    """Lend an iterator over an archive's bytes while it is made; leaving the block early cancels the export.

    Raises:
        Exception: What `export_images` raises, out of the iteration; at the end of the block if nobody read it.
    """
    export = Export(services, names, ExportWish(**options))
    with closing(export):
        async with working_together() as group:
            group.start_soon(export.run)
            try:
                yield export
            finally:
                await group.end()
    export.raise_unseen()


async def _find(services: Services, names: ExportNames) -> list[NamedImage]:
    wanted = [names] if isinstance(names, str | Image) else [*names]
    if not wanted:
        raise InvalidArgumentError("there is nothing to export: name an image")
    images: dict[str, NamedImage] = {}
    for each in wanted:
        found = each if isinstance(each, Image) else await find_record(services, each)
        images[found.name] = NamedImage(name=found.name, target=found.target)
    return [*images.values()]


@asynccontextmanager
async def _open_writer(destination: Destination, compression: Compression) -> AsyncIterator[tuple[ImageWriter, bool]]:
    """Lend the writer that suits a destination, and whether that is a folder."""
    async with AsyncExitStack() as stack:
        if not isinstance(destination, str | os.PathLike):
            yield await stack.enter_async_context(open_tar(destination, compression)), False
            return
        path = Path(destination)
        if os.fspath(destination).endswith("/") or await to_thread.run_sync(path.is_dir):
            if compression != "none":
                raise InvalidArgumentError("a folder cannot be compressed: name a file to write an archive")
            yield await stack.enter_async_context(open_folder(path)), True
            return
        sink = await stack.enter_async_context(open_file_sink(path))
        yield await stack.enter_async_context(open_tar(sink, compression)), False
