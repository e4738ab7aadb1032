"""What refers to a manifest: signatures, attestations, lists of parts. By the referrers API, else by the fallback tag.

Source: OCI distribution specification 1.1, "Listing Referrers", "Referrers Tag Schema".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import attrs
from anyio import to_thread

from containerd_py.errors import InvalidArgumentError, RegistryError, RegistryNotFoundError
from containerd_py.oci.digests import digest_of
from containerd_py.oci.image_documents import descriptor_document, dump_document
from containerd_py.oci.image_spec import Index, Manifest, parse_index
from containerd_py.oci.media_types import MEDIA_TYPE_INDEX
from containerd_py.remotes.exchange import Attempts, again_if_dropped
from containerd_py.remotes.host_client import HostClient
from containerd_py.remotes.listing import Pages
from containerd_py.remotes.manifest_uploads import put_manifest
from containerd_py.types import Descriptor

_OK: Final = 200
_NO_API: Final = frozenset({404, 405, 501})


def fallback_tag(digest: str) -> str:
    """Return the tag under which a registry without the API keeps what refers to a manifest."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:32]}-{encoded[:64]}"


async def list_referrers(client: HostClient, digest: str, artifact_types: Collection[str]) -> list[Descriptor]:
    """List what refers to a manifest, of these artifact types or of all.

    Raises:
        RegistryError: The host refused or failed, or what it sends is no list of referrers.
    """
    try:
        found: Sequence[Descriptor] = await _ask_api(client, digest, artifact_types)
    except RegistryError as error:
        if error.status not in _NO_API:
            raise
        found = await _read_fallback(client, digest)
    wanted = [one for one in found if not artifact_types or one.artifact_type in artifact_types]
    return list({one.digest: one for one in wanted}.values())


async def _ask_api(client: HostClient, digest: str, artifact_types: Collection[str]) -> list[Descriptor]:
    # Hosts filter by one type only, if at all.
    query = {"artifactType": next(iter(artifact_types))} if len(artifact_types) == 1 else {}
    url = client.url("referrers", digest, query)
    pages = Pages(client, url, what=f"the list of what refers to {digest}", accept=MEDIA_TYPE_INDEX)
    found: list[Descriptor] = []
    while (page := await pages.next()) is not None:
        manifests = await _manifests_of(client, page)
        pages.count(len(manifests))
        found += manifests
    return found


async def _read_fallback(client: HostClient, digest: str) -> Sequence[Descriptor]:
    """Read what the index under the fallback tag lists, if there is one."""
    url = client.url("manifests", fallback_tag(digest))
    attempts = Attempts(client.session.limits)

    async def ask() -> bytes:
        with await client.send("GET", url, {"Accept": MEDIA_TYPE_INDEX}, attempts) as response:
            if response.status != _OK:
                raise await client.refusal(response)
            return await response.read(client.session.limits.max_manifest_size)

    try:
        data = await again_if_dropped(attempts, ask)
    except RegistryNotFoundError:
        return ()
    return await _manifests_of(client, data)


async def _manifests_of(client: HostClient, data: bytes) -> Sequence[Descriptor]:
    try:
        return (await to_thread.run_sync(parse_index, data)).manifests
    except InvalidArgumentError as error:
        raise RegistryError(f"{client.name} sends no list of referrers: {error}", host=client.name) from None


async def add_to_fallback(client: HostClient, descriptor: Descriptor, document: Manifest | Index) -> None:
    """List a manifest or index that was put among the referrers of its subject, at a host without the referrers API.

    Two clients that do so at the same moment may overwrite each other's entries: the specification knows no lock.

    Raises:
        RegistryError: The host refused or failed.
    """
    if document.subject is None:
        return
    digest = document.subject.digest
    listed = await _read_fallback(client, digest)
    if any(one.digest == descriptor.digest for one in listed):
        return
    entry = attrs.evolve(
        descriptor,
        platform=None,
        data=None,
        artifact_type=document.artifact_type
        or (document.config.media_type if isinstance(document, Manifest) else None),
        annotations=document.annotations,
    )
    index = {
        "schemaVersion": 2,
        "mediaType": MEDIA_TYPE_INDEX,
        "manifests": [descriptor_document(one) for one in (*listed, entry)],
    }
    data = dump_document(index)
    described = Descriptor(media_type=MEDIA_TYPE_INDEX, digest=digest_of(data), size=len(data))
    await put_manifest(client, described, data, fallback_tag(digest))
