"""One large blob fetched in several ranges at once, for lines on which a single connection is slow.

The ranges are handed on in order, so that a fetch that broke off is resumed as any other. Memory is bounded: at most so
many ranges as are fetched at once. Source: containerd, core/remotes/docker (concurrent layer fetch).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, Self

import anyio

from containerd_py._flows.fetch import OpenBlob
from containerd_py._flows.together import Workers, working_together
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.types import Descriptor


class OpenRange(Protocol):
    """A range of a blob's bytes."""

    @property
    def host(self) -> str:
        """Who sends them."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over them."""
        ...

    def views(self) -> AsyncIterator[bytes | memoryview]:
        """Iterate over them, each chunk being valid until the next is asked for."""
        ...

    @property
    def has_ranges(self) -> bool:
        """Whether the host sends ranges, as far as is known; else it sends everything."""
        ...

    def read_on(self) -> None:
        """Go on to the content's very end."""
        ...


class RangeSource(Protocol):
    """Where ranges of blobs come from."""

    def open_blob(
        self, descriptor: Descriptor, *, offset: int = 0, size: int | None = None, exclude: Collection[str] = ()
    ) -> AbstractAsyncContextManager[OpenRange]:
        """Lend `size` bytes from `offset` on."""
        ...


class RangedSource:
    """A source of blobs, large ones of which come in several ranges at once where `limits` say so."""

    def __init__(self, source: RangeSource, limits: RegistryLimits) -> None:
        self._source = source
        self._limits = limits

    @asynccontextmanager
    async def open_blob(
        self, descriptor: Descriptor, *, offset: int = 0, exclude: Collection[str] = ()
    ) -> AsyncIterator[OpenBlob]:
        """Lend the blob's bytes from `offset` on, not from the hosts in `exclude`."""
        limits = self._limits
        if limits.layer_parallelism == 1 or descriptor.size - offset <= limits.layer_chunk_size:
            async with self._source.open_blob(descriptor, offset=offset, exclude=exclude) as blob:
                yield _Viewed(blob)
            return
        async with working_together() as group:
            yield _RangedBlob(self._source, descriptor, offset, exclude, limits, group)
            await group.end()


class _Viewed:
    """A blob that comes in one piece, and is not copied."""

    def __init__(self, blob: OpenRange) -> None:
        self._blob = blob

    @property
    def host(self) -> str:
        return self._blob.host

    def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        return self._blob.views()


class _RangedBlob:
    """An iterator over a blob whose ranges are fetched by workers, the first of them alone until it has begun."""

    def __init__(
        self,
        source: RangeSource,
        descriptor: Descriptor,
        offset: int,
        exclude: Collection[str],
        limits: RegistryLimits,
        group: Workers,
    ) -> None:
        self._source = source
        self._descriptor = descriptor
        self._exclude = exclude
        self._limits = limits
        self._group = group
        self._next_offset = offset  # of the range to be begun next
        self._ranges: deque[_Range] = deque()  # begun, and not handed on to the end
        self._has_begun = False
        self.host = ""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Wait for the next bytes.

        Raises:
            DataLossError: As a fetch of the blob in one piece does.
            RegistryError: The same.
        """
        if not self._has_begun:
            self._has_begun = True
            self._begin(is_first=True)
        while self._ranges:
            first = self._ranges[0]
            chunk = await first.take()
            self.host = first.host
            if chunk is not None:
                self._begin_more(first)
                return chunk
            self._ranges.popleft()
            self._begin_more(first)
        raise StopAsyncIteration

    def _begin_more(self, current: _Range) -> None:
        """Begin ranges, as many as may be under way, once it is known that there are any."""
        if current.has_ranges:
            while len(self._ranges) < self._limits.layer_parallelism and self._begin():
                pass

    def _begin(self, *, is_first: bool = False) -> bool:
        size = min(self._limits.layer_chunk_size, self._descriptor.size - self._next_offset)
        if size <= 0:
            return False
        part = _Range(self._limits.layer_chunk_size)
        self._group.start_soon(self._fetch, part, self._next_offset, size, is_first)
        self._ranges.append(part)
        self._next_offset += size
        return True

    async def _fetch(self, part: _Range, offset: int, size: int, is_first: bool) -> None:
        """Fetch a range. A failure is handed on in its turn: what comes before is of use."""
        try:
            opening = self._source.open_blob(self._descriptor, offset=offset, size=size, exclude=self._exclude)
            async with opening as blob:
                async for chunk in blob:
                    part.host = blob.host
                    if is_first and part.has_ranges and not blob.has_ranges:
                        part.has_ranges = False
                        self._next_offset = self._descriptor.size
                        blob.read_on()
                    await part.put(chunk)
        except Exception as error:  # noqa: BLE001  # carried over to whoever reads
            part.end(error)
        else:
            part.end()


class _Range:
    """Bytes of one range between the worker that fetches them and the reader, no more of them than a range has."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: deque[bytes] = deque()
        self._held = 0  # bytes
        self._has_ended = False
        self._failure: Exception | None = None
        self._change = anyio.Event()
        self.host = ""
        self.has_ranges = True

    async def put(self, chunk: bytes) -> None:
        """Hand a chunk over, once there is room for it."""
        while self._held and self._held + len(chunk) > self._limit:
            await self._changed()
        self._chunks.append(chunk)
        self._held += len(chunk)
        self._change.set()

    def end(self, failure: Exception | None = None) -> None:
        """Say that no more chunks will come, and why if not all have."""
        self._has_ended, self._failure = True, failure
        self._change.set()

    async def take(self) -> bytes | None:
        """Wait for the next chunk; None after the last one."""
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._has_ended:
                return None
            await self._changed()
        chunk = self._chunks.popleft()
        self._held -= len(chunk)
        self._change.set()
        return chunk

    async def _changed(self) -> None:
        self._change = anyio.Event()
        await self._change.wait()
