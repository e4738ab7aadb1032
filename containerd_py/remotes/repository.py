"""One repository of a registry: what a tag means, manifests, blobs. Knows the distribution specification.

Source: OCI distribution specification 1.1, "Pull"; containerd's resolver and fetcher.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final

from anyio import to_thread

from containerd_py.errors import (
    ContainerdError,
    DigestMismatchError,
    InvalidArgumentError,
    ManifestTooLargeError,
    RegistryNotFoundError,
)
from containerd_py.oci.digests import algorithm_of, check_digest, digest_of
from containerd_py.oci.media_types import is_index, is_manifest
from containerd_py.references import Reference
from containerd_py.remotes.answers import most_telling
from containerd_py.remotes.blobs import Blob
from containerd_py.remotes.host_client import HostClient
from containerd_py.remotes.host_config import Capability
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.remotes.resolution import resolve_at
from containerd_py.remotes.sources import ForeignSource, HostSource, Source
from containerd_py.types import Descriptor

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
        self, descriptor: Descriptor, *, offset: int = 0, exclude: Collection[str] = ()
    ) -> AsyncIterator[Blob]:
        """Open content for reading from `offset` (bytes) to its end; digests are the reader's to check.

        The body's chunks come as the network gives them, on a fast one 256 KiB and more. Reading raises what
        `Blob.__anext__` names. `exclude` leaves hosts out that sent something wrong before (`Blob.host`).

        Raises:
            RegistryNotFoundError: No host may be asked.
            InvalidArgumentError: The digest is malformed, or the offset outside the content.
        """
        check_digest(descriptor.digest)
        if not 0 <= offset <= descriptor.size:
            raise InvalidArgumentError(f"offset {offset} is outside the {descriptor.size} bytes of {descriptor.digest}")
        kind = "manifests" if is_manifest(descriptor.media_type) or is_index(descriptor.media_type) else "blobs"
        blob = Blob(
            self._sources(descriptor, (kind,), exclude),
            size=descriptor.size,
            offset=offset,
            limits=self._limits,
            inline=await to_thread.run_sync(_inline, descriptor) if descriptor.data is not None else None,
        )
        try:
            yield blob
        finally:
            blob.close()

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
