"""Bringing the times in a tar stream below a bound. Pure; knows tar headers and no file.

For archives that a daemon wrote of snapshots: whole seconds, nothing but PAX and plain headers.
Source: POSIX, pax interchange format; reproducible-builds.org, SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import re
from typing import Final

from containerd_py.errors import InvalidArgumentError

_BLOCK: Final = 512
_NAME: Final = slice(0, 100)
_SIZE: Final = slice(124, 136)
_MTIME: Final = slice(136, 148)
_CHECKSUM: Final = slice(148, 156)
_TYPE: Final = 156
_PAX: Final = (b"x", b"g")
_WITHOUT_DATA: Final = b"123456"  # links, devices, directories, FIFOs: a size they have says nothing
_WHITEOUT: Final = b".wh."
_MAX_PAX: Final = 1024 * 1024  # bytes
_PAX_LENGTH: Final = re.compile(rb"([1-9][0-9]{0,9}) ")
_PAX_SIZE: Final = re.compile(rb"size=([0-9]{1,19})")
_OCTAL: Final = re.compile(rb"[0-7]*")


class TimeClamp:
    """Rewrites a tar stream piece by piece: no entry is younger than `bound` (seconds since 1970)."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._pending = b""
        self._data_left = 0  # bytes of the present entry, padding included, that pass as they are
        self._pax_size: int | None = None  # of the next entry

    def feed(self, data: bytes) -> bytes:
        """Take more and return what is ready.

        Raises:
            InvalidArgumentError: It is no tar archive.
        """
        pending = self._pending + data
        ready: list[bytes] = []
        position = 0
        while position < len(pending):
            if self._data_left:
                part = pending[position : position + self._data_left]
                self._data_left -= len(part)
            else:
                part = self._take_header(pending, position)
                if not part:
                    break
            ready.append(part)
            position += len(part)
        self._pending = pending[position:]
        return b"".join(ready)

    def end(self) -> None:
        """Say that nothing more comes.

        Raises:
            InvalidArgumentError: The archive ends in the middle of an entry.
        """
        if self._pending or self._data_left:
            raise InvalidArgumentError("tar: the archive ends in the middle of an entry")

    def _take_header(self, pending: bytes, position: int) -> bytes:
        """Return the header there, rewritten; with its records if it is one of PAX; nothing while some is missing."""
        header = pending[position : position + _BLOCK]
        if len(header) < _BLOCK:
            return b""
        if header == bytes(_BLOCK):
            return header  # the archive's end
        kind = header[_TYPE : _TYPE + 1]
        size = 0 if kind in _WITHOUT_DATA and kind else _number(header[_SIZE])
        if kind in _PAX:
            if size > _MAX_PAX:
                raise InvalidArgumentError(f"tar: {size} bytes of PAX records are more than the {_MAX_PAX} allowed")
            records = pending[position + _BLOCK : position + _BLOCK + _padded(size)]
            if len(records) < _padded(size):
                return b""
            if kind == b"x":
                self._pax_size = _size_in(records[:size])
            return self._clamped(header) + records
        size = size if self._pax_size is None else self._pax_size
        self._pax_size = None
        self._data_left = _padded(size)
        return self._clamped(header)

    def _clamped(self, header: bytes) -> bytes:
        # What hides a file has no time of its own: lines of containerd differ on what they write (0 from 2.0 on).
        bound = 0 if _name_of(header).startswith(_WHITEOUT) else self._bound
        if _number(header[_MTIME]) <= bound:
            return header
        changed = bytearray(header)
        changed[_MTIME] = b"%011o\0" % bound
        changed[_CHECKSUM] = b" " * 8
        changed[_CHECKSUM] = b"%06o\0 " % sum(changed)
        return bytes(changed)


def _name_of(header: bytes) -> bytes:
    return header[_NAME].rstrip(b"\0").rpartition(b"/")[2]


def _size_in(records: bytes) -> int | None:
    """Return the size that PAX records give; by their lengths, for a file's name may look like a record."""
    size: int | None = None
    position = 0
    while position < len(records):
        length = _PAX_LENGTH.match(records, position)
        end = position + int(length[1]) if length is not None else 0
        if length is None or not length.end() < end <= len(records) or records[end - 1 : end] != b"\n":
            raise InvalidArgumentError("tar: a PAX record is not as long as it says")
        if found := _PAX_SIZE.fullmatch(records, length.end(), end - 1):
            size = int(found[1])
        position = end
    return size


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # base 256: what does not fit into octal digits
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big") if field[0] == 0x80 else -1
    digits = field.strip(b" \0")
    if not _OCTAL.fullmatch(digits):  # int() would take signs and underscores as well
        raise InvalidArgumentError("tar: a header holds no number where one must be")
    return int(digits or b"0", 8)
