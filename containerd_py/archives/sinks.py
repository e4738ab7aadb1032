"""Where an archive's bytes go: a file, which is whole or not there, or a stream of the caller's.

Files are written in worker threads, under another name in the same folder, and renamed once they are on the disk.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from anyio import to_thread
from anyio.lowlevel import checkpoint_if_cancelled

from containerd_py._completion import run_to_completion
from containerd_py.archives.compression import Compressor
from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.media_type_families import Compression


class ByteSink(Protocol):
    """Takes bytes: an anyio stream that sends, for instance."""

    async def send(self, item: bytes, /) -> None:
        """Take some bytes, all of them."""
        ...


class FileSink:
    """Sends bytes into a file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def send(self, item: bytes, /) -> None:
        """Write all of them."""
        await run_to_completion(partial(write_all, self._descriptor, item))
        await checkpoint_if_cancelled()


class CompressingSink:
    """Compresses what it sends on; `finish` sends the rest."""

    def __init__(self, sink: ByteSink, kind: Compression) -> None:
        self._sink = sink
        self._compressor = Compressor(kind)

    async def send(self, item: bytes, /) -> None:
        """Compress them, and send what is due."""
        if made := await to_thread.run_sync(self._compressor.compress, item):
            await self._sink.send(made)

    async def finish(self) -> None:
        """Send the end."""
        await self._sink.send(await to_thread.run_sync(self._compressor.finish))


@asynccontextmanager
async def open_file_sink(path: str | os.PathLike[str]) -> AsyncIterator[FileSink]:
    """Lend a sink whose file is at `path` once the block has ended well; otherwise what was there stays.

    Raises:
        OSError: The file cannot be written.
        InvalidArgumentError: There is something else than a file.
    """
    final = Path(path)
    await to_thread.run_sync(_check_file, final)
    unfinished = unfinished_path(final)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(unfinished, flags, 0o666)
    try:
        yield FileSink(descriptor)
        await run_to_completion(partial(os.fsync, descriptor))
        unfinished.rename(final)
    except BaseException:
        await run_to_completion(partial(unfinished.unlink, missing_ok=True))  # gigabytes take their time
        raise
    finally:
        os.close(descriptor)
    await to_thread.run_sync(partial(sync_folder, final.parent))


def unfinished_path(final: Path) -> Path:
    """Return a name in the same folder that nobody else has."""
    return final.parent / f".{final.name}.{secrets.token_hex(6)}.part"


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of the data. Blocking."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(path: Path) -> None:
    """Have a folder's entries on the disk. Blocking."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_file(path: Path) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidArgumentError(f"{os.fspath(path)!r} is there and no file: give a stream to write into")
