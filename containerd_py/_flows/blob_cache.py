"""Small documents kept in memory: what was read and verified once need not be read again, for it never changes.

Kept for each connection, and apart for each namespace: content of one is not visible in another. Layers and large blobs
pass by. That something is missing is never remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakKeyDictionary

import anyio

from containerd_py._flows.image_content import read_blob
from containerd_py._transport.connection import Connection
from containerd_py.oci.media_types import is_index, is_known_config, is_manifest
from containerd_py.services.bundle import Services
from containerd_py.types import Descriptor

MAX_BYTES: Final = 32 * 1024 * 1024  # of all that is kept for a connection
MAX_ITEM: Final = 4 * 1024 * 1024  # bytes

Key = tuple[str, str]  # namespace, digest


class BlobCache:
    """Bytes by namespace and digest: those used longest ago go first when there are more than `max_bytes` of them."""

    def __init__(self, *, max_bytes: int = MAX_BYTES, max_item: int = MAX_ITEM) -> None:
        self._max_bytes = max_bytes
        self._max_item = max_item
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._reading: dict[Key, anyio.Event] = {}
        self.size = 0  # bytes

    async def get(self, key: Key, read: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return what is kept, else read it; who asks for what somebody else is reading waits for that.

        Whoever reads may fail or be cancelled: then the next one reads.
        """
        while (data := self._kept.get(key)) is None:
            reading = self._reading.get(key)
            if reading is None:
                return await self._read(key, read)
            await reading.wait()
        self._kept.move_to_end(key)
        return data

    async def _read(self, key: Key, read: Callable[[], Awaitable[bytes]]) -> bytes:
        done = self._reading[key] = anyio.Event()
        try:
            data = await read()
            self._keep(key, data)
        finally:
            del self._reading[key]
            done.set()
        return data

    def _keep(self, key: Key, data: bytes) -> None:
        if len(data) > min(self._max_item, self._max_bytes):
            return
        self._kept[key] = data
        self.size += len(data)
        while self.size > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.size -= len(dropped)


_caches: WeakKeyDictionary[Connection, BlobCache] = WeakKeyDictionary()  # each ends with its connection


async def read_cached_blob(services: Services, descriptor: Descriptor) -> bytes:
    """Return a blob, verified; indexes, manifests and configurations from memory if they were read before."""

    async def read() -> bytes:
        return await read_blob(services, descriptor, limit=descriptor.size)

    is_document = any(is_one(descriptor.media_type) for is_one in (is_index, is_manifest, is_known_config))
    if not is_document or not 0 < descriptor.size <= MAX_ITEM:
        return await read()
    cache = _caches.setdefault(services.connection, BlobCache())
    data = await cache.get((services.namespace, descriptor.digest), read)
    return data if len(data) == descriptor.size else await read()  # which says what is wrong about the size
