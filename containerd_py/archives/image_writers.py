"""Writing an image layout file by file: as a tar archive into a sink, or as a folder.

Knows archives and folders; knows not what is in the files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from anyio import to_thread
from anyio.lowlevel import checkpoint_if_cancelled

from containerd_py._completion import run_to_completion
from containerd_py.archives.sinks import (
    ByteSink,
    CompressingSink,
    sync_folder,
    unfinished_path,
    write_all,
)
from containerd_py.archives.tar_writer import END, file_header, folder_header, padding
from containerd_py.errors import AlreadyExistsError
from containerd_py.oci.media_type_families import Compression


class ImageWriter(Protocol):
    """Takes folders and files in the order of their paths; a file's content comes after it, in pieces."""

    async def folder(self, path: str) -> None:
        """Make a folder."""
        ...

    async def file(self, path: str, size: int, mode: int) -> None:
        """Begin a file of that many bytes."""
        ...

    async def write(self, data: bytes) -> None:
        """Add to the file."""
        ...

    async def end_file(self) -> None:
        """End the file."""
        ...


class TarWriter:
    """Writes a tar archive, the same bytes each time."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self._size = 0

    async def folder(self, path: str) -> None:
        """Make a folder."""
        await self._sink.send(folder_header(path))

    async def file(self, path: str, size: int, mode: int) -> None:
        """Begin a file."""
        self._size = size
        await self._sink.send(file_header(path, size, mode))

    async def write(self, data: bytes) -> None:
        """Add to the file."""
        await self._sink.send(data)

    async def end_file(self) -> None:
        """End the file."""
        if zeros := padding(self._size):
            await self._sink.send(zeros)


class FolderWriter:
    """Writes into a folder of its own, in worker threads."""

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._file: int | None = None

    async def folder(self, path: str) -> None:
        """Make a folder."""
        os.mkdir(path, 0o777, dir_fd=self._folder)

    async def file(self, path: str, size: int, mode: int) -> None:  # noqa: ARG002  # as wide as the caller's umask
        """Begin a file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o666, dir_fd=self._folder)

    async def write(self, data: bytes) -> None:
        """Add to the file."""
        assert self._file is not None
        await run_to_completion(partial(write_all, self._file, data))
        await checkpoint_if_cancelled()

    async def end_file(self) -> None:
        """End the file, and have it on the disk."""
        assert self._file is not None
        await run_to_completion(partial(os.fsync, self._file))
        self.close()

    def close(self) -> None:
        """Close a file that has not been ended."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


@asynccontextmanager
async def open_tar(sink: ByteSink, compression: Compression) -> AsyncIterator[ImageWriter]:
    """Lend a writer of an archive, which is ended when the block ends well."""
    if compression == "none":
        yield TarWriter(sink)
        await sink.send(END)
        return
    compressing = CompressingSink(sink, compression)
    yield TarWriter(compressing)
    await compressing.send(END)
    await compressing.finish()


@asynccontextmanager
async def open_folder(path: Path) -> AsyncIterator[ImageWriter]:
    """Lend a writer of a folder that is at `path` once the block has ended well; otherwise nothing is.

    Raises:
        AlreadyExistsError: There is something already; an empty folder does not count.
        OSError: The folder cannot be written.
    """
    await to_thread.run_sync(_check_free, path)
    unfinished = unfinished_path(path)
    unfinished.mkdir()
    try:
        folder = os.open(unfinished, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            writer = FolderWriter(folder)
            try:
                yield writer
            finally:
                writer.close()
            await run_to_completion(partial(_sync_all, unfinished))
        finally:
            os.close(folder)
        unfinished.rename(path)
    except BaseException:
        await run_to_completion(partial(shutil.rmtree, unfinished, ignore_errors=True))  # gigabytes take their time
        raise
    await to_thread.run_sync(sync_folder, path.parent)


def _sync_all(path: Path) -> None:
    for folder, _, _ in os.walk(path):
        sync_folder(Path(folder))


def _check_free(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise AlreadyExistsError(f"there is something at {path} already, and no empty folder")
