"""Blobs and ingests: the content store. Knows the Content service; knows nothing of what a blob means."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from random import uniform
from typing import Final

import anyio
import attrs

from containerd_py._generated.containerd.services.content.v1 import (
    AbortRequest,
    ContentStub,
    DeleteContentRequest,
    InfoRequest,
    ListContentRequest,
    ListContentResponse,
    ListStatusesRequest,
    ReadContentRequest,
    ReadContentResponse,
    StatusRequest,
    UpdateRequest,
)
from containerd_py._generated.containerd.services.content.v1 import Info as WireInfo
from containerd_py._generated.containerd.services.content.v1 import Status as WireStatus
from containerd_py._transport.connection import Rpc
from containerd_py.errors import ConnectionLostError, DaemonConnectError, DataLossError, UnavailableError
from containerd_py.filters import checked_filters
from containerd_py.labels import check_labels
from containerd_py.services.content_writer import ContentWriter, open_session
from containerd_py.services.wire import converted, label_mask, mask_to_wire, required, time_from_bytes, time_from_wire
from containerd_py.types import NO_LABELS, Timestamp, frozen_map

LIST_ROUTE: Final = "/containerd.services.content.v1.Content/List"
READ_ROUTE: Final = "/containerd.services.content.v1.Content/Read"
_DATA_FIELD: Final = 2  # ReadContentResponse.data
# While another client writes the same ingest: random pauses below a bound that doubles (Go client: 16 ms to 2048 ms).
_FIRST_PAUSE: Final = 0.016  # seconds
_LONGEST_PAUSE: Final = 2.048  # seconds


@attrs.frozen(kw_only=True)
class ContentInfo:
    """A blob (containerd.services.content.v1.Info). `size` is in bytes; only the labels may be changed."""

    digest: str
    size: int
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    created_at: Timestamp | None = None
    updated_at: Timestamp | None = None


@attrs.frozen(kw_only=True)
class IngestStatus:
    """An ingest: content on its way in (containerd.services.content.v1.Status).

    `offset` and `total` are bytes, `total` 0 where not told; `expected` is a digest or empty.
    """

    ref: str
    offset: int
    total: int
    expected: str
    started_at: Timestamp | None = None
    updated_at: Timestamp | None = None


def _info(data: bytes, begin: int, end: int) -> ContentInfo:
    digest, size, created_at, updated_at, labels = WireInfo.values(data, begin, end)
    return ContentInfo(
        digest=digest,
        size=size,
        labels=labels,
        created_at=time_from_bytes(created_at),
        updated_at=time_from_bytes(updated_at),
    )


def _info_from_wire(value: WireInfo | None) -> ContentInfo:
    data = bytes(required(value, "the content's info"))
    return _info(data, 0, len(data))


def _status_from_wire(value: WireStatus | None) -> IngestStatus:
    status = required(value, "the ingest's status")
    return IngestStatus(
        ref=status.ref,
        offset=status.offset,
        total=status.total,
        expected=status.expected,
        started_at=time_from_wire(status.started_at),
        updated_at=time_from_wire(status.updated_at),
    )


class ContentService:
    """The Content service, typed (containerd.services.content.v1.Content)."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def _stub(self) -> ContentStub:
        return self._rpc.stub(ContentStub)

    async def info(self, digest: str) -> ContentInfo:
        """Return what is known of a blob (Content.Info).

        Raises:
            NotFoundError: This namespace has no such blob.
        """
        reply = await self._rpc.read(self._stub.info, InfoRequest(digest=digest))
        return _info_from_wire(reply.info)

    async def update(self, digest: str, labels: Mapping[str, str], *, replace: bool = False) -> ContentInfo:
        """Set labels, an empty value removing one; `replace` drops all others (Content.Update)."""
        check_labels(labels)
        request = UpdateRequest(
            info=WireInfo(digest=digest, labels=dict(labels)),
            update_mask=mask_to_wire(["labels"] if replace else label_mask(labels)),
        )
        return _info_from_wire((await self._rpc.read(self._stub.update, request)).info)

    @asynccontextmanager
    async def open_list(self, filters: Iterable[str] = ()) -> AsyncIterator[AsyncIterator[ContentInfo]]:
        """Lend an iterator over blobs as the daemon finds them (Content.List)."""
        request = ListContentRequest(filters=checked_filters(filters))
        async with self._rpc.entries(LIST_ROUTE, request, ListContentResponse, _info) as found:
            yield (info async for infos in found for info in infos)

    async def list(self, filters: Iterable[str] = ()) -> list[ContentInfo]:
        """Return the blobs that match any of the filters, all without one (Content.List).

        Filter fields: `digest`, `labels`, `size`.
        """
        request = ListContentRequest(filters=checked_filters(filters))
        return await self._rpc.list(LIST_ROUTE, request, ListContentResponse, _info)

    async def delete(self, digest: str) -> None:
        """Remove a blob from this namespace (Content.Delete); the garbage collection frees its space.

        Raises:
            NotFoundError: This namespace has no such blob.
        """
        await self._stub.delete(DeleteContentRequest(digest=digest))

    @asynccontextmanager
    async def open_reader(self, digest: str, *, offset: int = 0, size: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """Lend an iterator over a blob's bytes in chunks, at most 1 MiB each (Content.Read).

        `size` bytes from `offset` on, 0 meaning to the end. Not verified: see `read` and `read_blob`.

        Raises:
            NotFoundError: This namespace has no such blob.
            OutOfRangeError: The offset lies beyond the end.
        """
        request = ReadContentRequest(digest=digest, offset=offset, size=size)
        async with self._rpc.chunks(READ_ROUTE, request, ReadContentResponse, field=_DATA_FIELD, name="data") as chunks:
            yield chunks

    async def read(self, digest: str, *, offset: int = 0, size: int = 0) -> bytes:
        """Return a blob's bytes, or `size` of them from `offset` on (Content.Read). Not verified: see `read_blob`.

        Raises:
            NotFoundError: This namespace has no such blob.
            DataLossError: Fewer bytes came than were asked for.
        """
        try:
            data = await self._read(digest, offset, size)
        except ConnectionLostError:
            data = await self._read(digest, offset, size)
        if size > 0 and len(data) != size:
            raise DataLossError(f"reading {digest} at {offset} gave {len(data)} bytes instead of {size}")
        return data

    async def _read(self, digest: str, offset: int, size: int) -> bytes:
        async with self.open_reader(digest, offset=offset, size=size) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def status(self, ref: str) -> IngestStatus:
        """Return how far an ingest is (Content.Status).

        Raises:
            NotFoundError: There is no ingest of that ref.
        """
        reply = await self._rpc.read(self._stub.status, StatusRequest(ref=ref))
        return _status_from_wire(reply.status)

    async def list_statuses(self, filters: Iterable[str] = ()) -> builtins.list[IngestStatus]:
        """Return the ingests that match any of the filters, all without one (Content.ListStatuses). Field: `ref`."""
        reply = await self._rpc.read(self._stub.list_statuses, ListStatusesRequest(filters=checked_filters(filters)))
        return await converted(reply.statuses, _status_from_wire)

    async def abort(self, ref: str) -> None:
        """Throw an ingest away (Content.Abort).

        Raises:
            NotFoundError: There is no ingest of that ref.
        """
        await self._stub.abort(AbortRequest(ref=ref))

    @asynccontextmanager
    async def open_writer(
        self, ref: str, *, total: int = 0, expected: str = "", wait: bool = True
    ) -> AsyncIterator[ContentWriter]:
        """Lend a writer on the ingest `ref`, new or resumed where its last writer stopped (Content.Write).

        `total` is the size in bytes and `expected` the digest, where known. Leaving without a commit keeps what was
        written, to be resumed or aborted. While somebody else writes the ingest, `wait` waits for them.

        Raises:
            AlreadyExistsError: A blob of the expected digest is there.
            UnavailableError: Somebody else writes it and `wait` is False.
        """
        async with AsyncExitStack() as session:
            pause = _FIRST_PAUSE
            while True:
                opening = open_session(self._rpc, ref, total=total, expected=expected)
                try:
                    writer = await session.enter_async_context(opening)
                    break
                except UnavailableError as error:
                    if not wait or not _is_locked(error):
                        raise
                await anyio.sleep(uniform(0, pause))  # noqa: S311  # spreading waiters, no secret
                pause = min(pause * 2, _LONGEST_PAUSE)
            yield writer


def _is_locked(error: UnavailableError) -> bool:
    return "locked" in str(error) and not isinstance(error, ConnectionLostError | DaemonConnectError)
