"""What one host says a tag or digest stands for. Knows the manifest endpoints' answers.

Source: containerd, core/remotes/docker (Resolve), which the order of questions and the limits are taken from.
"""

from __future__ import annotations

import re
from typing import Final

import attrs
from anyio import to_thread

from containerd_py.errors import (
    DigestMismatchError,
    ManifestNotSupportedError,
    ManifestTooLargeError,
    RegistryError,
)
from containerd_py.oci import media_types
from containerd_py.oci.digests import algorithm_of, digest_of, is_digest
from containerd_py.references import Reference
from containerd_py.remotes.exchange import Attempts, again_if_dropped
from containerd_py.remotes.host_client import HostClient
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.remotes.responses import Response
from containerd_py.types import Descriptor

_WANTED: Final = (
    media_types.MEDIA_TYPE_DOCKER_MANIFEST,
    media_types.MEDIA_TYPE_DOCKER_MANIFEST_LIST,
    media_types.MEDIA_TYPE_MANIFEST,
    media_types.MEDIA_TYPE_INDEX,
    "*/*",
)
ACCEPT: Final = ", ".join(_WANTED)

_MEDIA_TYPE_RE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}", re.ASCII)
_OK: Final = 200
_HEAD_UNKNOWN: Final = frozenset({405, 501})  # a registry that has no HEAD for manifests
_WITHOUT_WORDS: Final = 403  # refused: a GET tells why, where a HEAD has no body


@attrs.frozen(kw_only=True)
class Resolved:
    """What a tag or digest stands for, and its content where that had to be fetched to tell."""

    descriptor: Descriptor
    content: bytes = attrs.field(default=b"", repr=False)


async def resolve_at(
    client: HostClient, kind: str, reference: Reference, limits: RegistryLimits, *, last_host: bool
) -> Resolved:
    """Ask a host with HEAD, and with GET where HEAD does not tell enough.

    Raises:
        RegistryError: The host does not have it, refuses, or says something that cannot be.
        DigestMismatchError: It has something else under the reference's digest.
    """
    url, attempts = client.url(kind, reference.object), Attempts(limits, last_host=last_host)
    with await client.send("HEAD", url, {"Accept": ACCEPT}, attempts) as response:
        if response.status == _OK:
            resolved = _read_head(response, reference, limits)
            if resolved is not None:
                return Resolved(descriptor=resolved)
        elif response.status not in _HEAD_UNKNOWN and response.status != _WITHOUT_WORDS:
            raise await client.refusal(response)
    attempts = Attempts(limits, last_host=last_host)
    return await again_if_dropped(attempts, lambda: _resolve_by_get(client, url, reference, attempts))


async def _resolve_by_get(client: HostClient, url: str, reference: Reference, attempts: Attempts) -> Resolved:
    limits = attempts.limits
    with await client.send("GET", url, {"Accept": ACCEPT}, attempts) as response:
        if response.status != _OK:
            raise await client.refusal(response)
        if (response.header("Content-Encoding") or "identity").lower() != "identity":
            raise RegistryError(f"{client.name} sends an encoded manifest though none was asked for", host=client.name)
        media_type = _media_type(response)
        content = await response.read(limits.max_manifest_size)
    if len(content) > limits.max_manifest_size:
        raise _too_large(client.name, reference, response.content_length or len(content), limits)
    if not content:
        raise RegistryError(f"{client.name} sends an empty manifest of {reference}", host=client.name)
    claimed = reference.digest or response.header("Docker-Content-Digest") or ""
    algorithm = algorithm_of(claimed) if is_digest(claimed) else "sha256"
    actual = await to_thread.run_sync(lambda: digest_of(content, algorithm=algorithm))
    if claimed and is_digest(claimed) and claimed != actual:
        raise DigestMismatchError(expected=claimed, actual=actual, source=client.name)
    return Resolved(descriptor=Descriptor(media_type=media_type, digest=actual, size=len(content)), content=content)


def _read_head(response: Response, reference: Reference, limits: RegistryLimits) -> Descriptor | None:
    """Make the descriptor out of a HEAD's answer; None where it lacks digest, size or type."""
    size, claimed = response.content_length, response.header("Docker-Content-Digest") or ""
    if claimed and not is_digest(claimed):
        raise RegistryError(f"{response.host} sends {claimed[:128]!r} as digest of {reference}", host=response.host)
    digest = reference.digest or claimed
    if claimed and claimed != digest and algorithm_of(claimed) == algorithm_of(digest):
        raise DigestMismatchError(expected=digest, actual=claimed, source=response.host)
    if size is not None and size > limits.max_manifest_size:
        raise _too_large(response.host, reference, size, limits)
    if not digest or not size or response.header("Content-Type") is None:
        return None
    return Descriptor(media_type=_media_type(response), digest=digest, size=size)


def _media_type(response: Response) -> str:
    """Read the type a manifest is sent as.

    Raises:
        ManifestNotSupportedError: It is Docker's schema 1, which some registries send as plain text.
    """
    media_type = (response.header("Content-Type") or "").partition(";")[0].strip().lower()
    if media_types.is_schema1(media_type) or media_type == "text/plain":
        raise ManifestNotSupportedError(
            f"{response.host} sends a Docker schema 1 manifest, which containerd gave up: rebuild or re-push the image",
            host=response.host,
        )
    if not _MEDIA_TYPE_RE.fullmatch(media_type):
        words = f"{response.host} sends a manifest of no media type ({media_type[:64]!r})"
        raise RegistryError(words, host=response.host)
    return media_type


def _too_large(host: str, reference: Reference, size: int, limits: RegistryLimits) -> ManifestTooLargeError:
    limit = limits.max_manifest_size
    return ManifestTooLargeError(
        f"{host} has {size} bytes as manifest of {reference}, more than {limit}", size=size, limit=limit, host=host
    )
