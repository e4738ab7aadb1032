"""An OCI image layout in a folder, read and written without following a link. Blocking: for worker threads.

Whoever owns the folder may change it meanwhile: every file is opened once, from its folder's descriptor, and what is
not a regular file is refused.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

import attrs

from containerd_py.archives.documents import blob_path
from containerd_py.errors import ArchiveError, NotFoundError, PermissionDeniedError

_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not hold us up
_FOLDER: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY


@attrs.frozen(kw_only=True)
class LayoutFile:
    """A regular file of a layout, open for reading."""

    path: str
    descriptor: int
    size: int

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none at the end."""
        return os.read(self.descriptor, size)


class LayoutFolder:
    """An open layout. Made by `open_layout`."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def open(self, path: str) -> LayoutFile:
        """Open a file of the layout; the caller closes it.

        Raises:
            NotFoundError: There is none.
            ArchiveError: It is a link or no regular file, or a folder on the way is a link.
        """
        *folders, name = path.split("/")
        at = os.dup(self._descriptor)
        try:
            for folder in folders:
                at, outer = _open_at(folder, _FOLDER, at, self._shown(path)), at
                os.close(outer)
            descriptor = _open_at(name, _FILE, at, self._shown(path))
        finally:
            os.close(at)
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            os.close(descriptor)
            raise ArchiveError(f"{self._shown(path)} is no regular file")
        return LayoutFile(path=self._shown(path), descriptor=descriptor, size=state.st_size)

    def open_blob(self, digest: str) -> LayoutFile:
        """Open a blob; the caller closes it. See `open`."""
        return self.open(blob_path(digest))

    def read(self, path: str, limit: int) -> bytes:
        """Return a file's content.

        Raises:
            NotFoundError: There is none.
            ArchiveError: It is no regular file, or larger than `limit` bytes.
        """
        with closing(self.open(path)) as file:
            data = b""
            while len(data) <= limit and (more := file.read(limit + 1 - len(data))):
                data += more
        if len(data) > limit:
            raise ArchiveError(f"{file.path} has more than the {limit} bytes allowed")
        return data

    def _shown(self, path: str) -> str:
        return f"{self._path}/{path}"


@contextmanager
def open_layout(path: str | os.PathLike[str]) -> Iterator[LayoutFolder]:
    """Lend the layout in a folder; that folder's own path may have links in it.

    Raises:
        OSError: There is no such folder, or it may not be read.
    """
    shown = os.fspath(path)
    descriptor = os.open(shown, _FOLDER & ~os.O_NOFOLLOW)
    try:
        yield LayoutFolder(shown, descriptor)
    finally:
        os.close(descriptor)


def _open_at(name: str, flags: int, folder: int, shown: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no {shown}") from error
    except PermissionError as error:
        raise PermissionDeniedError(f"this user may not read {shown}") from error
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.ENXIO}:
            raise ArchiveError(f"{shown} is a link or no regular file, or goes through one") from error
        raise
