"""One repository of a registry: what a tag means, manifests, blobs. Knows the distribution specification.

Source: OCI distribution specification 1.1; containerd's resolver, fetcher and pusher.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self, TypeVar

from anyio import to_thread

from containerd_py.errors import (
    ContainerdError,
    DigestMismatchError,
    InvalidArgumentError,
    ManifestTooLargeError,
    RegistryNotFoundError,
)
from containerd_py.oci.digests import algorithm_of, check_digest, digest_of
from containerd_py.oci.image_spec import parse_index, parse_manifest
from containerd_py.oci.media_types import is_index, is_manifest
from containerd_py.references import TAG_RE, Reference
from containerd_py.remotes.answers import most_telling
from containerd_py.remotes.blobs import Blob
from containerd_py.remotes.host_client import HostClient
from containerd_py.remotes.host_config import Capability
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.remotes.listing import list_names, page_query
from containerd_py.remotes.manifest_uploads import delete_manifest, has_manifest, put_manifest
from containerd_py.remotes.referrers import add_to_fallback, list_referrers
from containerd_py.remotes.resolution import resolve_at
from containerd_py.remotes.sources import ForeignSource, HostSource, Source
from containerd_py.remotes.uploads import OpenContent, PushOutcome, Report, Upload, has_blob
from containerd_py.types import Descriptor

T = TypeVar("T")

_INLINE_LIMIT: Final = 1024 * 1024  # bytes of content a descriptor may bring along


class Repository:
    """A repository, asked at each of its hosts until one can tell. Made by `Registry.open_repository`.

    Serves any number of tasks at once; each open blob has a connection of its own.
    """

    def __init__(self, reference: Reference, clients: Sequence[HostClient], limits: RegistryLimits) -> None:
        self.reference = reference
        self._clients = clients
        self._limits = limits
        self._seen: tuple[str, bytes] | None = None  # the manifest that resolving had to fetch whole

    async def resolve(self) -> Descriptor:
        """Ask what the reference's tag or digest stands for.

        Raises:
            RegistryNotFoundError: No host has it.
            ManifestTooLargeError: It is larger than a manifest may be.
            ManifestNotSupportedError: It is of a kind containerd gave up.
            RegistryError: No host could tell; the message has what each of them said.
        """
        digest = self.reference.digest
        # Only a host trusted to resolve may say what a tag stands for; a digest needs no trust.
        needed = Capability.PULL if digest else Capability.PULL | Capability.RESOLVE
        clients = self._able(needed)
        for kind in ("manifests", "blobs") if digest else ("manifests",):
            errors: list[ContainerdError] = []
            for position, client in enumerate(clients):
                try:
                    resolved = await resolve_at(
                        client, kind, self.reference, self._limits, last_host=position == len(clients) - 1
                    )
                except ContainerdError as error:
                    errors.append(error)
                else:
                    self._seen = (resolved.descriptor.digest, resolved.content) if resolved.content else None
                    return resolved.descriptor
            if not all(isinstance(error, RegistryNotFoundError) for error in errors):
                break  # blobs are for registries of old that keep no manifests, not for ones that failed
        raise most_telling(errors) from None

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """Fetch a manifest or index whole, and check it against its descriptor.

        Raises:
            ManifestTooLargeError: It is larger than a manifest may be.
            DigestMismatchError: What every host sends is something else.
            RegistryError: No host could send it.
        """
        check_digest(descriptor.digest)
        limit = self._limits.max_manifest_size
        if descriptor.size > limit:
            raise ManifestTooLargeError(
                f"the manifest {descriptor.digest} has {descriptor.size} bytes, more than {limit}",
                size=descriptor.size,
                limit=limit,
            )
        if self._seen is not None and self._seen[0] == descriptor.digest and len(self._seen[1]) == descriptor.size:
            return self._seen[1]
        typed = is_manifest(descriptor.media_type) or is_index(descriptor.media_type)
        kinds = ("manifests",) if typed else ("manifests", "blobs")
        wrong: list[ContainerdError] = []
        excluded: set[str] = set()
        while True:
            try:
                data, host = await self._fetch_whole(descriptor, kinds, excluded)
            except ContainerdError as error:
                raise (most_telling([*wrong, error]) if wrong else error) from None
            actual = await to_thread.run_sync(_digest_like, data, descriptor.digest)
            if actual == descriptor.digest:
                return data
            wrong.append(DigestMismatchError(expected=descriptor.digest, actual=actual, source=host))
            excluded.add(host)

    async def _fetch_whole(
        self, descriptor: Descriptor, kinds: tuple[str, ...], exclude: Collection[str]
    ) -> tuple[bytes, str]:
        sources = self._sources(descriptor, kinds, exclude)
        blob = Blob(sources, size=descriptor.size, offset=0, limits=self._limits, inline=_inline(descriptor))
        try:
            return b"".join([chunk async for chunk in blob]), blob.host
        finally:
            blob.close()

    @asynccontextmanager
    async def open_blob(
        self, descriptor: Descriptor, *, offset: int = 0, size: int | None = None, exclude: Collection[str] = ()
    ) -> AsyncIterator[Blob]:
        """Open content for reading `size` bytes from `offset`, None: to its end; digests are the reader's to check.

        The body's chunks come as the network gives them, on a fast one 256 KiB and more. Reading raises what
        `Blob.__anext__` names. `exclude` leaves hosts out that sent something wrong before (`Blob.host`).

        Raises:
            RegistryNotFoundError: No host may be asked.
            InvalidArgumentError: The digest is malformed, or the offset outside the content.
        """
        check_digest(descriptor.digest)
        end = descriptor.size if size is None else offset + size
        if not 0 <= offset <= end <= descriptor.size:
            raise InvalidArgumentError(
                f"{offset} to {end} is outside the {descriptor.size} bytes of {descriptor.digest}"
            )
        kind = "manifests" if is_manifest(descriptor.media_type) or is_index(descriptor.media_type) else "blobs"
        blob = Blob(
            self._sources(descriptor, (kind,), exclude),
            size=descriptor.size,
            offset=offset,
            end=end,
            limits=self._limits,
            inline=await to_thread.run_sync(_inline, descriptor) if descriptor.data is not None else None,
        )
        try:
            yield blob
        finally:
            blob.close()

    # ── pushing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def has(self, descriptor: Descriptor) -> bool:
        """Tell whether the host that is pushed to has a manifest, index or blob already.

        Raises:
            RegistryError: It failed to tell. Where it refuses to, the answer is no.
        """
        check_digest(descriptor.digest)
        is_document = is_manifest(descriptor.media_type) or is_index(descriptor.media_type)
        client = self._pushing()
        return await (has_manifest(client, descriptor) if is_document else has_blob(client, descriptor))

    async def push_blob(
        self,
        descriptor: Descriptor,
        content: OpenContent | bytes,
        *,
        mount_from: str | None = None,
        report: Report | None = None,
        check: bool = True,
    ) -> PushOutcome:
        """Bring a blob here, unless it is here; say what became of it.

        `content` are its bytes, or lends them in chunks, given an offset and their number; they are iterated in
        another task. `mount_from` names another repository of the registry that may have the blob. `report` is told how
        many bytes have been taken; `check` False does not ask first whether the blob is here. An upload whose
        connection breaks goes on where it stopped if the registry allows, else it begins anew, a few times.

        Raises:
            RegistryError: The registry refused, failed or misbehaved.
            SizeMismatchError: The content is longer or shorter than the descriptor says.
            DigestMismatchError: The registry says that it stored something else.
        """
        check_digest(descriptor.digest)
        opens = _lending(content) if isinstance(content, bytes) else content
        upload = Upload(self._pushing(), descriptor, opens, report or _to_nobody)
        return await upload.push(mount_from=mount_from, check=check)

    async def push_manifest(self, descriptor: Descriptor, data: bytes, *, tag: str | None = None) -> bool:
        """Put a manifest or index here, all of whose content is here; False if the very same was here already.

        `tag` None puts it under its digest alone. What it refers to as its subject is told of it, also where the
        registry does not do so by itself.

        Raises:
            DigestMismatchError: The data is not what the descriptor says, or the registry says that it stored
                something else.
            InvalidArgumentError: The tag or the media type is malformed.
            RegistryError: The registry refused, failed or misbehaved.
        """
        if tag is not None and not TAG_RE.fullmatch(tag):
            raise InvalidArgumentError(f"{tag[:160]!a} is no tag")
        actual = await to_thread.run_sync(_digest_like, data, check_digest(descriptor.digest))
        if actual != descriptor.digest:
            raise DigestMismatchError(expected=descriptor.digest, actual=actual, source="the caller")
        client = self._pushing()
        outcome = await put_manifest(client, descriptor, data, tag)
        if not outcome.was_there and not outcome.is_referrer_known and b'"subject"' in data:
            parse = parse_index if is_index(descriptor.media_type) else parse_manifest
            await add_to_fallback(client, descriptor, parse(data))
        return not outcome.was_there

    async def delete_manifest(self, descriptor: Descriptor | str) -> None:
        """Delete a manifest or index, given by its descriptor or digest, with all its tags; or one tag.

        Many registries delete nothing, or no tags. Blobs go with the registry's own garbage collection.

        Raises:
            RegistryNotFoundError: It is not here.
            InvalidArgumentError: This is neither a digest nor a tag.
            RegistryError: The registry refused; status 405 says that it never deletes.
        """
        reference = descriptor if isinstance(descriptor, str) else descriptor.digest
        if ":" in reference or not TAG_RE.fullmatch(reference):
            check_digest(reference)
        await delete_manifest(self._pushing(), reference)

    def _pushing(self) -> HostClient:
        return self._able(Capability.PUSH)[0]

    # ── listing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def list_tags(self) -> list[str]:
        """Return all tags, in the registry's order, which is usually the alphabet's.

        Raises:
            RegistryNotFoundError: There is no such repository.
            RegistryError: No host could tell; or it lists more than `RegistryLimits` allows.
        """

        async def ask(client: HostClient) -> list[str]:
            what = f"the list of tags of {self.reference.path}"
            return await list_names(client, client.url("tags", "list", page_query()), "tags", TAG_RE, what)

        return await self._first(Capability.PULL | Capability.RESOLVE, ask)

    async def referrers(self, descriptor: Descriptor, artifact_types: Collection[str] = ()) -> list[Descriptor]:
        """Return what refers to a manifest or index: signatures, attestations and the like, of some types or all.

        Nothing vouches for the list. Asks the referrers API, and looks under the fallback tag where there is none.

        Raises:
            RegistryError: No host could tell; or it lists more than `RegistryLimits` allows.
        """
        digest = check_digest(descriptor.digest)
        types = [artifact_types] if isinstance(artifact_types, str) else [*artifact_types]
        return await self._first(
            Capability.PULL | Capability.REFERRERS, lambda client: list_referrers(client, digest, types)
        )

    async def _first(self, needed: Capability, ask: Callable[[HostClient], Awaitable[T]]) -> T:
        """Ask host after host until one can tell."""
        errors: list[ContainerdError] = []
        for client in self._able(needed):
            try:
                return await ask(client)
            except ContainerdError as error:
                errors.append(error)
        raise most_telling(errors) from None

    # ── hosts ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _sources(self, descriptor: Descriptor, kinds: tuple[str, ...], exclude: Collection[str]) -> list[Source]:
        clients = [client for client in self._able(Capability.PULL) if client.name not in exclude]
        if not clients:
            raise RegistryNotFoundError(f"no host is left that may be asked for {descriptor.digest}")
        # URLs in a descriptor come first: content that has them is what registries may not hand out.
        foreign = [ForeignSource(clients[-1], url, descriptor.media_type) for url in descriptor.urls]
        own = [
            HostSource(client, kind, descriptor.digest, descriptor.media_type) for kind in kinds for client in clients
        ]
        return [*(source for source in foreign if source.name not in exclude), *own]

    def _able(self, needed: Capability) -> list[HostClient]:
        able = [client for client in self._clients if needed in client.host.capabilities]
        if not able:
            what = (needed.name or "").lower()
            raise RegistryNotFoundError(f"no host configured for {self.reference.domain} may be asked to {what}")
        return able


def _inline(descriptor: Descriptor) -> bytes | None:
    """Take the content a descriptor brought along, if it is what it claims to be; else it is fetched."""
    data = descriptor.data
    if data is None or len(data) != descriptor.size or len(data) > _INLINE_LIMIT:
        return None
    return data if _digest_like(data, descriptor.digest) == descriptor.digest else None


def _digest_like(data: bytes, digest: str) -> str:
    return digest_of(data, algorithm=algorithm_of(digest))


def _lending(data: bytes) -> OpenContent:
    @asynccontextmanager
    async def lend(offset: int, size: int) -> AsyncIterator[AsyncIterator[bytes]]:
        yield _Chunks(data[offset : offset + size])

    return lend


class _Chunks:
    """Bytes as an asynchronous iterator; not a generator, which would want to be closed."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data, self._data = self._data, b""
        if not data:
            raise StopAsyncIteration
        return data


def _to_nobody(_count: int) -> None:
    """Report to nobody."""
