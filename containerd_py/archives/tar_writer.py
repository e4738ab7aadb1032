"""Tar headers as Go's image tools write them: ustar, no owner, no time; the same bytes each time. Pure."""

from __future__ import annotations

from typing import Final

from containerd_py.archives.tar_headers import BLOCK

FILE_MODE: Final = 0o644  # index.json and manifest.json (containerd, core/images/archive)
BLOB_MODE: Final = 0o444
FOLDER_MODE: Final = 0o755
END: Final = bytes(2 * BLOCK)
_USTAR_MAX_PATH: Final = 100  # bytes
_USTAR_MAX_SIZE: Final = 8**11 - 1  # eleven octal digits
_ZERO: Final = b"0000000\x00"


def file_header(path: str, size: int, mode: int) -> bytes:
    """Return what precedes a file's content: its header, and a pax header where that cannot hold path or size."""
    records = b""
    if len(path.encode()) > _USTAR_MAX_PATH:
        records += _pax_record("path", path)
    if size > _USTAR_MAX_SIZE:
        records += _pax_record("size", str(size))
    header = _header(path, b"0", size if size <= _USTAR_MAX_SIZE else 0, mode)
    if not records:
        return header
    folder, _, name = path.rpartition("/")
    pax = _header("/".join(filter(None, (folder, "PaxHeaders.0", name))), b"x", len(records), 0)
    return pax + records + padding(len(records)) + header


def folder_header(path: str) -> bytes:
    """Return the header of a folder."""
    return _header(f"{path}/", b"5", 0, FOLDER_MODE)


def padding(size: int) -> bytes:
    """Return the zeros that follow content of that many bytes."""
    return bytes(-size % BLOCK)


def _header(path: str, flag: bytes, size: int, mode: int) -> bytes:
    fields = (
        path.encode()[:_USTAR_MAX_PATH].ljust(_USTAR_MAX_PATH, b"\x00"),
        _octal(mode, 8),
        _ZERO,  # user
        _ZERO,  # group
        _octal(size, 12),
        _octal(0, 12),  # time
        b" " * 8,
        flag,
        bytes(100),
        b"ustar\x0000",
        bytes(64),
        _ZERO,  # device
        _ZERO,
    )
    block = b"".join(fields).ljust(BLOCK, b"\x00")
    return block[:148] + _octal(sum(block), 7) + b" " + block[156:]


def _octal(value: int, width: int) -> bytes:
    return f"{value:0{width - 1}o}".encode() + b"\x00"


def _pax_record(keyword: str, value: str) -> bytes:
    body = f" {keyword}={value}\n"
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return f"{length}{body}".encode()
