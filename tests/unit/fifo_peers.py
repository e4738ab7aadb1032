"""Child processes that hold the other end of a FIFO, as a shim does."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import Process

# A shim opens an output for writing, which waits for a reader, then for reading, lest a lost client kill it.
OPEN_AS_SHIM = (
    "import hashlib, os, random, sys, time\nw = os.open(sys.argv[1], os.O_WRONLY)\nr = os.open(sys.argv[1], 0)\n"
)
OPEN_STDIN = "import hashlib, os, sys, time\nr = os.open(sys.argv[1], os.O_RDONLY)\n"
WRITE_RANDOM = """
digest = hashlib.sha256()
for _ in range(int(sys.argv[2])):
    block = memoryview(random.randbytes(1 << 16))
    digest.update(block)
    while block:
        block = block[os.write(w, block):]
print(digest.hexdigest(), flush=True)
"""
READ_ALL = """
digest, count = hashlib.sha256(), 0
while block := os.read(r, 1 << 16):
    digest.update(block)
    count += len(block)
print(count, digest.hexdigest(), flush=True)
"""


@asynccontextmanager
async def peer(script: str, *args: object) -> AsyncIterator[Process]:
    """Run a Python script as a child; it is killed if it has not ended when the block does."""
    process = await anyio.open_process(
        [sys.executable, "-S", "-c", script, *map(str, args)], stderr=None, stdin=None, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.aclose()


async def said(process: Process) -> str:
    """Return all that the child prints until it ends."""
    assert process.stdout is not None
    return b"".join([chunk async for chunk in process.stdout]).decode().strip()


def open_descriptors() -> dict[str, str]:
    """Return this process's descriptors and what they are, but for the one that lists them."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except FileNotFoundError:
            continue
    return found
