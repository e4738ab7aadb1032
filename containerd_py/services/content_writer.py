"""Writing one ingest: the client's half of Content.Write. Knows that call's protocol; knows nothing of registries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import attrs

from containerd_py._generated.containerd.services.content.v1 import (
    WriteAction,
    WriteContentRequest,
    WriteContentResponse,
)
from containerd_py._transport.connection import Rpc
from containerd_py._transport.duplex import Duplex
from containerd_py.errors import DataLossError, OutOfRangeError
from containerd_py.labels import check_labels
from containerd_py.services.wire import time_from_wire
from containerd_py.types import NO_LABELS, Timestamp

WRITE_ROUTE: Final = "/containerd.services.content.v1.Content/Write"
# Bytes in one message: the fastest size measured, for the message just fits the buffers of 1 MiB that the daemon's gRPC
# keeps and uses again (16 MiB are allowed).
CHUNK_SIZE: Final = 1020 * 1024
_DATA_FIELD: Final = 6  # WriteContentRequest.data
# Writes the daemon may still owe an answer to: enough to keep it busy, few enough to hear of a failure soon.
_IN_FLIGHT: Final = 4


@attrs.frozen(kw_only=True)
class WriterStatus:
    """Where a writer stands: `offset` and `total` in bytes, the latter 0 where not told."""

    offset: int
    total: int
    started_at: Timestamp | None = None
    updated_at: Timestamp | None = None


class ContentWriter:
    """Writes one ingest in order, from `offset` on. Made by `ContentService.open_writer`."""

    def __init__(
        self, duplex: Duplex[WriteContentRequest, WriteContentResponse], ref: str, total: int, expected: str
    ) -> None:
        self._duplex = duplex
        self._ref = ref
        self._total = total
        self._expected = expected
        self._unanswered = 0
        self.offset = 0  # bytes the ingest has, with those on their way

    @property
    def ref(self) -> str:
        """The ingest's name."""
        return self._ref

    async def status(self) -> WriterStatus:
        """Return where the ingest stands, once all writes so far have arrived."""
        await self._settle(0)
        await self._duplex.send(self._request(WriteAction.STAT))
        reply = await self._reply()
        self.offset = reply.offset
        return WriterStatus(
            offset=reply.offset,
            total=reply.total,
            started_at=time_from_wire(reply.started_at),
            updated_at=time_from_wire(reply.updated_at),
        )

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes. Returns when they are under way; a failure shows at one of the next calls.

        Raises:
            AlreadyExistsError: Somebody else has committed the expected content meanwhile.
        """
        view = memoryview(data)
        for start in range(0, len(view), CHUNK_SIZE):
            part = view[start : start + CHUNK_SIZE]
            request = self._request(WriteAction.WRITE)
            request.offset = self.offset
            await self._settle(_IN_FLIGHT - 1)
            await self._duplex.send_with_bytes(request, _DATA_FIELD, part)
            self._unanswered += 1
            self.offset += len(part)

    async def truncate(self) -> None:
        """Forget what the ingest holds and begin again at 0."""
        await self._settle(0)
        request = self._request(WriteAction.WRITE)
        request.offset = 0
        await self._duplex.send(request)
        self.offset = (await self._reply()).offset
        if self.offset != 0:
            raise OutOfRangeError(
                f"the daemon kept {self.offset} bytes of ingest {self._ref!r} instead of truncating it"
            )

    async def commit(
        self, *, size: int | None = None, expected: str | None = None, labels: Mapping[str, str] = NO_LABELS
    ) -> str:
        """Make the ingest a blob, verified by the daemon, and return its digest. Nothing can be written after.

        `size` in bytes and the digest `expected` default to what the writer was opened with.

        Raises:
            FailedPreconditionError: Size or digest is not what was promised; the ingest stays.
            AlreadyExistsError: This namespace has the blob already; the ingest is gone and the labels are not set.
        """
        check_labels(labels)
        await self._settle(0)
        request = self._request(WriteAction.COMMIT)
        request.offset = self.offset
        request.total = self._total if size is None else size
        request.expected = self._expected if expected is None else expected
        request.labels = dict(labels)
        await self._duplex.send(request, end=True)
        committed = ""
        # The daemon sends its last answer twice; only its status tells that the commit held.
        while (reply := await self._duplex.receive()) is not None:
            committed = reply.digest or committed
        return committed

    async def release(self) -> None:
        """Leave the ingest as it is and wait until the daemon has let go of it; nothing can be written after.

        Aborting needs this: the daemon still writes to an ingest whose call was broken off a moment ago.
        """
        await self._settle(0)
        await self._duplex.end()
        while await self._duplex.receive() is not None:
            pass

    def _request(self, action: WriteAction) -> WriteContentRequest:
        return WriteContentRequest(action=action, ref=self._ref, total=self._total, expected=self._expected)

    async def _settle(self, allowed: int) -> None:
        while self._unanswered > allowed:
            await self._reply()
            self._unanswered -= 1

    async def _reply(self) -> WriteContentResponse:
        reply = await self._duplex.receive()
        if reply is None:
            raise DataLossError(f"the daemon ended the write of ingest {self._ref!r} before it was committed")
        return reply


@asynccontextmanager
async def open_session(rpc: Rpc, ref: str, *, total: int, expected: str) -> AsyncIterator[ContentWriter]:
    """Open the call that writes `ref`; the daemon holds the ingest's lock as long as it lasts."""
    async with rpc.duplex(WRITE_ROUTE, WriteContentRequest, WriteContentResponse) as duplex:
        writer = ContentWriter(duplex, ref, total, expected)
        await writer.status()
        yield writer
