"""Where an archive's bytes come from: a file, read in a worker thread, or any asynchronous iterable of bytes."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeGuard

from anyio.lowlevel import checkpoint_if_cancelled

from containerd_py._completion import run_to_completion
from containerd_py.errors import ArchiveError, InvalidArgumentError

ArchiveSource = str | os.PathLike[str] | bytes | AsyncIterable[bytes]

CHUNK: Final = 1020 * 1024  # bytes of one read: what one message to the daemon holds


@asynccontextmanager
async def open_source(source: ArchiveSource) -> AsyncIterator[AsyncIterator[bytes]]:
    """Lend an iterator over the source's bytes.

    Raises:
        OSError: There is no file of that name, or it may not be read.
        ArchiveError: It is something else than a file.
    """
    if isinstance(source, AsyncGenerator):
        async with aclosing(source):
            yield source
        return
    if isinstance(source, bytes):
        yield _Whole(source)
        return
    if not isinstance(source, str | os.PathLike | AsyncIterable):
        raise InvalidArgumentError(
            f"an archive is a file's path, bytes, or an asynchronous iterable of them, not {type(source).__name__}"
        )
    if not isinstance(source, str | os.PathLike):
        yield aiter(source)
        return
    opened: list[int] = []
    try:
        await run_to_completion(lambda: opened.append(_open(os.fspath(source))))
        yield _FileChunks(opened[0])
    finally:
        for descriptor in opened:
            os.close(descriptor)


def is_folder(source: ArchiveSource) -> TypeGuard[str | os.PathLike[str]]:
    """Tell whether the source is a folder of this machine."""
    return isinstance(source, str | os.PathLike) and Path(source).is_dir()


def _open(path: str) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold us up
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArchiveError(f"{path!r} is no file: give its bytes as an asynchronous iterable")
    return descriptor


class _Whole:
    """Iterates over bytes that are here, in one piece."""

    def __init__(self, data: bytes) -> None:
        self._left = [data] if data else []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        await checkpoint_if_cancelled()
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


class _FileChunks:
    """Iterates over a file's bytes. No generator: the event loop would close one that is left half-way, some time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await run_to_completion(partial(os.read, self._descriptor, CHUNK))
        await checkpoint_if_cancelled()
        if not chunk:
            raise StopAsyncIteration
        return chunk
