"""Reading an image out of the content store: documents verified by digest, and the manifest that a platform means.

Knows the Content service and image documents; fetches from no registry and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from containerd_py import platforms
from containerd_py.errors import DigestMismatchError, InvalidArgumentError, NotFoundError
from containerd_py.oci.digests import algorithm_of, digest_of
from containerd_py.oci.image_spec import (
    MAX_CONFIG_SIZE,
    MAX_MANIFEST_SIZE,
    ImageConfig,
    Index,
    Manifest,
    is_config,
    is_index,
    is_manifest,
    parse_config,
    parse_index,
    parse_manifest,
)
from containerd_py.platforms import Matcher
from containerd_py.services.bundle import Services
from containerd_py.types import Descriptor, Platform

MAX_DEPTH: Final = 32  # indexes inside indexes; honest images have one or two
_UNKNOWN: Final = "unknown"  # what build tools say is the platform of an attestation


@attrs.frozen(kw_only=True)
class FoundManifest:
    """A manifest and the indexes it was found through, outermost first."""

    descriptor: Descriptor
    manifest: Manifest
    indexes: tuple[Descriptor, ...] = ()


@attrs.frozen(kw_only=True)
class ImageContent:
    """What makes an image for one platform."""

    found: FoundManifest
    config: ImageConfig

    @property
    def manifest(self) -> Manifest:
        """The manifest."""
        return self.found.manifest

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Everything the image consists of, outermost index first, layers last."""
        found = self.found
        return (*found.indexes, found.descriptor, found.manifest.config, *found.manifest.layers)


async def read_blob(services: Services, descriptor: Descriptor, *, limit: int) -> bytes:
    """Return a blob's bytes once their digest is checked; `limit` bounds them.

    Raises:
        NotFoundError: This namespace has no such blob.
        InvalidArgumentError: It is larger than `limit` bytes.
        DigestMismatchError: The content store holds something else under that digest.
    """
    size = descriptor.size
    if size <= 0:  # some clients record targets without their size
        size = (await services.content.info(descriptor.digest)).size
    if size > limit:
        raise InvalidArgumentError(f"{descriptor.digest} has {size} bytes: more than the {limit} a document may have")
    data = await services.content.read(descriptor.digest, size=size)
    actual = digest_of(data, algorithm=algorithm_of(descriptor.digest))
    if actual != descriptor.digest:
        raise DigestMismatchError(expected=descriptor.digest, actual=actual, source="the daemon's content store")
    return data


async def read_index(services: Services, descriptor: Descriptor) -> Index:
    """Return an index, verified."""
    return parse_index(await read_blob(services, descriptor, limit=MAX_MANIFEST_SIZE))


async def read_manifest(services: Services, descriptor: Descriptor) -> Manifest:
    """Return a manifest, verified."""
    return parse_manifest(await read_blob(services, descriptor, limit=MAX_MANIFEST_SIZE))


async def read_config(services: Services, descriptor: Descriptor) -> ImageConfig:
    """Return an image configuration, verified.

    Raises:
        InvalidArgumentError: The image has something else for its configuration: it is an artifact, not to be run.
    """
    if not is_config(descriptor.media_type):
        raise InvalidArgumentError(f"{descriptor.media_type} is no image configuration: this is an artifact")
    return parse_config(await read_blob(services, descriptor, limit=MAX_CONFIG_SIZE))


async def read_image(services: Services, target: Descriptor, platform: Platform) -> ImageContent:
    """Return what an image is for one platform.

    Raises:
        NotFoundError: It has nothing for that platform, and the message says what it has; or content is missing here.
    """
    found = await find_manifest(services, target, platform)
    return ImageContent(found=found, config=await read_config(services, found.manifest.config))


async def find_manifest(services: Services, target: Descriptor, platform: Platform) -> FoundManifest:
    """Return the manifest that suits a platform best, as containerd chooses it.

    An image that is one manifest is taken whatever its platform; in an index, a manifest that does not say its platform
    counts as what its configuration says.

    Raises:
        NotFoundError: There is none, and the message says what there is; or content is missing here.
    """
    found = await _Walk(services).find(target, platforms.only(platform), ())
    if found is None:
        raise no_such_platform(target.digest, platform, await list_platforms(services, target))
    return found


async def list_platforms(services: Services, target: Descriptor) -> list[Platform]:
    """Return the platforms an image names, in its order; attestations and content not here are left out."""
    return await _Walk(services).platforms(target, 0)


async def list_content(services: Services, target: Descriptor) -> list[Descriptor]:
    """Return all that an image consists of, for all its platforms; only what documents say, which must be here.

    Raises:
        NotFoundError: A document is missing here.
    """
    return await _Walk(services).content(target, 0)


def no_such_platform(name: str, platform: Platform, present: Iterable[Platform]) -> NotFoundError:
    """Make the error for an image without anything for a platform."""
    shown = ", ".join(dict.fromkeys(map(platforms.format, present))) or "none that it names"
    return NotFoundError(f"{name} has nothing for platform {platforms.format(platform)}: it has {shown}")


def choose(children: Sequence[Descriptor], matcher: Matcher) -> list[Descriptor]:
    """Return the children of an index that suit, best first; those that do not say their platform come last."""
    ranked = [(matcher.rank(child.platform), child) for child in children if child.platform is not None]
    suiting = sorted(((rank, child) for rank, child in ranked if rank is not None), key=lambda pair: pair[0])
    return [*(child for _, child in suiting), *(child for child in children if child.platform is None)]


def is_attestation_platform(platform: Platform) -> bool:
    """Tell whether this is what build tools write where there is no platform."""
    return _UNKNOWN in {platform.os, platform.architecture}


def _is_document(descriptor: Descriptor) -> bool:
    return is_index(descriptor.media_type) or is_manifest(descriptor.media_type)


class _Walk:
    """One walk through an image's documents, each looked at once: they may be hostile."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._seen: set[str] = set()
        self._unsuited: set[str] = set()  # manifests whose configurations are for other platforms

    async def find(
        self, descriptor: Descriptor, matcher: Matcher, indexes: tuple[Descriptor, ...]
    ) -> FoundManifest | None:
        if is_manifest(descriptor.media_type):
            manifest = await read_manifest(self._services, descriptor)
            if indexes and descriptor.platform is None and not await self._config_suits(manifest, matcher):
                self._unsuited.add(descriptor.digest)
                return None
            return FoundManifest(descriptor=descriptor, manifest=manifest, indexes=indexes)
        for candidate in choose((await self._open(descriptor, len(indexes))).manifests, matcher):
            is_known = candidate.platform is None and candidate.digest in self._unsuited
            if is_known or candidate.digest in self._seen or not _is_document(candidate):
                continue
            try:
                found = await self.find(candidate, matcher, (*indexes, descriptor))
            except NotFoundError:
                if candidate.platform is not None:
                    raise  # it is the right one, and not here
                continue
            if found is not None:
                return found
        return None

    async def platforms(self, descriptor: Descriptor, depth: int) -> list[Platform]:
        named = descriptor.platform
        if named is not None:
            return [] if is_attestation_platform(named) else [named]
        if descriptor.digest in self._seen:
            return []
        try:
            if is_manifest(descriptor.media_type):
                self._seen.add(descriptor.digest)
                return await self._config_platform(await read_manifest(self._services, descriptor))
            children = (await self._open(descriptor, depth)).manifests
        except NotFoundError:
            return []
        return [platform for child in children for platform in await self.platforms(child, depth + 1)]

    async def content(self, descriptor: Descriptor, depth: int) -> list[Descriptor]:
        if descriptor.digest in self._seen:
            return []
        if is_manifest(descriptor.media_type):
            self._seen.add(descriptor.digest)
            manifest = await read_manifest(self._services, descriptor)
            return [descriptor, manifest.config, *manifest.layers]
        if depth and not is_index(descriptor.media_type):
            return [descriptor]
        children = (await self._open(descriptor, depth)).manifests
        return [descriptor, *[blob for child in children for blob in await self.content(child, depth + 1)]]

    async def _open(self, descriptor: Descriptor, depth: int) -> Index:
        self._seen.add(descriptor.digest)
        if not is_index(descriptor.media_type):
            raise NotFoundError(f"{descriptor.digest} is a {descriptor.media_type}, no image")
        if depth >= MAX_DEPTH:
            raise InvalidArgumentError(f"indexes are nested more than {MAX_DEPTH} deep")
        return await read_index(self._services, descriptor)

    async def _config_platform(self, manifest: Manifest) -> list[Platform]:
        if not is_config(manifest.config.media_type):
            return []
        config = await read_config(self._services, manifest.config)
        return [] if config.platform is None else [config.platform]

    async def _config_suits(self, manifest: Manifest, matcher: Matcher) -> bool:
        return any(matcher.rank(platform) is not None for platform in await self._config_platform(manifest))
