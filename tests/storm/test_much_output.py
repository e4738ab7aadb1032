"""A gigabyte through a container's streams: byte for byte, in bounded memory, however slow the other side."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, Image
from containerd_py.oci.runtime_spec import Mount
from tests.storm.holdings import memory_of

PIECE = 64 << 20  # bytes of chance
PIECES = 16  # so often: 1 GiB
GROWTH = 24 * 1024  # KiB that streams, buffers and the allocator may take
SLOW = 0.002  # seconds between two receives of 512 KiB

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def piece(tmp_path: Path) -> Path:
    """Make a file of random bytes."""
    path = tmp_path / "piece"
    with path.open("wb") as file:
        for _ in range(PIECE >> 20):
            file.write(os.urandom(1 << 20))
    return path


def digest_of(piece: Path) -> str:
    """Return the digest of the file's content, repeated."""
    digest = hashlib.sha256()
    for _ in range(PIECES):
        with piece.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


async def test_a_gigabyte_out_to_a_slow_reader(
    client: Client, busybox: Image, piece: Path, note: Callable[[str], None]
):
    """A reader slower than the process gets every byte, and neither it nor the shim holds more than buffers."""
    mount = Mount(type="bind", source=str(piece), destination="/piece", options=["rbind", "ro"])
    arguments = ["/bin/sh", "-c", f"for i in $(seq {PIECES}); do cat /piece; done"]
    digest, count, grown = hashlib.sha256(), 0, 0
    async with client.open_run(busybox, arguments, mounts=[mount]) as task:
        assert task.stdout is not None
        buffer = memoryview(bytearray(512 << 10))
        before = memory_of("self")
        began = anyio.current_time()
        while True:
            try:
                size = await task.stdout.receive_into(buffer)
            except anyio.EndOfStream:
                break
            digest.update(buffer[:size])
            count += size
            if count >> 26 != (count - size) >> 26:
                grown = max(grown, memory_of("self") - before)
            await anyio.sleep(SLOW)
        took = anyio.current_time() - began
        assert (await task.wait()).code == 0
    note(f"{count >> 20} MiB in {took:.1f} s, {count / took / 2**20:.0f} MiB/s, memory +{grown} KiB")
    assert count == PIECE * PIECES
    assert digest.hexdigest() == digest_of(piece)
    assert grown < GROWTH


async def test_a_gigabyte_in_to_a_slow_process(
    client: Client, busybox: Image, piece: Path, note: Callable[[str], None]
):
    """What is sent to a process that reads slowly waits in the FIFO, not in memory, and arrives as it was."""
    pause = "dd bs=1M count=64 iflag=fullblock 2>/dev/null; usleep 300000"
    arguments = ["/bin/sh", "-c", f"for i in $(seq {PIECES}); do {pause}; done | sha256sum; wc -c"]
    data = piece.read_bytes()
    grown = 0
    before = memory_of("self")

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal grown
        for _ in range(PIECES):
            for start in range(0, PIECE, 1 << 20):
                yield data[start : start + (1 << 20)]
            grown = max(grown, memory_of("self") - before)

    began = anyio.current_time()
    completed = await client.run(busybox, arguments, input=pieces())
    took = anyio.current_time() - began
    note(f"{PIECE * PIECES >> 20} MiB in {took:.1f} s, {PIECE * PIECES / took / 2**20:.0f} MiB/s, memory +{grown} KiB")
    assert completed.stdout.decode().split() == [digest_of(piece), "-", "0"]
    assert grown < GROWTH
