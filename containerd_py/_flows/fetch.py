"""Bringing one piece of content into the content store: resumed where a former attempt stopped, never left poisoned.

Knows ingests and what a source of bytes must do; knows neither images nor HTTP. The daemon checks every digest when it
commits, so nothing is hashed twice.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Final, Protocol

from containerd_py._flows.content_labels import ingest_ref
from containerd_py._flows.exclusive import exclusively
from containerd_py._flows.undoing import tidy
from containerd_py.errors import (
    AlreadyExistsError,
    DataLossError,
    DigestMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    RegistryError,
    SizeMismatchError,
)
from containerd_py.services.bundle import Services
from containerd_py.services.content_writer import ContentWriter
from containerd_py.services.leases import LeaseResource
from containerd_py.types import NO_LABELS, Descriptor

WRONG_DIGEST: Final = re.compile(r"unexpected commit digest (\S+), expected")  # containerd, plugins/content/local

Report = Callable[[int], None]  # told how many bytes of the content are here
Document = tuple[bytes, Mapping[str, str]]  # content and the labels it gets


class OpenBlob(Protocol):
    """The bytes of a blob, and the host they come from; reading raises DataLossError once there are too many."""

    @property
    def host(self) -> str:
        """Who sends them."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        """Iterate over them; each chunk is valid until the next is asked for."""
        ...


class BlobSource(Protocol):
    """Where blobs come from."""

    def open_blob(
        self, descriptor: Descriptor, *, offset: int = 0, exclude: Collection[str] = ()
    ) -> AbstractAsyncContextManager[OpenBlob]:
        """Lend the blob's bytes from `offset` on, not from the hosts in `exclude`; NotFoundError if none is left."""
        ...


async def fetch_blob(
    services: Services,
    source: BlobSource,
    descriptor: Descriptor,
    *,
    report: Report,
    labels: Mapping[str, str] = NO_LABELS,
) -> bool:
    """Fetch a blob unless it is there; return whether it had to be fetched. Only then it gets the labels.

    Something that is kept from the garbage collection must name it, for it is fetched outside of the lease. An ingest
    inside would be collected with the lease of a pull that failed; this one stays for a day after its last writer
    (containerd), and the next fetch goes on from there, also that of another client. Content that is not what it should
    be is thrown away and fetched once more from the beginning: from the same host if a former attempt may have left the
    bad part, else from the other hosts.

    Raises:
        DigestMismatchError: Every host sent something else.
        SizeMismatchError: Every host sent more or less.
    """
    unleased = services.in_scope()
    excluded: set[str] = set()
    bad: DataLossError | None = None
    while True:
        blob = _Blob(source, descriptor, report, labels, excluded)
        try:
            return await _ingest(unleased, descriptor, blob.fill)
        except DataLossError as error:
            if not blob.resumed_at or bad is not None:
                excluded.add(blob.host)
            bad = error
        except NotFoundError:
            if bad is None:
                raise
            await _abort(unleased, ingest_ref(descriptor))  # opened before it was clear that no host is left
            raise bad from bad.__cause__


class _Blob:
    """One attempt to write a blob."""

    def __init__(
        self,
        source: BlobSource,
        descriptor: Descriptor,
        report: Report,
        labels: Mapping[str, str],
        excluded: Collection[str],
    ) -> None:
        self._source = source
        self._descriptor = descriptor
        self._report = report
        self._labels = labels
        self._excluded = excluded
        self.resumed_at = 0  # bytes a former attempt left, good or bad
        self.host = ""

    async def fill(self, writer: ContentWriter) -> Mapping[str, str]:
        self.resumed_at = writer.offset
        if writer.offset < self._descriptor.size:
            async with self._source.open_blob(self._descriptor, offset=writer.offset, exclude=self._excluded) as blob:
                try:
                    async for chunk in blob:
                        await writer.write(chunk)
                        self._report(writer.offset)
                finally:
                    self.host = blob.host
        return self._labels


async def fetch_document(leased: Services, descriptor: Descriptor, make: Callable[[], Awaitable[Document]]) -> bool:
    """Store a manifest or index in the lease unless it is there; return whether it had to be fetched by `make`."""

    async def fill(writer: ContentWriter) -> Mapping[str, str]:
        data, labels = await make()
        if writer.offset:
            await writer.truncate()
        await writer.write(data)
        return labels

    return await _ingest(leased, descriptor, fill)


async def _ingest(
    services: Services, descriptor: Descriptor, fill: Callable[[ContentWriter], Awaitable[Mapping[str, str]]]
) -> bool:
    """Open the ingest, have it filled, and commit it with the labels that `fill` returns; False if it is there."""
    if descriptor.size <= 0:
        # A front end without Content-Length, most likely; containerd refuses it as well.
        raise InvalidArgumentError(f"{descriptor.digest} is said to have {descriptor.size} bytes: nothing to fetch")
    ref = ingest_ref(descriptor)
    try:
        async with (
            exclusively(services.connection, services.namespace, ref),
            services.content.open_writer(ref, total=descriptor.size, expected=descriptor.digest) as writer,
        ):
            if writer.offset > descriptor.size:
                await writer.truncate()
            try:
                labels = await fill(writer)
            except (RegistryError, DataLossError):
                await writer.release()  # whoever is next, to abort it or to go on, need not wait for the daemon
                raise
            await _commit(writer, descriptor, labels)
    except AlreadyExistsError:
        if services.lease is not None:  # not every daemon adds what was there already
            await services.leases.add_resource(services.lease, LeaseResource(type="content", id=descriptor.digest))
        return False
    except DataLossError:
        # A bad ingest of full length would be committed again and again by whoever comes next.
        await _abort(services, ref)
        raise
    return True


async def _abort(services: Services, ref: str) -> None:
    await tidy(f"aborting ingest {ref!r}", partial(services.content.abort, ref))


async def _commit(writer: ContentWriter, descriptor: Descriptor, labels: Mapping[str, str]) -> None:
    if writer.offset != descriptor.size:
        raise SizeMismatchError(f"{descriptor.digest} came with {writer.offset} bytes, expected {descriptor.size}")
    try:
        await writer.commit(size=descriptor.size, expected=descriptor.digest, labels=labels)
    except FailedPreconditionError as error:
        actual = WRONG_DIGEST.search(str(error))
        raise DigestMismatchError(
            expected=descriptor.digest, actual=actual[1] if actual else "another", source="the registry"
        ) from error
