"""A file or directory of a tree as a tar archive, piece by piece, in bounded memory. Calls block.

The tree may be changed by a stranger meanwhile: each directory is opened below the one before it, no link is followed,
and only what is known to be a regular file is opened for reading. What vanishes while a directory is read is left out,
and so are sockets, and what the kernel makes up below /proc, /sys and the like.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from typing import Final

import attrs

from containerd_py.errors import FailedPreconditionError
from containerd_py.trees.entries import BLOCK, CAPABILITY, END, Entry, Extents, header_of, padding
from containerd_py.trees.failures import shown, typed_errors
from containerd_py.trees.kernel import file_system_kind
from containerd_py.trees.roots import Root
from containerd_py.trees.walking import Found, walk

_log = logging.getLogger(__name__)
CHUNK: Final = 1024 * 1024  # bytes of a piece
_MAX_LINKED: Final = 100_000  # files with several names that are remembered; further ones are copied several times
_MAX_EXTENTS: Final = 10_000  # pieces of a sparse file; one that has more is copied with its holes filled
_USER: Final = "user."
_MADE_UP: Final = frozenset(  # linux/magic.h: file systems that hold no files
    {
        0x9FA0,  # proc
        0x62656572,  # sysfs
        0x27E0EB,  # cgroup
        0x63677270,  # cgroup2
        0x1CD1,  # devpts
        0x19800202,  # mqueue
        0x64626720,  # debugfs
        0x74726163,  # tracefs
        0x73636673,  # securityfs
        0xCAFE4A11,  # bpf
    }
)


@attrs.frozen(kw_only=True)
class PackOptions:
    """How a tree is packed: `owner` replaces everybody's, `is_sparse` leaves holes out of the archive."""

    owner: tuple[int, int] | None = None
    is_sparse: bool = False


class Packer:
    """Packs what a descriptor stands for, opened with O_PATH, which somebody else closes."""

    def __init__(self, root: Root, descriptor: int, name: str, options: PackOptions) -> None:
        self._root = root
        self._top = descriptor
        self._name = name
        self._options = options
        self._linked: dict[tuple[int, int], str] = {}

    def pieces(self) -> Generator[bytes, None, None]:
        """Yield the archive in pieces of at most about 1 MiB; close the iterator if it is not used up.

        Raises:
            NotFoundError: It has vanished.
            PermissionDeniedError: This user may not read it all.
            FailedPreconditionError: A file got shorter while it was read, or directories lie too deep.
        """
        pending: list[bytes] = []
        size = 0
        with closing(self._parts()) as parts:
            for piece in parts:
                if size and size + len(piece) > CHUNK:
                    yield b"".join(pending)
                    pending, size = [], 0
                pending.append(piece)
                size += len(piece)
        yield b"".join([*pending, END])

    def _parts(self) -> Generator[bytes, None, None]:
        with typed_errors(f"copying {shown(self._name)}"):
            status = os.fstat(self._top)
            yield from self._member(self._top, self._name, status)
        if stat.S_ISDIR(status.st_mode):
            with closing(walk(self._top, self._name)) as below:
                for found in below:
                    with typed_errors(f"copying {shown(found.path)}"):
                        yield from self._below(found)

    def _below(self, found: Found) -> Iterator[bytes]:
        if stat.S_ISSOCK(found.status.st_mode):
            _log.warning("%s is a socket: no archive can hold it", shown(found.path))
            return
        if found.is_mounted and file_system_kind(found.descriptor) in _MADE_UP:
            found.enters = False
        yield from self._member(found.descriptor, found.path, found.status)

    def _member(self, descriptor: int, path: str, status: os.stat_result) -> Iterator[bytes]:
        if stat.S_ISREG(status.st_mode):
            first = self._first_name(path, status)
            if first != path:
                yield header_of(self._entry(path, status, hard_link=first))
            else:
                yield from self._file(descriptor, path)
            return
        link = os.readlink("", dir_fd=descriptor) if stat.S_ISLNK(status.st_mode) else ""
        yield header_of(self._entry(path, status, link=link))

    def _first_name(self, path: str, status: os.stat_result) -> str:
        identity = (status.st_dev, status.st_ino)
        if status.st_nlink == 1:
            return path
        if identity not in self._linked and len(self._linked) >= _MAX_LINKED:
            return path
        return self._linked.setdefault(identity, path)

    def _file(self, handle: int, path: str) -> Iterator[bytes]:
        # O_NONBLOCK: somebody may hold a lease on it (fcntl(2)), for which the kernel would have us wait.
        descriptor = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            extents = _extents(descriptor, status) if self._options.is_sparse else None
            entry = self._entry(path, status, extents=extents, attributes=_attributes(descriptor))
            yield header_of(entry)
            for start, size in [(0, status.st_size)] if extents is None else extents:
                yield from _data(descriptor, start, size, path)
            yield padding(entry.data_size)
        finally:
            os.close(descriptor)

    def _entry(
        self,
        path: str,
        status: os.stat_result,
        *,
        link: str = "",
        hard_link: str | None = None,
        extents: Extents | None = None,
        attributes: dict[str, bytes] | None = None,
    ) -> Entry:
        kind = stat.S_IFMT(status.st_mode)
        is_device = kind in {stat.S_IFCHR, stat.S_IFBLK}
        return Entry(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            owner=self._options.owner or self._root.ids.to_container(status.st_uid, status.st_gid),
            mtime=status.st_mtime_ns,
            size=status.st_size if kind == stat.S_IFREG else 0,
            link=link,
            hard_link=hard_link,
            device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if is_device else (0, 0),
            attributes=attributes or {},
            extents=extents,
        )


def _data(descriptor: int, start: int, size: int, path: str) -> Iterator[bytes]:
    while size:
        data = os.pread(descriptor, min(size, CHUNK), start)
        if not data:
            raise FailedPreconditionError(f"{shown(path)} became shorter while it was copied")
        start += len(data)
        size -= len(data)
        yield data


def _extents(descriptor: int, status: os.stat_result) -> Extents | None:
    """Return where a file has data; None where it has no holes worth it."""
    if status.st_blocks * BLOCK >= status.st_size:
        return None
    extents: list[tuple[int, int]] = []
    end = 0
    while end < status.st_size and len(extents) <= _MAX_EXTENTS:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole to the end
                return extents
            return None  # this file system does not tell
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), status.st_size)
        if start < end:
            extents.append((start, end - start))
    return None if len(extents) > _MAX_EXTENTS or extents == [(0, status.st_size)] else extents


def _attributes(descriptor: int) -> dict[str, bytes]:
    """Return the extended attributes that mean the same elsewhere: capabilities, and what users put there."""
    found: dict[str, bytes] = {}
    with suppress(OSError):  # a file system without any, or one removed meanwhile
        for name in os.listxattr(descriptor):
            if name == CAPABILITY or name.startswith(_USER):
                found[name] = os.getxattr(descriptor, name)
    return found
