"""Tar headers out of bytes nobody vouches for: one block at a time. Pure; reads nothing itself.

Knows the formats image tools write: ustar, pax (POSIX.1-2001) and GNU's long names. What readers disagree about is
refused: sparse files, sizes on things without content, extended headers that speak of all that follows.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

import attrs

from containerd_py.errors import ArchiveError

BLOCK: Final = 512  # bytes
_CHECKSUM: Final = slice(148, 156)
_MAX_SIZE: Final = 2**63 - 1
_OCTAL: Final = re.compile(rb"[0-7]+")
_PAX_LENGTH: Final = re.compile(rb"([1-9][0-9]{0,9}) ")
_PAX_SIZE: Final = re.compile(r"[0-9]{1,20}", re.ASCII)
_USTAR: Final = b"ustar\x0000"


class Kind(Enum):
    """What a header announces."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"
    PAX = "pax header"
    PAX_GLOBAL = "global pax header"
    LONG_NAME = "long name"
    LONG_LINK = "long link"


_KINDS: Final = {
    b"0": Kind.FILE,
    b"\x00": Kind.FILE,
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"5": Kind.FOLDER,
    b"x": Kind.PAX,
    b"g": Kind.PAX_GLOBAL,
    b"L": Kind.LONG_NAME,
    b"K": Kind.LONG_LINK,
}
_REFUSED: Final = {b"3": "a character device", b"4": "a block device", b"6": "a FIFO", b"S": "a sparse file"}
METADATA: Final = frozenset({Kind.PAX, Kind.PAX_GLOBAL, Kind.LONG_NAME, Kind.LONG_LINK})
LINKS: Final = frozenset({Kind.SYMLINK, Kind.HARDLINK})
_EMPTY: Final = frozenset({Kind.FOLDER, *LINKS})
_GLOBAL_FORBIDDEN: Final = frozenset({"path", "linkpath", "size"})


@attrs.frozen(kw_only=True)
class Header:
    """One header block: `size` bytes of content follow it, padded to whole blocks. `name` and `link` are as written."""

    kind: Kind
    name: str
    link: str
    size: int


@attrs.frozen(kw_only=True)
class Overrides:
    """What extended headers say about the member after them, in place of its own header."""

    path: str | None = None
    link: str | None = None
    size: int | None = None


def read_header(block: bytes, offset: int) -> Header | None:
    """Read the block at `offset` of the archive; None for a block of zeros, of which two end the archive.

    Raises:
        ArchiveError: It is no header, or of something that has no place in an image archive.
    """
    if not any(block):
        return None
    check_sum(block, offset)
    flag = block[156:157]
    kind = _KINDS.get(flag)
    if kind is None:
        what = _REFUSED.get(flag, f"a member of type {flag!r}")
        raise ArchiveError(f"the archive holds {what}: images have none", offset=offset)
    name = _text(block[:100], "name", offset)
    prefix = _text(block[345:500], "prefix", offset) if block[257:265] == _USTAR else ""
    if prefix:
        name = f"{prefix}/{name}"
    if flag == b"\x00" and name.endswith("/"):
        kind = Kind.FOLDER  # as before POSIX
    return Header(
        kind=kind,
        name=name,
        link=_text(block[157:257], "link", offset),
        size=read_number(block[124:136], "size", offset),
    )


def with_overrides(header: Header, overrides: Overrides, offset: int) -> Header:
    """Let extended headers have their way, and check what only then is known.

    Raises:
        ArchiveError: A folder or link claims content, or a file is named as a folder.
    """
    made = attrs.evolve(
        header,
        name=header.name if overrides.path is None else overrides.path,
        link=header.link if overrides.link is None else overrides.link,
        size=header.size if overrides.size is None else overrides.size,
    )
    if made.kind in _EMPTY and made.size:
        raise ArchiveError(f"a {made.kind.value} claims {made.size} bytes of content", offset=offset)
    if made.kind is Kind.FILE and made.name.endswith("/"):
        raise ArchiveError("a file is named as a folder", offset=offset)
    return made


def read_pax(data: bytes, offset: int) -> Overrides:
    """Read a pax header's records; those that image archives have no use for are skipped.

    Raises:
        ArchiveError: A record is malformed, comes twice, or makes the member a sparse file.
    """
    found = _pax_records(data, offset)
    size = found.get("size")
    if size is not None and (not _PAX_SIZE.fullmatch(size) or int(size) > _MAX_SIZE):
        raise ArchiveError(f"a pax header says size {size[:32]!a}", offset=offset)
    return Overrides(path=found.get("path"), link=found.get("linkpath"), size=None if size is None else int(size))


def check_global_pax(data: bytes, offset: int) -> None:
    """Accept a global pax header if it only comments.

    Raises:
        ArchiveError: It is malformed or would change members, which some readers obey and others do not.
    """
    touched = sorted(_GLOBAL_FORBIDDEN & _pax_records(data, offset).keys())
    if touched:
        raise ArchiveError(f"a global pax header sets {touched[0]} of all that follows", offset=offset)


def read_long(data: bytes, offset: int) -> str:
    """Read the name that a GNU long name or long link header holds.

    Raises:
        ArchiveError: It is not UTF-8.
    """
    return _text(data, "name", offset)


def _pax_records(data: bytes, offset: int) -> dict[str, str]:
    """Return the records that matter, by keyword."""
    found: dict[str, str] = {}
    position = 0
    while position < len(data):
        keyword, value, position = pax_record(data, position, offset)
        if keyword.startswith(b"GNU.sparse."):
            raise ArchiveError("the archive holds a sparse file: images have none", offset=offset)
        if keyword not in {b"path", b"linkpath", b"size"}:
            continue
        name = keyword.decode("ascii")
        if name in found:
            raise ArchiveError(f"a pax header sets {name} twice", offset=offset)
        found[name] = _decode(value, name, offset)
        if "\x00" in found[name]:
            raise ArchiveError(f"a pax header sets {name} with a NUL in it", offset=offset)
    return found


def pax_record(data: bytes, start: int, offset: int) -> tuple[bytes, bytes, int]:
    """Return keyword and value of the record at `start`, and where the next one begins."""
    length = _PAX_LENGTH.match(data, start)
    end = start + int(length[1]) if length is not None else 0
    if length is None or not length.end() < end <= len(data) or data[end - 1 : end] != b"\n":
        raise ArchiveError("a pax header is malformed", offset=offset)
    keyword, equals, value = data[length.end() : end - 1].partition(b"=")
    if not equals or not keyword or b"\x00" in keyword:
        raise ArchiveError("a pax header is malformed", offset=offset)
    return keyword, value, end


def check_sum(block: bytes, offset: int) -> None:
    """Refuse a block that is no header.

    Raises:
        ArchiveError: Its checksum is wrong.
    """
    digits = block[_CHECKSUM].strip(b" \x00")
    unsigned = sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")
    if _OCTAL.fullmatch(digits):
        said = int(digits, 8)
        if said == unsigned:
            return
        others = block[:148] + block[156:]
        if said == unsigned - 256 * sum(byte > 127 for byte in others):  # of signed bytes, as some old tars wrote it
            return
    raise ArchiveError("there is no tar header where one should be", offset=offset)


def read_number(field: bytes, what: str, offset: int) -> int:
    """Read an octal number, or a binary one as GNU writes those that are too large."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] & 0x40 or value > _MAX_SIZE:
            raise ArchiveError(f"a header's {what} is negative or beyond 64 bits", offset=offset)
        return value
    digits = field.strip(b" \x00")
    if not digits:
        return 0
    if not _OCTAL.fullmatch(digits):
        raise ArchiveError(f"a header's {what} is no octal number", offset=offset)
    return int(digits, 8)


def _text(field: bytes, what: str, offset: int) -> str:
    return _decode(field.partition(b"\x00")[0], what, offset)


def _decode(value: bytes, what: str, offset: int) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArchiveError(f"a {what} in the archive is not UTF-8", offset=offset) from error
