"""What an archive or a layout brings, on its way into the content store. Knows content; knows not what it makes up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Protocol

import anyio
import attrs
from anyio import EndOfStream
from anyio.lowlevel import checkpoint_if_cancelled
from anyio.streams.memory import MemoryObjectReceiveStream

from containerd_py._completion import run_to_completion
from containerd_py._flows.image_content import read_blob
from containerd_py._flows.store_content import Incoming, keep_content, store_content
from containerd_py._flows.together import Workers, working_together
from containerd_py.archives.compression import SNIFFED, is_compressed
from containerd_py.archives.documents import BLOBS, DOCKER_FILE, INDEX_FILE, LAYOUT_FILE, blob_path
from containerd_py.archives.layout_folder import LayoutFile, LayoutFolder
from containerd_py.archives.limits import ArchiveLimits
from containerd_py.archives.sources import CHUNK
from containerd_py.archives.tar_headers import Kind
from containerd_py.archives.tar_reader import Member, TarReader
from containerd_py.errors import ArchiveError, DigestMismatchError, NotFoundError, SizeMismatchError
from containerd_py.oci.digests import digest_of
from containerd_py.services.bundle import Services
from containerd_py.types import NO_LABELS, Descriptor

# Kept here until somebody asks for it: documents, and the crumbs in Docker's archives that nobody ever does.
SMALL: Final = 16 * 1024  # bytes
MAX_SMALL: Final = 16 * 1024 * 1024  # bytes of all small members together; the rest goes to the store at once
MAX_STORING: Final = 8  # files at once, one of which is being received; the others wait for the disk
_MAX_LINKS: Final = 16  # on the way to one file
_SHA256_LENGTH: Final = 64
_DOCUMENTS: Final = frozenset({LAYOUT_FILE, INDEX_FILE, DOCKER_FILE})

ReportMember = Callable[[str, int, int], None]  # told a path, how many bytes of it have been taken, and of how many


class ImportContent(Protocol):
    """Content that an import reads and keeps, wherever it comes from."""

    async def document(self, descriptor: Descriptor, *, limit: int) -> bytes:
        """Return a document, verified; it has at most `limit` bytes. NotFoundError where there is none."""
        ...

    async def keep(self, descriptor: Descriptor, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Have it in the store and under the lease, with these labels. NotFoundError where there is none."""
        ...


@attrs.frozen(kw_only=True)
class Brought:
    """A file that an archive brought."""

    digest: str
    size: int
    is_compressed: bool


class ArchiveContent:
    """The members of a tar archive, taken in their order: large ones into the store, small ones in hand."""

    def __init__(self, leased: Services, limits: ArchiveLimits, report: ReportMember) -> None:
        self._leased = leased
        self._limits = limits
        self._report = report
        self._small: dict[str, bytes] = {}  # by digest
        self._small_size = 0
        self._stored: dict[str, int] = {}  # sizes by digest
        self._files: dict[str, Brought] = {}  # by path
        self._links: dict[str, str] = {}
        self._turns = anyio.Semaphore(MAX_STORING)
        self.documents: dict[str, bytes] = {}  # what the archive says about itself, by path

    async def take(self, reader: TarReader) -> None:
        """Take every member.

        Raises:
            ArchiveError: The archive is damaged or hostile.
            DigestMismatchError: A blob is not what its name says.
        """
        async with working_together() as storing:
            async for member in reader:
                if member.kind is Kind.FOLDER:
                    continue
                if member.path in _DOCUMENTS:
                    self.documents[member.path] = await self._read_document(reader, member)
                elif member.kind is not Kind.FILE:
                    self._links[member.path] = member.target
                elif member.size <= SMALL and self._small_size + member.size <= MAX_SMALL:
                    self._hold(await reader.read(member.path, SMALL), member)
                else:
                    await self._hand_over(reader, member, storing)

    def find(self, path: str) -> Brought | None:
        """Return the file of that path, or the one that links lead to; None if there is none.

        Raises:
            ArchiveError: Links lead nowhere, or in circles.
        """
        for _ in range(_MAX_LINKS):
            found = self._files.get(path)
            if found is not None:
                return found
            target = self._links.get(path)
            if target is None:
                return None
            if target not in self._files and target not in self._links:
                raise ArchiveError(f"{path[:160]!a} is a link to {target[:160]!a}, which is not in the archive")
            path = target
        raise ArchiveError(f"more than {_MAX_LINKS} links lead from {path[:160]!a}")

    def check_links(self) -> None:
        """Make sure that every link leads to a file.

        Raises:
            ArchiveError: One does not.
        """
        for path in self._links:
            self.find(path)

    def add(self, data: bytes) -> tuple[str, int]:
        """Add a document that the archive should have had; return its digest and size."""
        digest = digest_of(data)
        self._small[digest] = data
        return digest, len(data)

    async def document(self, descriptor: Descriptor, *, limit: int) -> bytes:
        """Return a document; see `ImportContent`."""
        data = self._small.get(descriptor.digest)
        if data is None:
            return await _read_here(self._leased, descriptor, limit, "the archive")
        _check_size(descriptor, len(data))
        return data

    async def keep(self, descriptor: Descriptor, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Keep content; see `ImportContent`."""
        data = self._small.get(descriptor.digest)
        stored = self._stored.get(descriptor.digest)
        if data is not None:
            _check_size(descriptor, len(data))
            await store_bytes(self._leased, data, descriptor.digest, labels)
        elif stored is not None:
            _check_size(descriptor, stored)
            if labels:
                await self._leased.content.update(descriptor.digest, labels)
        else:
            await keep_content(self._leased, descriptor.digest, descriptor.size, labels, source="the archive")

    async def _read_document(self, reader: TarReader, member: Member) -> bytes:
        if member.kind is not Kind.FILE:
            raise ArchiveError(f"{member.path} is a {member.kind.value}", offset=member.offset)
        return await reader.read(member.path, self._limits.json)

    async def _hand_over(self, reader: TarReader, member: Member, storing: Workers) -> None:
        """Have a file stored by a task of its own, which the next one need not wait for: it waits for the disk."""
        send, receive = anyio.create_memory_object_stream[memoryview](1)
        await self._turns.acquire()
        with send, receive:
            storing.start_soon(self._store, member, receive.clone())
            while piece := await reader.chunk():
                await send.send(piece)

    async def _store(self, member: Member, pieces: MemoryObjectReceiveStream[memoryview]) -> None:
        start = b""

        async def next_piece() -> memoryview:
            nonlocal start
            try:
                piece = await pieces.receive()
            except EndOfStream:
                return memoryview(b"")
            if len(start) < SNIFFED:
                start += bytes(piece[:SNIFFED])
            return piece

        with pieces:
            stored = await store_content(
                self._leased,
                Incoming(
                    next=next_piece,
                    size=member.size,
                    digest=_digest_in(member.path),
                    source=f"{member.path[:160]!a} in the archive",
                    report=lambda taken: self._report(member.path, taken, member.size),
                ),
            )
        self._stored[stored.digest] = member.size
        self._files[member.path] = Brought(digest=stored.digest, size=member.size, is_compressed=is_compressed(start))
        self._turns.release()

    def _hold(self, data: bytes, member: Member) -> None:
        promised, digest = _digest_in(member.path), digest_of(data)
        if promised not in {"", digest}:
            raise DigestMismatchError(promised, digest, f"{member.path!a} in the archive")
        if digest not in self._small:
            self._small[digest] = data
            self._small_size += len(data)
        self._files[member.path] = Brought(digest=digest, size=len(data), is_compressed=is_compressed(data))


class FolderContent:
    """The blobs of a layout in a folder: what is asked for is read, and nothing else."""

    def __init__(self, leased: Services, folder: LayoutFolder, report: ReportMember) -> None:
        self._leased = leased
        self._folder = folder
        self._report = report

    async def document(self, descriptor: Descriptor, *, limit: int) -> bytes:
        """Return a document; see `ImportContent`."""
        path = blob_path(descriptor.digest)
        try:
            data = await run_to_completion(partial(self._folder.read, path, limit))
        except NotFoundError:
            return await _read_here(self._leased, descriptor, limit, "the layout")
        _check_size(descriptor, len(data))
        digest = digest_of(data)
        if digest != descriptor.digest:
            raise DigestMismatchError(descriptor.digest, digest, path)
        return data

    async def keep(self, descriptor: Descriptor, labels: Mapping[str, str] = NO_LABELS) -> None:
        """Keep content; see `ImportContent`."""
        try:
            await keep_content(self._leased, descriptor.digest, descriptor.size, labels, source="the layout")
        except NotFoundError:
            await self._store(descriptor, labels)

    async def _store(self, descriptor: Descriptor, labels: Mapping[str, str]) -> None:
        async with self._opened(descriptor) as file:
            _check_size(descriptor, file.size)

            async def next_piece() -> bytes:
                piece = await run_to_completion(partial(file.read, CHUNK))
                await checkpoint_if_cancelled()
                return piece

            incoming = Incoming(
                next=next_piece,
                size=file.size,
                digest=descriptor.digest,
                source=file.path,
                report=lambda taken: self._report(file.path, taken, file.size),
            )
            stored = await store_content(self._leased, incoming, labels=labels)
        if labels and not stored.is_new:  # somebody else was faster
            await self._leased.content.update(descriptor.digest, labels)

    @asynccontextmanager
    async def _opened(self, descriptor: Descriptor) -> AsyncIterator[LayoutFile]:
        opened: list[LayoutFile] = []

        def open_blob() -> None:
            opened.append(self._folder.open_blob(descriptor.digest))

        try:
            try:
                await run_to_completion(open_blob)
            except NotFoundError as error:
                raise NotFoundError(f"{descriptor.digest} is neither in the layout nor in the content store") from error
            yield opened[0]
        finally:
            for file in opened:
                file.close()


async def store_bytes(leased: Services, data: bytes, digest: str, labels: Mapping[str, str] = NO_LABELS) -> None:
    """Write content into the store that is in hand, with labels, also where the store has it."""
    pieces = [data]

    async def next_piece() -> bytes:
        return pieces.pop() if pieces else b""

    stored = await store_content(leased, Incoming(next=next_piece, size=len(data), digest=digest), labels=labels)
    if labels and not stored.is_new:
        await leased.content.update(digest, labels)


async def _read_here(leased: Services, descriptor: Descriptor, limit: int, source: str) -> bytes:
    """Read a document that the source does not have."""
    try:
        return await read_blob(leased, descriptor, limit=limit)
    except NotFoundError as error:
        raise NotFoundError(f"{descriptor.digest} is neither in {source} nor in the content store") from error


def _digest_in(path: str) -> str:
    """Return the digest that a layout's path promises; empty where it promises none that the store checks."""
    folder, _, encoded = path.rpartition("/")
    is_hex = len(encoded) == _SHA256_LENGTH and not encoded.strip("0123456789abcdef")
    return f"sha256:{encoded}" if folder == f"{BLOBS}/sha256" and is_hex else ""


def _check_size(descriptor: Descriptor, size: int) -> None:
    if descriptor.size > 0 and descriptor.size != size:
        raise SizeMismatchError(f"{descriptor.digest} is said to have {descriptor.size} bytes and has {size}")
