"""Walking a tree that somebody else may be changing: each directory is opened below the one before it. Calls block."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from typing import Final

import attrs

from containerd_py.errors import FailedPreconditionError
from containerd_py.trees.failures import shown, typed_errors
from containerd_py.trees.roots import OPEN_PATH

MAX_DEPTH: Final = 256  # directories in each other; each takes two descriptors while it is read


@attrs.define
class Found:
    """Something in a tree: `descriptor` is good until the next one is asked for. `enters` may be set to False."""

    descriptor: int
    path: str
    status: os.stat_result
    is_mounted: bool
    enters: bool

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)


class _Folder:
    """A directory being read: what is left of it."""

    def __init__(self, descriptor: int, path: str) -> None:
        self.path = path
        self.descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
        try:
            self.device = os.fstat(self.descriptor).st_dev
            self._entries = os.scandir(self.descriptor)
        except BaseException:
            os.close(self.descriptor)
            raise

    def next_name(self) -> str | None:
        entry = next(self._entries, None)
        return None if entry is None else entry.name

    def close(self) -> None:
        self._entries.close()
        os.close(self.descriptor)


def walk(top: int, name: str = ".") -> Generator[Found, None, None]:
    """Yield what lies below a directory, a directory before what is in it; links are not followed.

    `name` is what the directory is called in the paths; "." for not at all. What vanishes meanwhile is left out.

    Raises:
        PermissionDeniedError: This user may not read a directory.
        FailedPreconditionError: Directories lie too deep.
    """
    folders: list[_Folder] = []
    try:
        folders.append(_enter(top, name, folders))
        while folders:
            yield from _next(folders)
    finally:
        while folders:
            folders.pop().close()


def _enter(descriptor: int, path: str, folders: list[_Folder]) -> _Folder:
    if len(folders) >= MAX_DEPTH:
        raise FailedPreconditionError(f"{shown(path)} lies more than {MAX_DEPTH} directories deep")
    with typed_errors(f"reading {shown(path)}"):
        return _Folder(descriptor, path)


def _next(folders: list[_Folder]) -> Iterator[Found]:
    """Yield the next thing of the directory that is being read, if there is one."""
    folder = folders[-1]
    with typed_errors(f"reading {shown(folder.path)}"):
        name = folder.next_name()
        if name is None:
            folders.pop().close()
            return
        path = name if folder.path == "." else f"{folder.path}/{name}"
        try:
            descriptor = os.open(name, OPEN_PATH | os.O_CLOEXEC, dir_fd=folder.descriptor)
        except FileNotFoundError:
            return  # removed since it was listed
    try:
        status = os.fstat(descriptor)
        found = Found(descriptor, path, status, status.st_dev != folder.device, enters=stat.S_ISDIR(status.st_mode))
        yield found
        if found.enters:
            folders.append(_enter(descriptor, path, folders))
    finally:
        os.close(descriptor)
