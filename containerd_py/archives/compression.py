"""Compression around a whole archive: recognised, undone in bounded steps, and made. In worker threads, a step each.

zstd is that of Python 3.14's standard library, and its backport before: it hands out at most as much as it is asked for
at a time, which other bindings do not, and a bomb needs.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol, Self

from anyio import to_thread

from containerd_py.archives.limits import DEFAULT_LIMITS, ArchiveLimits
from containerd_py.errors import ArchiveError
from containerd_py.oci.media_type_families import Compression

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP_LEVEL: Final = 6
ZSTD_LEVEL: Final = 3
STEP: Final = 1024 * 1024  # bytes that one step gives at most
_RATIO_FREE: Final = 16 * 1024 * 1024  # bytes of output that need no justification: zeros shrink a thousandfold
_STREAMS_FREE: Final = 1000  # compressed streams in a row that need no justification
_STREAM_SIZE: Final = 1024  # bytes that further ones must have on average: each costs time, however little it holds
SNIFFED: Final = 8  # bytes that tell the format
_GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = b"\x2a\x4d\x18"  # bytes 1 to 3 of a frame that holds no data; byte 0 is 0x50 to 0x5f
_FOREIGN: Final = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip", b"\x04\x22\x4d\x18": "lz4"}
_GZIP_WINDOW: Final = 31  # zlib's word for: 32 KiB, with gzip's header and trailer
_ZSTD_WINDOW_LOG: Final = 27  # 128 MiB of history, as the zstd tool allows


def detect(start: bytes) -> Compression:
    """Tell by its first bytes how an archive is compressed, as containerd does.

    Raises:
        ArchiveError: In a way that containerd does not know either.
    """
    for magic, name in _FOREIGN.items():
        if start.startswith(magic):
            raise ArchiveError(f"the archive is compressed with {name}: unpack it first, or use gzip or zstd", offset=0)
    return "gzip" if start.startswith(_GZIP_MAGIC) else "zstd" if _is_zstd(start) else "none"


def is_compressed(start: bytes) -> bool:
    """Tell by its first bytes whether containerd would decompress a layer."""
    return start.startswith(_GZIP_MAGIC) or _is_zstd(start)


def _is_zstd(start: bytes) -> bool:
    is_skippable = len(start) >= SNIFFED and start[0] & 0xF0 == 0x50 and start[1:4] == _ZSTD_SKIPPABLE
    return start.startswith(_ZSTD_MAGIC) or is_skippable


class Decompressed:
    """Iterates over what chunks hold, decompressed where they are compressed, in steps of at most 1 MiB.

    Raises:
        ArchiveError: The compression is broken off, damaged or foreign, or the archive grows beyond the limits.
    """

    def __init__(self, chunks: AsyncIterator[bytes], limits: ArchiveLimits = DEFAULT_LIMITS) -> None:
        self._chunks = chunks
        self._limits = limits
        self._start: bytes | None = None
        self._inflater: _Inflater | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._start is None:
            self._start = await self._sniff()
            kind = detect(self._start)
            if kind == "none":
                return self._start
            self._inflater = _Inflater(_Gzip if kind == "gzip" else _Zstd, self._limits)
            self._inflater.push(self._start)
        if self._inflater is None:
            return await anext(self._chunks)
        while not (piece := await to_thread.run_sync(self._inflater.pull)):
            chunk = await anext(self._chunks, None)
            if chunk is None:
                self._inflater.check_end()
                raise StopAsyncIteration
            self._inflater.push(chunk)
        return piece

    async def _sniff(self) -> bytes:
        start = b""
        while len(start) < SNIFFED and (chunk := await anext(self._chunks, None)) is not None:
            start += chunk
        return start


class _Stream(Protocol):
    """One compressed stream of possibly several, one after the other."""

    @property
    def unused(self) -> bytes | None:
        """What came after the stream's end; None before it."""
        ...

    def decompress(self, data: bytes) -> bytes:
        """Take data and give at most `STEP` bytes; with b"" for data, more of what is due; b"" if nothing is."""
        ...


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_GZIP_WINDOW)

    @property
    def unused(self) -> bytes | None:
        return self._inner.unused_data if self._inner.eof else None

    def decompress(self, data: bytes) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, STEP)


class _Zstd:
    def __init__(self) -> None:
        self._inner = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})

    @property
    def unused(self) -> bytes | None:
        return self._inner.unused_data if self._inner.eof else None

    def decompress(self, data: bytes) -> bytes:
        return self._inner.decompress(data, STEP)


class _Inflater:
    """The decompression of one archive. Blocking."""

    def __init__(self, make: Callable[[], _Stream], limits: ArchiveLimits) -> None:
        self._make = make
        self._limits = limits
        self._stream: _Stream | None = None
        self._pending = b""
        self._streams = 0
        self._taken = 0
        self._given = 0

    def push(self, data: bytes) -> None:
        """Take data; only when the last `pull` gave nothing."""
        self._pending = data
        self._taken += len(data)

    def pull(self) -> bytes:
        """Give at most `STEP` bytes; nothing means that more data is needed."""
        while True:
            if self._stream is None and not self._begin():
                return b""
            piece = self._step()
            if piece or self._stream is not None:
                self._given += len(piece)
                self._check()
                return piece

    def check_end(self) -> None:
        if self._stream is not None:
            raise ArchiveError("the archive is truncated: its compression is broken off", offset=self._given)

    def _begin(self) -> bool:
        """Begin the next stream if there is one."""
        if self._streams:
            self._pending = self._pending.lstrip(b"\x00")  # padding, as tapes need
            self._check()
        if self._pending:
            self._stream = self._make()
            self._streams += 1
        return bool(self._pending)

    def _step(self) -> bytes:
        assert self._stream is not None
        data, self._pending = self._pending, b""
        try:
            piece = self._stream.decompress(data)
        except (zlib.error, zstd.ZstdError) as error:
            raise ArchiveError(f"the archive's compression is damaged: {error}", offset=self._given) from error
        unused = self._stream.unused
        if unused is not None:
            self._pending, self._stream = unused, None
        return piece

    def _check(self) -> None:
        given, taken, limits = self._given, self._taken, self._limits
        if given > limits.size:
            raise ArchiveError(f"the archive grows beyond the {limits.size} bytes allowed", offset=given)
        if given > _RATIO_FREE + limits.ratio * taken:
            raise ArchiveError(f"{taken} compressed bytes grow more than {limits.ratio} times larger", offset=given)
        if taken > _RATIO_FREE + 2 * given or self._streams > _STREAMS_FREE + taken // _STREAM_SIZE:
            raise ArchiveError(f"{taken} compressed bytes in {self._streams} pieces hold only {given}", offset=given)


class Compressor:
    """Compresses an archive on its way out; the same bytes in give the same bytes out. Blocking."""

    def __init__(self, kind: Compression) -> None:
        self._pending = bytearray()
        self._inner: _Deflating | None = None
        # No file name and no time in the header, which would differ each time.
        if kind == "gzip":
            self._inner = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
        elif kind == "zstd":
            parameters = zstd.CompressionParameter
            self._inner = zstd.ZstdCompressor(
                options={parameters.compression_level: ZSTD_LEVEL, parameters.checksum_flag: 1}
            )

    def compress(self, data: bytes | memoryview) -> bytes:
        """Take data; return what is due to be written, which may be nothing yet."""
        if self._inner is None:
            return bytes(data)
        # What zlib makes depends on the pieces it gets, and whoever sends them cuts them as they like.
        self._pending += data
        whole = len(self._pending) - len(self._pending) % STEP
        starts = range(0, whole, STEP)
        made = [self._inner.compress(bytes(self._pending[start : start + STEP])) for start in starts]
        del self._pending[:whole]
        return b"".join(made)

    def finish(self) -> bytes:
        """Return the end."""
        if self._inner is None:
            return b""
        return self._inner.compress(bytes(self._pending)) + self._inner.flush()


class _Deflating(Protocol):
    """What zlib's and zstd's compressors have in common."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        """Take data."""
        ...

    def flush(self) -> bytes:
        """Return the end."""
        ...
