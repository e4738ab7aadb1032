"""A directory as the tar stream of a layer: the same bytes for the same tree. Reads files; calls block.

Entries come sorted, owned by whom the caller says, with whole seconds and no names of users. Hard links stay links.
Access times stay behind, and extended attributes other than capabilities, as in containerd's own layers.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import attrs

from containerd_py.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, PermissionDeniedError

_log = logging.getLogger(__name__)
CHUNK_SIZE: Final = 1024 * 1024  # bytes
_BLOCK: Final = 512
_END: Final = bytes(2 * _BLOCK)
_CAPABILITY: Final = "security.capability"
_WHITEOUT: Final = ".wh."  # a name that would hide another one in the layers below
_KINDS: Final = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


@attrs.frozen(kw_only=True)
class TarOptions:
    """What the entries say beyond what the files do.

    `prefix` is where in the image they are, without slashes around it; `owner` a user and a group ID, None keeping the
    files' own; `mtime` the time of all entries and `latest` a bound on the files' own, in seconds since 1970; `exclude`
    patterns of paths to leave out, as of `fnmatch`, relative to the directory.
    """

    prefix: str = ""
    owner: tuple[int, int] | None = (0, 0)
    mtime: int | None = None
    latest: int | None = None
    exclude: Sequence[str] = ()


def tar_of_directory(root: str, options: TarOptions) -> Iterator[bytes]:
    """Yield the archive in pieces of about 1 MiB.

    Raises:
        NotFoundError: There is no such directory, or something in it vanished meanwhile.
        PermissionDeniedError: This user may not read it all.
        InvalidArgumentError: It is no directory, or a name in it means something else in a layer.
        FailedPreconditionError: A file changed while it was read.
    """
    pending: list[bytes] = []
    size = 0
    try:
        for piece in _Tree(root, options).pieces():
            pending.append(piece)
            size += len(piece)
            if size >= CHUNK_SIZE:
                yield b"".join(pending)
                pending, size = [], 0
    except FileNotFoundError as error:
        raise NotFoundError(f"{error.filename or root}: no such file or directory") from error
    except PermissionError as error:
        raise PermissionDeniedError(f"{error.filename or root}: this user may not read it") from error
    except OSError as error:
        raise FailedPreconditionError(f"{error.filename or root}: cannot be read: {error.strerror}") from error
    yield b"".join([*pending, _END])


class _Tree:
    def __init__(self, root: str, options: TarOptions) -> None:
        self._root = root
        self._options = options
        self._links: dict[tuple[int, int], str] = {}  # the first name of each file that has several

    def pieces(self) -> Iterator[bytes]:
        status = os.stat(self._root)  # noqa: PTH116  # a link to the directory is as good as its name
        if not stat.S_ISDIR(status.st_mode):
            raise InvalidArgumentError(f"{self._root} is no directory")
        if self._options.prefix:
            yield self._header(self._root, self._options.prefix, status, "")
        yield from self._folder("")

    def _folder(self, inner: str) -> Iterator[bytes]:
        """Yield what is in a folder, given by its path below the root."""
        for name in sorted(os.listdir(os.path.join(self._root, inner)), key=os.fsencode):  # noqa: PTH118, PTH208
            below = f"{inner}/{name}" if inner else name
            if any(fnmatch.fnmatchcase(below, pattern) for pattern in self._options.exclude):
                continue
            if name.startswith(_WHITEOUT):
                raise InvalidArgumentError(f"{below!a}: a name that begins with {_WHITEOUT} hides files in a layer")
            path = os.path.join(self._root, below)  # noqa: PTH118
            status = os.lstat(path)
            if stat.S_ISSOCK(status.st_mode):
                _log.warning("%s is a socket: no layer can hold it", path)
                continue
            yield from self._entry(path, below, status)
            if stat.S_ISDIR(status.st_mode):
                yield from self._folder(below)

    def _entry(self, path: str, below: str, status: os.stat_result) -> Iterator[bytes]:
        name = f"{self._options.prefix}/{below}" if self._options.prefix else below
        first = self._first_name(name, status)
        if stat.S_ISREG(status.st_mode) and first == name:
            yield from self._file(path, name)
        else:
            target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""  # noqa: PTH115
            yield self._header(path, name, status, target, link_to="" if first == name else first)

    def _first_name(self, name: str, status: os.stat_result) -> str:
        if stat.S_ISDIR(status.st_mode) or status.st_nlink == 1:
            return name
        return self._links.setdefault((status.st_dev, status.st_ino), name)

    def _file(self, path: str, name: str) -> Iterator[bytes]:
        # What was a file a moment ago may be a link to the host's files, or a FIFO that blocks, by now.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FailedPreconditionError(f"{path} changed while it was read")
            yield self._header(path, name, status, "")
            left = status.st_size
            while left:
                data = os.read(descriptor, min(left, CHUNK_SIZE))
                if not data:
                    raise FailedPreconditionError(f"{path} became shorter while it was read")
                left -= len(data)
                yield data
            yield bytes(-status.st_size % _BLOCK)
        finally:
            os.close(descriptor)

    def _header(self, path: str, name: str, status: os.stat_result, target: str, *, link_to: str = "") -> bytes:
        entry = tarfile.TarInfo(name)
        entry.mode = stat.S_IMODE(status.st_mode)
        entry.uid, entry.gid = self._options.owner or (status.st_uid, status.st_gid)
        entry.mtime = self._mtime(status)
        entry.type = _KINDS[stat.S_IFMT(status.st_mode)]
        if link_to:
            entry.type, entry.linkname = tarfile.LNKTYPE, link_to
        elif target:
            entry.linkname = target
        elif entry.type == tarfile.REGTYPE:
            entry.size = status.st_size
        if entry.type in {tarfile.CHRTYPE, tarfile.BLKTYPE}:
            entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        if entry.type == tarfile.REGTYPE and (capability := _capability_of(path)):
            entry.pax_headers = {f"SCHILY.xattr.{_CAPABILITY}": capability}
        return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")

    def _mtime(self, status: os.stat_result) -> int:
        if self._options.mtime is not None:
            return self._options.mtime
        seconds = status.st_mtime_ns // 10**9
        return seconds if self._options.latest is None else min(seconds, self._options.latest)


def _capability_of(path: str) -> str:
    with suppress(OSError):  # no such attribute, or a file system without any
        return os.getxattr(path, _CAPABILITY, follow_symlinks=False).decode("utf-8", "surrogateescape")
    return ""
