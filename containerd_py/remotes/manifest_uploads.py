"""Manifests and indexes of one host: put there, looked for, deleted. Knows the distribution specification."""

from __future__ import annotations

import re
from typing import Final

import attrs

from containerd_py.errors import (
    DigestMismatchError,
    InvalidArgumentError,
    RegistryAuthenticationError,
    RegistryPermissionError,
)
from containerd_py.oci.digests import algorithm_of, is_digest
from containerd_py.remotes.exchange import Attempts
from containerd_py.remotes.host_client import HostClient
from containerd_py.remotes.responses import Response
from containerd_py.types import Descriptor

_MEDIA_TYPE_RE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}", re.ASCII)
_OK: Final = 200
_NOT_TOLD: Final = frozenset({401, 403, 404, 405, 501})  # a PUT says more
_STORED: Final = frozenset({200, 201, 202, 204})
_DELETED: Final = frozenset({200, 202, 204})


@attrs.frozen(kw_only=True)
class ManifestOutcome:
    """What became of a manifest that was put: was it there already, and does the registry know whom it refers to."""

    was_there: bool
    is_referrer_known: bool = False


async def put_manifest(client: HostClient, descriptor: Descriptor, data: bytes, tag: str | None) -> ManifestOutcome:
    """Put a manifest or index under its digest, or under a tag, unless the very same is there.

    Raises:
        InvalidArgumentError: Its media type is none.
        DigestMismatchError: The host says that it stored something else.
        RegistryError: The host refused or failed.
    """
    if not _MEDIA_TYPE_RE.fullmatch(descriptor.media_type):
        raise InvalidArgumentError(f"{descriptor.media_type[:160]!a} is not the media type of a manifest")
    if await has_manifest(client, descriptor, tag):
        return ManifestOutcome(was_there=True)
    url = client.url("manifests", tag or descriptor.digest)
    headers = {"Content-Type": descriptor.media_type}
    attempts = Attempts(client.session.limits)
    with await client.send("PUT", url, headers, attempts, scopes=client.push_scopes, content=data) as response:
        if response.status not in _STORED:
            raise await client.refusal(response)
        _check_digest(response, descriptor, client.name)
        return ManifestOutcome(was_there=False, is_referrer_known=response.header("OCI-Subject") is not None)


async def has_manifest(client: HostClient, descriptor: Descriptor, tag: str | None = None) -> bool:
    """Tell whether a host has a manifest, and under a tag if one is given.

    Raises:
        RegistryError: The host failed. A refusal to tell is no failure.
    """
    url = client.url("manifests", tag or descriptor.digest)
    headers = {"Accept": f"{descriptor.media_type}, */*" if _MEDIA_TYPE_RE.fullmatch(descriptor.media_type) else "*/*"}
    attempts = Attempts(client.session.limits)
    try:
        response = await client.send("HEAD", url, headers, attempts, scopes=client.push_scopes)
    except (RegistryAuthenticationError, RegistryPermissionError):
        return False
    with response:
        if response.status == _OK:
            found = response.header("Docker-Content-Digest")
            return found == descriptor.digest or (found is None and tag is None)
        if response.status in _NOT_TOLD:
            return False
        raise await client.refusal(response)


async def delete_manifest(client: HostClient, reference: str) -> None:
    """Delete a manifest by its digest, or a tag.

    Raises:
        RegistryNotFoundError: The host does not have it.
        RegistryError: The host refused, or deletes nothing.
    """
    url = client.url("manifests", reference)
    attempts = Attempts(client.session.limits)
    with await client.send("DELETE", url, {}, attempts, scopes=client.delete_scopes) as response:
        if response.status not in _DELETED:
            raise await client.refusal(response)


def _check_digest(response: Response, descriptor: Descriptor, host: str) -> None:
    stored, wanted = response.header("Docker-Content-Digest") or "", descriptor.digest
    if stored != wanted and is_digest(stored) and algorithm_of(stored) == algorithm_of(wanted):
        raise DigestMismatchError(expected=wanted, actual=stored, source=f"a manifest put to {host}")
