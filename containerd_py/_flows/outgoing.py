"""Bytes of a blob on their way out of the content store, for somebody who reads them in another task."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectSendStream

from containerd_py._flows.together import working_together
from containerd_py.errors import DigestMismatchError
from containerd_py.oci.digests import algorithm_of
from containerd_py.services.bundle import Services


@asynccontextmanager
async def open_outgoing(services: Services, digest: str, offset: int, size: int) -> AsyncIterator[AsyncIterator[bytes]]:
    """Lend an iterator over `size` bytes of a blob from `offset` on; what reading them fails with ends the block.

    At most three chunks are in memory. A daemon's stream must be read in the task that opened it; an HTTP client reads
    what it sends in one of its own.
    """
    send, receive = anyio.create_memory_object_stream[bytes](1)
    async with working_together() as group:
        with send, receive:
            if size:
                group.start_soon(_feed, services, digest, offset, size, send)
            else:
                send.close()
            yield receive
            await group.end()


async def _feed(services: Services, digest: str, offset: int, size: int, out: MemoryObjectSendStream[bytes]) -> None:
    with out:
        async with services.content.open_reader(digest, offset=offset, size=size) as chunks:
            async for chunk in chunks:
                await out.send(chunk)


async def check_blob(services: Services, digest: str) -> None:
    """Read a whole blob, and make sure that it is what its digest says.

    Raises:
        DigestMismatchError: It is not.
    """
    found = hashlib.new(algorithm_of(digest))
    async with services.content.open_reader(digest) as chunks:
        async for chunk in chunks:
            await to_thread.run_sync(found.update, chunk)
    actual = f"{found.name}:{found.hexdigest()}"
    if actual != digest:
        raise DigestMismatchError(expected=digest, actual=actual, source="the daemon's content store")
