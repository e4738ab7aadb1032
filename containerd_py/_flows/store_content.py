"""Putting content into the store that comes as a stream and comes once: written whole or not at all.

Knows ingests; knows neither images nor archives. What a source promises is checked, also where it is there already.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial

import attrs

from containerd_py._flows.fetch import WRONG_DIGEST
from containerd_py._flows.undoing import undoing
from containerd_py.errors import (
    AlreadyExistsError,
    ContainerdError,
    DigestMismatchError,
    FailedPreconditionError,
    NotFoundError,
    SizeMismatchError,
)
from containerd_py.services.bundle import Services
from containerd_py.services.content_writer import ContentWriter
from containerd_py.services.leases import LeaseResource
from containerd_py.types import NO_LABELS

Report = Callable[[int], None]  # told how many bytes have been taken


def _to_nobody(_taken: int) -> None:
    """Report to nobody."""


@attrs.frozen(kw_only=True)
class Incoming:
    """Content to come: `next` returns its next piece, an empty one at its end.

    `size` in bytes, None where not known; `digest` where it is promised, else empty. `source` names who promises.
    """

    next: Callable[[], Awaitable[bytes | memoryview]]
    size: int | None
    digest: str = ""
    source: str = ""
    report: Report = _to_nobody


@attrs.frozen(kw_only=True)
class Stored:
    """Content that is in the store and under the lease; `is_new` if it was not there before."""

    digest: str
    is_new: bool


async def store_content(leased: Services, incoming: Incoming, *, labels: Mapping[str, str] = NO_LABELS) -> Stored:
    """Write content into the store; content that is there already is left as it is, and gets the lease.

    Labels are set on content that is new. When this fails or is cancelled nothing stays.

    Raises:
        DigestMismatchError: It is not what was promised.
        SizeMismatchError: It has another size.
    """
    storing = _Storing(leased, incoming)
    try:
        return Stored(digest=await storing.write(labels), is_new=True)
    except AlreadyExistsError:
        return Stored(digest=await storing.check(), is_new=False)


async def keep_content(
    leased: Services, digest: str, size: int, labels: Mapping[str, str] = NO_LABELS, *, source: str
) -> None:
    """Have the lease keep content that the store should have, since `source` does not; set labels on it.

    Raises:
        NotFoundError: The store does not have it.
        SizeMismatchError: It does, with another size than the `size` bytes that its descriptor says.
    """
    if leased.lease is not None:  # before looking: what is found must not be collected a moment later
        await leased.leases.add_resource(leased.lease, LeaseResource(type="content", id=digest))
    try:
        info = await leased.content.info(digest)
    except NotFoundError as error:
        raise NotFoundError(f"{digest} is neither in {source} nor in the content store") from error
    if size > 0 and info.size != size:
        raise SizeMismatchError(f"{digest} is said to have {size} bytes and has {info.size}")
    missing = {key: value for key, value in labels.items() if info.labels.get(key) != value}
    if missing:
        await leased.content.update(digest, missing)


class _Storing:
    """The storing of one piece of content."""

    def __init__(self, leased: Services, incoming: Incoming) -> None:
        self._leased = leased
        self._incoming = incoming
        self._ref = f"containerd-py-{secrets.token_hex(12)}"
        self._hash = hashlib.sha256()
        self._is_hashed = not incoming.digest  # else the daemon does that, unless it has the content
        self._taken = 0

    async def write(self, labels: Mapping[str, str]) -> str:
        incoming = self._incoming
        opening = self._leased.content.open_writer(self._ref, total=incoming.size or 0, expected=incoming.digest)
        async with undoing(self._leased.connection) as undo, AsyncExitStack() as stack:
            abort = partial(self._leased.in_scope().content.abort, self._ref)
            with undo.making(f"aborting ingest {self._ref!r}", abort):
                writer = await stack.enter_async_context(opening)
            try:
                await self._fill(writer)
            except Exception:
                with suppress(ContainerdError):  # of the daemon, which then has let go already
                    await writer.release()  # an abort needs the daemon to have let go
                raise
            digest = await self._commit(writer, labels)
            undo.keep()
        return digest

    async def check(self) -> str:
        """Read the rest of what the store has already, and check it all the same where that is possible still."""
        self._is_hashed = self._is_hashed or not self._taken
        while await self._next():
            self._incoming.report(self._taken)
        self._check_size()
        digest = f"sha256:{self._hash.hexdigest()}"
        promised = self._incoming.digest
        if self._is_hashed and promised not in {"", digest}:
            raise DigestMismatchError(promised, digest, self._incoming.source)
        return promised or digest

    async def _fill(self, writer: ContentWriter) -> None:
        adopted = writer.offset  # of another namespace: the daemon shares what two have
        self._is_hashed = self._is_hashed or adopted > 0
        while piece := await self._next():
            if not adopted:
                await writer.write(piece)
            self._incoming.report(self._taken)
        self._check_size()
        if adopted:
            self._check_adopted(adopted)

    async def _next(self) -> bytes | memoryview:
        piece = await self._incoming.next()
        self._taken += len(piece)
        if self._is_hashed:
            self._hash.update(piece)
        return piece

    async def _commit(self, writer: ContentWriter, labels: Mapping[str, str]) -> str:
        digest = self._incoming.digest or f"sha256:{self._hash.hexdigest()}"
        try:
            await writer.commit(size=self._taken, expected=digest, labels=labels)
        except FailedPreconditionError as error:
            actual = WRONG_DIGEST.search(str(error))
            raise DigestMismatchError(digest, actual[1] if actual else "another", self._incoming.source) from error
        return digest

    def _check_size(self) -> None:
        size = self._incoming.size
        if size is not None and self._taken != size:
            raise SizeMismatchError(f"{self._incoming.source} has {self._taken} bytes instead of {size}")

    def _check_adopted(self, adopted: int) -> None:
        digest = f"sha256:{self._hash.hexdigest()}"
        if digest != self._incoming.digest or self._taken != adopted:
            raise DigestMismatchError(self._incoming.digest, digest, self._incoming.source)
