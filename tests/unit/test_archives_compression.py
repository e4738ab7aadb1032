"""Compression around archives: recognised by its bytes, undone in bounded steps, made the same each time."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import shutil
import subprocess
import sys
import zlib

import pytest

from containerd_py.archives.compression import STEP, Compressor, Decompressed, detect, is_compressed
from containerd_py.archives.limits import DEFAULT_LIMITS, ArchiveLimits
from containerd_py.errors import ArchiveError
from tests.unit.tars import chunked

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MiB = 1024 * 1024
PLAIN = random.Random(1).randbytes(300_000) + bytes(2 * MiB)
CHECKED = {zstd.CompressionParameter.checksum_flag: 1}  # as the zstd tool does
PACKERS = {"gzip": gzip.compress, "zstd": lambda data: zstd.compress(data, options=CHECKED)}
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"  # a zstd frame without data


async def unpacked(data: bytes, limits: ArchiveLimits = DEFAULT_LIMITS, size: int = 50_000) -> bytes:
    """Decompress; no step gives more than it may."""
    pieces = [piece async for piece in Decompressed(chunked(data, size), limits)]
    assert all(len(piece) <= max(STEP, size) for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("size", [1, 1000, 10 * MiB])
async def test_what_was_compressed_comes_out(kind: str, size: int):
    """Whatever the pieces it comes in, and in several streams one after the other."""
    data = PLAIN if size > 1 else PLAIN[:3000]
    assert await unpacked(PACKERS[kind](data), size=size) == data
    assert (
        await unpacked(PACKERS[kind](data) + PACKERS[kind](b"more") + PACKERS[kind](b""), size=size) == data + b"more"
    )


@pytest.mark.parametrize("data", [b"", b"a", b"plain text", bytes(1000)])
async def test_plain_bytes_pass(data: bytes):
    """What is not compressed is left alone, however short."""
    assert await unpacked(data) == data


async def test_frames_without_data_count_as_zstd():
    """A skippable frame before or between frames is skipped, as containerd does."""
    data = SKIPPABLE + zstd.compress(b"a") + SKIPPABLE + zstd.compress(b"b")
    assert detect(data) == "zstd"
    assert await unpacked(data) == b"ab"


@pytest.mark.parametrize("kind", PACKERS)
async def test_padding_is_skipped(kind: str):
    """Zeros after the end pad to records."""
    assert await unpacked(PACKERS[kind](b"data") + bytes(10240)) == b"data"


@pytest.mark.parametrize("kind", PACKERS)
async def test_broken_compression_is_told(kind: str):
    """Cut off, damaged, or followed by something else: ArchiveError says which, never a bare error of the library."""
    packed = PACKERS[kind](PLAIN)
    for cut in (9, 20, len(packed) // 2, len(packed) - 1):
        with pytest.raises(ArchiveError, match="broken off"):
            await unpacked(packed[:cut])
    damaged = bytearray(packed)
    damaged[len(packed) // 3] ^= 0xFF
    for bad in (bytes(damaged), packed + b"garbage", packed[:10] + b"garbage" * 100):
        with pytest.raises(ArchiveError, match="damaged"):
            await unpacked(bad)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (bz2.compress(b"x"), "bzip2"),
        (lzma.compress(b"x"), "xz"),
        (b"PK\x03\x04zip", "zip"),
        (b"\x04\x22\x4d\x18xxxx", "lz4"),
    ],
)
async def test_foreign_compression_is_named(data: bytes, name: str):
    """What containerd does not know is refused by name."""
    with pytest.raises(ArchiveError, match=f"compressed with {name}"):
        await unpacked(data)


def bomb(kind: str, size: int) -> bytes:
    """Compress zeros as much as they can be."""
    if kind == "zstd":
        return zstd.compress(bytes(size), level=19)
    deflating = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(deflating.compress(bytes(MiB)) for _ in range(size // MiB)) + deflating.flush()


@pytest.mark.parametrize("kind", PACKERS)
async def test_bombs_stop_at_the_ratio(kind: str):
    """What grows too much is stopped in steps of a MiB, once past the first 16 MiB."""
    packed = bomb(kind, 64 * MiB)
    limits = ArchiveLimits(ratio=100)
    given = 0
    with pytest.raises(ArchiveError, match="grow more than 100 times"):
        async for piece in Decompressed(chunked(packed, 1000), limits):
            given += len(piece)
    assert 16 * MiB <= given <= 17 * MiB + 100 * len(packed)
    assert len(await unpacked(packed, ArchiveLimits(ratio=100_000))) == 64 * MiB


@pytest.mark.parametrize("kind", PACKERS)
async def test_bombs_stop_at_the_size(kind: str):
    """The absolute limit counts whatever the ratio, and is passed by no more than a step."""
    limits = ArchiveLimits(ratio=10**6, size=20 * MiB)
    given = 0
    with pytest.raises(ArchiveError, match="grows beyond the 20971520 bytes"):
        async for piece in Decompressed(chunked(bomb(kind, 64 * MiB)), limits):
            given += len(piece)
    assert given <= 20 * MiB


@pytest.mark.parametrize("nothing", [SKIPPABLE, gzip.compress(b"", mtime=0), zstd.compress(b"")])
async def test_streams_of_nothing_end(nothing: bytes):
    """Compressed streams without content cannot go on for ever."""

    async def endless():
        yield gzip.compress(b"x") if nothing[:2] == b"\x1f\x8b" else zstd.compress(b"x")
        while True:
            yield nothing * 1000

    with pytest.raises(ArchiveError, match="hold only"):
        async for _ in Decompressed(endless()):
            pass


@pytest.mark.parametrize(
    ("start", "compressed"),
    [
        (b"\x1f\x8b\x08", True),
        (b"\x28\xb5\x2f\xfd", True),
        (SKIPPABLE, True),
        (b"", False),
        (b"\x1f\x8b", False),
        (b"BZh", False),
    ],
)
def test_layers_are_recognised_as_by_containerd(start: bytes, compressed: bool):
    """gzip and zstd, by the same bytes; anything else is taken for plain."""
    assert is_compressed(start) is compressed


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
async def test_compressing_gives_the_same_each_time(kind: str):
    """No time and no name is in it, nor in what pieces it came, and it comes out as it went in."""

    def packed(size: int = MiB) -> bytes:
        compressor = Compressor(kind)
        parts = [compressor.compress(PLAIN[start : start + size]) for start in range(0, len(PLAIN), size)]
        return b"".join(parts) + compressor.finish()

    assert packed() == packed() == packed(10_000) == packed(len(PLAIN))
    assert detect(packed()[:8]) == kind
    assert await unpacked(packed()) == PLAIN
    if kind == "gzip":
        assert gzip.GzipFile(fileobj=io.BytesIO(packed())).read() == PLAIN
        assert packed()[4:8] == bytes(4)  # the time
    if kind == "zstd" and shutil.which("zstd"):
        assert subprocess.run(["zstd", "-dc"], input=packed(), capture_output=True, check=True).stdout == PLAIN
