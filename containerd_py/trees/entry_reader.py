"""A tar archive of a file tree, read as it comes: takes bytes, gives members. No I/O.

The archive may be anybody's: sizes and numbers are bounded, what readers disagree about is refused. Understood are
ustar, pax and GNU's formats, sparse files of GNU's old format and of its pax formats 0.1 and 1.0.
"""

from __future__ import annotations

import re
import stat
import tarfile
from collections.abc import Generator
from typing import Final, TypeVar

import attrs

from containerd_py.archives.tar_headers import check_sum, pax_record, read_number
from containerd_py.errors import ArchiveError
from containerd_py.trees.entries import BLOCK, KINDS, XATTR_PREFIX, Entry, Extents

T = TypeVar("T")
Steps = Generator[None, None, T]

MAX_METADATA: Final = 1024 * 1024  # bytes of one extended header or sparse map
MAX_PATH: Final = 4096  # bytes, as Linux
_MAX_EXTENTS: Final = 100_000
_MAX_SIZE: Final = 2**63 - 1
_MAX_ID: Final = 2**32 - 2
_TIME: Final = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,20}))?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_OLD_SPARSE: Final = b"S"
_WITH_DATA: Final = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, b"7", _OLD_SPARSE})


@attrs.define
class _Said:
    """What extended headers said of the member after them."""

    records: dict[str, bytes] = attrs.field(factory=dict)

    def text(self, key: str) -> str | None:
        value = self.records.get(key)
        return None if value is None else value.decode("utf-8", "surrogateescape")


class EntryReader:
    """Takes an archive in pieces. Whoever reads runs its generators, which yield where another piece is needed."""

    def __init__(self) -> None:
        self._pending = memoryview(b"")
        self.offset = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next piece; the one before has been used up."""
        self._pending = memoryview(data)

    def some(self, limit: int) -> Steps[memoryview]:
        """Return between 1 and `limit` bytes."""
        while not self._pending:
            yield
        taken, self._pending = self._pending[:limit], self._pending[limit:]
        self.offset += len(taken)
        return taken

    def exactly(self, size: int) -> Steps[bytes]:
        """Return so many bytes."""
        parts = []
        while size:
            part = yield from self.some(size)
            parts.append(bytes(part))
            size -= len(part)
        return b"".join(parts)

    def next_entry(self) -> Steps[Entry | None]:
        """Return the next member, whose content must then be read; None at the archive's end.

        Raises:
            ArchiveError: This is no tar archive, or holds what cannot be unpacked.
        """
        said = _Said()
        while True:
            offset = self.offset
            block = yield from self.exactly(BLOCK)
            if not any(block):
                if said.records:
                    raise ArchiveError("the archive ends after a header that announces a member", offset=offset)
                return None
            check_sum(block, offset)
            flag, size = block[156:157], read_number(block[124:136], "size", offset)
            if flag in {b"x", b"g", b"L", b"K"}:
                data = yield from self._metadata(size, offset)
                _note(said, flag, data, offset)
            else:
                return (yield from self._entry(block, flag, said, offset))

    def _metadata(self, size: int, offset: int) -> Steps[bytes]:
        if size > MAX_METADATA:
            raise ArchiveError(f"an extended header has {size} bytes, more than {MAX_METADATA}", offset=offset)
        data = yield from self.exactly(size)
        yield from self.exactly(-size % BLOCK)
        return data

    def _entry(self, block: bytes, flag: bytes, said: _Said, offset: int) -> Steps[Entry]:
        kind = KINDS.get(flag)
        if kind is None and flag not in {tarfile.LNKTYPE, _OLD_SPARSE}:
            raise ArchiveError(f"the archive holds a member of type {flag!r}", offset=offset)
        size = _number(said, "size", read_number(block[124:136], "size", offset), _MAX_SIZE, offset)
        name = said.text("GNU.sparse.name") or said.text("path") or _name(block)
        if flag == tarfile.AREGTYPE and name.endswith("/"):
            flag, kind = tarfile.DIRTYPE, stat.S_IFDIR  # as before POSIX
        link = said.text("linkpath") or _text(block[157:257])
        entry = Entry(
            path=clean_path(name, offset),
            kind=stat.S_IFREG if kind is None else kind,
            mode=read_number(block[100:108], "mode", offset) & 0o7777,
            owner=(
                _number(said, "uid", read_number(block[108:116], "user", offset), _MAX_ID, offset),
                _number(said, "gid", read_number(block[116:124], "group", offset), _MAX_ID, offset),
            ),
            mtime=_time(said, block, offset),
            size=size if flag in _WITH_DATA else 0,
            link=_checked_link(link, offset) if flag == tarfile.SYMTYPE else "",
            hard_link=clean_path(link, offset) if flag == tarfile.LNKTYPE else None,
            device=_device(block, offset) if flag in {tarfile.CHRTYPE, tarfile.BLKTYPE} else (0, 0),
            attributes={
                key.removeprefix(XATTR_PREFIX): value
                for key, value in said.records.items()
                if key.startswith(XATTR_PREFIX)
            },
        )
        return (yield from self._with_extents(entry, block, flag, said, offset))

    def _with_extents(self, entry: Entry, block: bytes, flag: bytes, said: _Said, offset: int) -> Steps[Entry]:
        """Read a sparse file's map, wherever its format has it."""
        stored = entry.size
        if flag == _OLD_SPARSE:
            extents = yield from self._old_map(block, offset)
            size = read_number(block[483:495], "size", offset)
        elif "GNU.sparse.major" in said.records:
            if (said.text("GNU.sparse.major"), said.text("GNU.sparse.minor")) != ("1", "0"):
                raise ArchiveError("the archive holds a sparse file of an unknown format", offset=offset)
            size = _number(said, "GNU.sparse.realsize", -1, _MAX_SIZE, offset)
            extents, length = yield from self._map_in_data(stored, offset)
            stored -= length
        elif "GNU.sparse.map" in said.records:
            numbers = [_digits(part, offset) for part in (said.text("GNU.sparse.map") or "").split(",") if part]
            extents, size = _pairs(numbers, offset), _number(said, "GNU.sparse.size", -1, _MAX_SIZE, offset)
        elif any(key.startswith("GNU.sparse.") for key in said.records):
            raise ArchiveError("the archive holds a sparse file of an unknown format", offset=offset)
        else:
            return entry
        _check_extents(extents, size, stored, offset)
        return attrs.evolve(entry, size=size, extents=[extent for extent in extents if extent[1]])

    def _old_map(self, block: bytes, offset: int) -> Steps[list[tuple[int, int]]]:
        extents = _old_extents(block[386:482], offset)
        is_extended = block[482]
        while is_extended:
            more = yield from self.exactly(BLOCK)
            extents += _old_extents(more[:504], offset)
            is_extended = more[504]
            if len(extents) > _MAX_EXTENTS:
                raise ArchiveError("a sparse file has too many pieces", offset=offset)
        return extents

    def _map_in_data(self, stored: int, offset: int) -> Steps[tuple[list[tuple[int, int]], int]]:
        """Read the map that begins a member's data; return how many bytes it took, too."""
        text, length = b"", 0
        wanted: int | None = None
        while wanted is None or text.count(b"\n") < wanted:
            length += BLOCK
            if length > min(stored, MAX_METADATA):
                raise ArchiveError("a sparse file's map is cut off or too large", offset=offset)
            text += yield from self.exactly(BLOCK)
            if wanted is None and b"\n" in text:
                count = _digits(text.partition(b"\n")[0].decode("latin-1"), offset)
                if count > _MAX_EXTENTS:
                    raise ArchiveError("a sparse file has too many pieces", offset=offset)
                wanted = 1 + 2 * count
        lines = text.split(b"\n")[1:wanted]
        return _pairs([_digits(line.decode("latin-1"), offset) for line in lines], offset), length


def clean_path(name: str, offset: int) -> str:
    """Return a member's path without what says nothing; "" is the directory it is unpacked to.

    Raises:
        ArchiveError: It leads out, is too long or has a NUL.
    """
    parts = [part for part in name.split("/") if part not in {"", "."}]
    path = "/".join(parts)
    if ".." in parts or "\0" in path or len(path.encode("utf-8", "surrogateescape")) >= MAX_PATH:
        raise ArchiveError(f"a member's path leads out or is none: {name[:160]!a}", offset=offset)
    return path


def _checked_link(link: str, offset: int) -> str:
    if not link or "\0" in link or len(link.encode("utf-8", "surrogateescape")) >= MAX_PATH:
        raise ArchiveError("a symbolic link is empty, too long or has a NUL", offset=offset)
    return link


def _note(said: _Said, flag: bytes, data: bytes, offset: int) -> None:
    """Note what an extended header says."""
    if flag in {b"L", b"K"}:
        _say(said, "path" if flag == b"L" else "linkpath", data.partition(b"\0")[0], offset)
        return
    position = 0
    while position < len(data):
        keyword, value, position = pax_record(data, position, offset)
        key = keyword.decode("utf-8", "surrogateescape")
        if flag == b"g":
            if key in {"path", "linkpath", "size"} or key.startswith("GNU.sparse."):
                raise ArchiveError(f"a global pax header sets {key} of all that follows", offset=offset)
        else:
            _say(said, key, value, offset)


def _say(said: _Said, key: str, value: bytes, offset: int) -> None:
    if key in said.records:
        raise ArchiveError(f"headers set {key[:64]!a} of a member twice", offset=offset)
    said.records[key] = value


def _name(block: bytes) -> str:
    name, prefix = _text(block[:100]), _text(block[345:500])
    return f"{prefix}/{name}" if prefix and block[257:265] == b"ustar\x0000" else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(said: _Said, key: str, otherwise: int, limit: int, offset: int) -> int:
    text = said.text(key)
    number = otherwise if text is None else _digits(text, offset)
    if not 0 <= number <= limit:
        raise ArchiveError(f"a header's {key} is out of range", offset=offset)
    return number


def _digits(text: str, offset: int) -> int:
    if not _NUMBER.fullmatch(text):
        raise ArchiveError(f"a header has {text[:32]!a} where a number must be", offset=offset)
    return int(text)


def _time(said: _Said, block: bytes, offset: int) -> int:
    text = said.text("mtime")
    if text is None:
        field = block[136:148]
        if field[0] == 0xFF:  # before 1970, as GNU tar writes it
            return max(int.from_bytes(field, "big", signed=True), -(2**33)) * 10**9
        return min(read_number(field, "time", offset), 2**33) * 10**9
    found = _TIME.fullmatch(text)
    if found is None:
        raise ArchiveError(f"a pax header says mtime {text[:32]!a}", offset=offset)
    total = min(int(found[2]), 2**33) * 10**9 + int((found[3] or "").ljust(9, "0")[:9])
    return -total if found[1] else total


def _device(block: bytes, offset: int) -> tuple[int, int]:
    return read_number(block[329:337], "device", offset), read_number(block[337:345], "device", offset)


def _old_extents(fields: bytes, offset: int) -> list[tuple[int, int]]:
    pairs = [fields[start : start + 24] for start in range(0, len(fields), 24)]
    return [
        (read_number(pair[:12], "offset", offset), read_number(pair[12:], "size", offset))
        for pair in pairs
        if any(pair)
    ]


def _pairs(numbers: list[int], offset: int) -> list[tuple[int, int]]:
    if len(numbers) % 2 or len(numbers) > 2 * _MAX_EXTENTS:
        raise ArchiveError("a sparse file's map is malformed", offset=offset)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _check_extents(extents: Extents, size: int, stored: int, offset: int) -> None:
    end = 0
    for start, length in extents:
        if start < end:
            raise ArchiveError("the pieces of a sparse file overlap", offset=offset)
        end = start + length
    if end > size or sum(length for _, length in extents) != stored:
        raise ArchiveError("a sparse file's map does not fit its data", offset=offset)
