"""What one tree has that another has not, and the other way round. Calls block.

Told as `docker diff` does: a directory counts as modified where anything in it is, and of what was deleted only the
topmost is named. Times of directories do not count.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Final

import attrs

from containerd_py.trees.entries import CAPABILITY
from containerd_py.trees.failures import shown, typed_errors
from containerd_py.trees.kernel import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from containerd_py.trees.roots import OPEN_PATH
from containerd_py.trees.walking import Found, walk

_AT_ONCE: Final = 500  # files between two looks at whether somebody wants to stop
_CHUNK: Final = 1024 * 1024  # bytes
_PLAIN: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS


class ChangeKind(enum.StrEnum):
    """What became of a path."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"


@attrs.frozen(kw_only=True)
class FileChange:
    """A path in a container, beginning with "/", that is not as it is in its image."""

    path: str
    kind: ChangeKind


@attrs.frozen(kw_only=True)
class OverlayLayer:
    """That a tree is an overlay's upper layer: it has only what was changed, and notes of what was deleted.

    `attributes` is where overlayfs keeps its notes: "trusted.overlay.", "user.overlay." in a user namespace.
    """

    attributes: str = "trusted.overlay."


class Comparison:
    """Compares two trees, given by descriptors that somebody else closes. `upper` may be an overlay's upper layer."""

    def __init__(self, upper: int, lower: int | None, layer: OverlayLayer | None) -> None:
        self._upper = upper
        self._lower = lower
        self._layer = layer
        self._found: dict[str, ChangeKind] = {}

    def run(self) -> Generator[None, None, list[FileChange]]:
        """Return the changes by path, in order; yields now and then.

        Raises:
            PermissionDeniedError: This user may not read it all.
            FailedPreconditionError: Directories lie too deep.
        """
        with typed_errors("comparing a container's files"):
            if self._lower is not None:
                self._note_deleted(self._upper, self._lower, "")
        with closing(walk(self._upper)) as below:
            for count, found in enumerate(below):
                if not count % _AT_ONCE:
                    yield
                with typed_errors(f"comparing {shown(found.path)}"):
                    yield from self._compare(found)
        return [FileChange(path=f"/{path}", kind=kind) for path, kind in sorted(self._found.items())]

    def _compare(self, found: Found) -> Generator[None, None, None]:
        old = self._open_old(found.path)
        if old is None:
            if not self._is_whiteout(found):
                self._note(found.path, ChangeKind.ADDED)
            return
        try:
            status = os.fstat(old)
            if self._is_whiteout(found):
                self._note(found.path, ChangeKind.DELETED)
            elif (yield from self._differ(old, status, found)):
                self._note(found.path, ChangeKind.MODIFIED)
            if found.is_directory and stat.S_ISDIR(status.st_mode):
                self._note_deleted(found.descriptor, old, found.path)
        finally:
            os.close(old)

    def _open_old(self, path: str) -> int | None:
        """Open what the other tree has at this place. Over a link there is nothing: this tree has a directory there."""
        if self._lower is None:
            return None
        with suppress(FileNotFoundError, NotADirectoryError):
            try:
                return openat2(self._lower, path, OPEN_PATH, _PLAIN)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
        return None

    def _is_whiteout(self, found: Found) -> bool:
        return self._layer is not None and stat.S_ISCHR(found.status.st_mode) and found.status.st_rdev == 0

    def _note_deleted(self, folder: int, old: int, path: str) -> None:
        """Note what only the other tree's directory has, where this one does not show through to it."""
        if self._layer is not None and _attribute(folder, f"{self._layer.attributes}opaque") != b"y":
            return
        for name in _names(old) - _names(folder):
            self._note(f"{path}/{name}" if path else name, ChangeKind.DELETED)

    def _note(self, path: str, kind: ChangeKind) -> None:
        self._found[path] = kind
        while "/" in path:
            path = path.rpartition("/")[0]
            if path in self._found:
                return
            self._found[path] = ChangeKind.MODIFIED

    def _differ(self, old: int, status: os.stat_result, found: Found) -> Generator[None, None, bool]:
        new = found.status
        if any(getattr(status, name) != getattr(new, name) for name in ("st_mode", "st_uid", "st_gid")):
            return True
        kind = stat.S_IFMT(new.st_mode)
        if kind == stat.S_IFDIR:
            return False
        if kind in {stat.S_IFCHR, stat.S_IFBLK}:
            return status.st_rdev != new.st_rdev
        if kind == stat.S_IFLNK:
            return os.readlink("", dir_fd=old) != os.readlink("", dir_fd=found.descriptor)
        if (status.st_size, status.st_mtime_ns) != (new.st_size, new.st_mtime_ns):
            return True
        if kind != stat.S_IFREG:
            return False
        if _attribute(old, CAPABILITY) != _attribute(found.descriptor, CAPABILITY):
            return True
        # The same time to the nanosecond says enough, but archives know only whole seconds.
        is_told_apart = self._layer is None and new.st_mtime_ns % 10**9
        return False if is_told_apart else (yield from _contents_differ(old, found.descriptor))


def _contents_differ(first: int, second: int) -> Generator[None, None, bool]:
    with _reading(first) as one, _reading(second) as other:
        while True:
            data = os.read(one, _CHUNK)
            if data != _exactly(other, len(data) or 1):
                return True
            if not data:
                return False
            yield


def _exactly(descriptor: int, size: int) -> bytes:
    parts = []
    while size and (data := os.read(descriptor, size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


@contextmanager
def _reading(handle: int) -> Iterator[int]:
    descriptor = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _names(folder: int) -> set[str]:
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return set(os.listdir(descriptor))  # noqa: PTH208
    finally:
        os.close(descriptor)


def _attribute(handle: int, name: str) -> bytes | None:
    with suppress(OSError):  # there is none
        return os.getxattr(f"/proc/self/fd/{handle}", name)
    return None
