"""Writing new content into the content store, under a lease that the caller holds: layers and documents.

What is there already is used, and gets the labels it needs. Nothing half-written stays behind.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from typing import Final

import anyio
import attrs
from anyio import to_thread

from containerd_py._flows.undoing import undoing
from containerd_py.archives import compression as archive_compression
from containerd_py.archives.limits import ArchiveLimits
from containerd_py.errors import AlreadyExistsError, ArchiveError, DigestMismatchError, NotFoundError
from containerd_py.labels import UNCOMPRESSED
from containerd_py.oci.digests import digest_of
from containerd_py.oci.image_documents import dump_document
from containerd_py.oci.media_type_families import Compression, MediaTypes, layer_type
from containerd_py.services.bundle import Services
from containerd_py.types import NO_LABELS, Descriptor

# An opening that was broken off may still make the ingest in the daemon when it is to be aborted.
_LATE_PAUSES: Final[tuple[float, ...]] = (0.0, 0.05, 0.2)  # seconds
# A file of zeros shrinks thirty thousandfold under zstd: containerd unpacks it without a bound, we with a wide one.
_LAYER_LIMITS: Final = ArchiveLimits(ratio=10**6, size=2**40)
ByteStream = AsyncGenerator[bytes, None]  # whoever takes one closes it


@attrs.frozen(kw_only=True)
class Layer:
    """A layer in the content store, and the digest it unpacks to."""

    descriptor: Descriptor
    diff_id: str


@attrs.frozen(kw_only=True)
class _Blob:
    """What a blob turned out to be."""

    digest: str
    size: int
    labels: Mapping[str, str]


async def write_document(
    leased: Services, document: Mapping[str, object], media_type: str, *, labels: Mapping[str, str] = NO_LABELS
) -> Descriptor:
    """Store a manifest, an index or a configuration; the labels keep what it names."""
    data = dump_document(document)
    blob = _Blob(digest=digest_of(data), size=len(data), labels=labels)

    async def pieces() -> ByteStream:
        yield data

    await _write(leased, pieces(), lambda: blob)
    return Descriptor(media_type=media_type, digest=blob.digest, size=blob.size)


async def write_layer(leased: Services, tar: ByteStream, *, compression: Compression, family: MediaTypes) -> Layer:
    """Compress a tar stream, store it, and close it; what `tar` raises comes out, and nothing stays behind then."""
    media_type = layer_type(compression, family)
    packing = _Packing(compression)

    async def pieces() -> ByteStream:
        async with aclosing(tar):
            async for chunk in tar:
                yield await to_thread.run_sync(packing.take, chunk)
        yield await to_thread.run_sync(packing.end)

    await _write(leased, pieces(), packing.blob)
    blob = packing.blob()
    return Layer(
        descriptor=Descriptor(media_type=media_type, digest=blob.digest, size=blob.size), diff_id=packing.diff_id
    )


async def _write(leased: Services, pieces: ByteStream, blob: Callable[[], _Blob]) -> None:
    """Store a stream as a blob; `blob` tells what it was once it has ended."""
    ref = f"containerd-py-new-{secrets.token_hex(12)}"
    content = leased.in_scope().content
    pauses = _LATE_PAUSES  # until the ingest is known to exist

    async def abort() -> None:
        for pause in pauses:
            await anyio.sleep(pause)
            with suppress(NotFoundError):
                await content.abort(ref)
                return

    async with undoing(leased.connection) as undo, aclosing(pieces):
        undo.push(f"aborting ingest {ref!r}", abort)
        try:
            async with leased.content.open_writer(ref) as writer:
                pauses = (0.0,)
                try:
                    async for piece in pieces:
                        await writer.write(piece)
                except Exception:
                    await writer.release()  # the daemon lets go of the ingest before it is aborted
                    raise
                made = blob()
                # Without the expected digest: where the daemon sees one it has, it says so without leasing the blob.
                digest = await writer.commit(size=made.size, labels=made.labels)
                if digest != made.digest:
                    raise DigestMismatchError(expected=made.digest, actual=digest, source="the daemon")
        except AlreadyExistsError:
            made = blob()
            if made.labels:
                await leased.content.update(made.digest, made.labels)
        undo.keep()


class _Packing:
    """Compresses, counts and digests a layer on its way. Its calls take time: they belong into a thread."""

    def __init__(self, compression: Compression) -> None:
        self._compressor = archive_compression.Compressor(compression)
        self._plain = hashlib.sha256()
        self._packed = hashlib.sha256()
        self._size = 0

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._plain.hexdigest()}"

    def blob(self) -> _Blob:
        digest = f"sha256:{self._packed.hexdigest()}"
        return _Blob(digest=digest, size=self._size, labels={UNCOMPRESSED: self.diff_id})

    def take(self, data: bytes) -> bytes:
        self._plain.update(data)
        return self._count(self._compressor.compress(data))

    def end(self) -> bytes:
        return self._count(self._compressor.finish())

    def _count(self, data: bytes) -> bytes:
        self._packed.update(data)
        self._size += len(data)
        return data


async def in_thread(pieces: Iterator[bytes]) -> ByteStream:
    """Iterate over what a blocking generator makes, off the event loop."""
    while (piece := await to_thread.run_sync(next, pieces, None)) is not None:
        yield piece


async def decompressed(packed: ByteStream, *, what: str) -> ByteStream:
    """Decompress a stream however it is compressed, off the event loop; `what` names it in errors.

    Raises:
        ArchiveError: It is damaged, or ends too early.
    """
    async with aclosing(packed):
        try:
            async for piece in archive_compression.Decompressed(packed, _LAYER_LIMITS):
                yield piece
        except ArchiveError as error:
            error.add_note(f"in {what}")
            raise


async def read_layer(services: Services, layer: Descriptor) -> ByteStream:
    """Iterate over a layer's bytes as they are in the content store. Not verified."""
    async with services.content.open_reader(layer.digest) as chunks:
        async for chunk in chunks:
            yield chunk


async def generated(source: AsyncIterable[bytes]) -> ByteStream:
    """Make a generator of any stream, so that it can be closed."""
    async for chunk in source:
        yield chunk
