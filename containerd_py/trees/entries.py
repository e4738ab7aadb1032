"""What a tar archive of a file tree says of one file, and its header. Pure.

Written is POSIX's pax format, times in nanoseconds, names as the bytes they are; files with holes, where wanted, as GNU
tar's sparse format 1.0. Source: POSIX.1-2001, pax; GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from containerd_py.errors import InvalidArgumentError
from containerd_py.types import FrozenMap

BLOCK: Final = 512  # bytes
END: Final = bytes(2 * BLOCK)
XATTR_PREFIX: Final = "SCHILY.xattr."
CAPABILITY: Final = "security.capability"
_NO_ATTRIBUTES: Final[Mapping[str, bytes]] = FrozenMap()
_TYPES: Final = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}
KINDS: Final = {flag: kind for kind, flag in _TYPES.items()} | {tarfile.AREGTYPE: stat.S_IFREG, b"7": stat.S_IFREG}

Extents = Sequence[tuple[int, int]]


@attrs.frozen(kw_only=True)
class Entry:
    """One member of an archive: `kind` is a file type of `stat`, `size` what the file has when unpacked, in bytes.

    `hard_link` is the member's path that this one is another name of, `link` what a symbolic link holds, `extents` the
    offsets and sizes of a sparse file's data, None for a file without holes. `owner` is a user and a group.
    """

    path: str
    kind: int = stat.S_IFREG
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    mtime: int = 0  # nanoseconds since 1970
    size: int = 0
    link: str = ""
    hard_link: str | None = None
    device: tuple[int, int] = (0, 0)
    attributes: Mapping[str, bytes] = _NO_ATTRIBUTES
    extents: Extents | None = None

    @property
    def data_size(self) -> int:
        """How many bytes of content follow the header, without those of a sparse map."""
        if self.kind != stat.S_IFREG or self.hard_link is not None:
            return 0
        return self.size if self.extents is None else sum(size for _, size in self.extents)


def header_of(entry: Entry) -> bytes:
    """Return what precedes a member's data: headers, and the map of a sparse file."""
    info = tarfile.TarInfo(entry.path)
    info.mode = entry.mode
    info.uid, info.gid = entry.owner
    info.type = _TYPES[entry.kind]
    info.size = entry.data_size
    info.devmajor, info.devminor = entry.device
    records = {f"{XATTR_PREFIX}{name}": _text(value) for name, value in entry.attributes.items()}
    _set_time(info, entry.mtime, records)
    if entry.hard_link is not None:
        info.type, info.linkname = tarfile.LNKTYPE, entry.hard_link
    elif entry.kind == stat.S_IFLNK:
        info.linkname = entry.link
    extents = b"" if entry.extents is None else _sparse_map(info, entry, records)
    info.pax_headers = records
    try:
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape") + extents
    except ValueError as error:
        raise InvalidArgumentError(f"{entry.path[:160]!a} cannot be in an archive: {error}") from error


def padding(size: int) -> bytes:
    """Return the zeros that follow content of that many bytes."""
    return bytes(-size % BLOCK)


def _set_time(info: tarfile.TarInfo, mtime: int, records: dict[str, str]) -> None:
    seconds, nanoseconds = divmod(mtime, 10**9)
    info.mtime = max(seconds, 0)
    if nanoseconds or seconds < 0:
        sign, total = ("-", -mtime) if mtime < 0 else ("", mtime)
        records["mtime"] = f"{sign}{total // 10**9}.{total % 10**9:09d}"


def _sparse_map(info: tarfile.TarInfo, entry: Entry, records: dict[str, str]) -> bytes:
    pieces = [*(entry.extents or ()), (entry.size, 0)]  # GNU tar takes the end of the last one for the file's
    extents = "".join(
        f"{number}\n" for number in (len(pieces), *(number for piece in pieces for number in piece))
    ).encode()
    extents += padding(len(extents))
    folder, _, name = entry.path.rpartition("/")
    info.name = "/".join(filter(None, (folder, "GNUSparseFile.0", name)))
    info.size += len(extents)
    records["GNU.sparse.major"], records["GNU.sparse.minor"] = "1", "0"
    records["GNU.sparse.name"], records["GNU.sparse.realsize"] = entry.path, str(entry.size)
    return extents


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
