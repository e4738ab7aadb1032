"""Whether an image is whole, whether its content is sound, and where it is unpacked. Changes nothing."""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from typing import Final

import attrs
from anyio import to_thread

from containerd_py import platforms
from containerd_py._flows.authoring import read_layer
from containerd_py._flows.image_content import find_manifest
from containerd_py._flows.image_walk import local_config, top_chain_id, walk_image
from containerd_py._flows.unpack import is_unpacked
from containerd_py.errors import ContainerdError, DigestMismatchError, NotFoundError
from containerd_py.oci.digests import algorithm_of
from containerd_py.oci.media_types import is_index
from containerd_py.services.bundle import Services
from containerd_py.types import Descriptor, Platform

_SNAPSHOTTERS: Final = "io.containerd.snapshotter.v1"


@attrs.frozen(kw_only=True)
class ImageCheck:
    """What was found out about an image on one platform.

    `present` and `missing` are what it consists of, as far as its documents are here to tell: while a manifest is
    missing, what it names is in neither. `damaged` content is not what its digest says; only `check(verify=True)` looks
    for it. `unpacked_in` names the snapshotters that have all its layers.
    """

    name: str
    platform: Platform
    present: tuple[Descriptor, ...]
    missing: tuple[Descriptor, ...]
    damaged: tuple[Descriptor, ...] = ()
    unpacked_in: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether all content is here and none was found damaged."""
        return not (self.missing or self.damaged)


async def check_image(
    services: Services, name: str, target: Descriptor, platform: Platform, *, verify: bool
) -> ImageCheck:
    """Look for everything that an image is on a platform; `verify` reads it all and compares digests."""
    blobs, chain_id = await _content(services, target, platform)
    present, missing, damaged = [], [], []
    for blob in blobs:
        try:
            await services.content.info(blob.digest)
        except NotFoundError:
            missing.append(blob)
            continue
        present.append(blob)
        if verify and not await _is_sound(services, blob):
            damaged.append(blob)
    return ImageCheck(
        name=name,
        platform=platform,
        present=tuple(present),
        missing=tuple(missing),
        damaged=tuple(damaged),
        unpacked_in=tuple(await _snapshotters_with(services, chain_id)) if chain_id is not None else (),
    )


async def _content(services: Services, target: Descriptor, platform: Platform) -> tuple[list[Descriptor], str | None]:
    """Return what the image consists of, as far as that is known, and its topmost snapshot, if that is."""
    try:
        found = await find_manifest(services, target, platform)
    except DigestMismatchError as error:
        damaged = next(blob for blob in await _documents(services, target, platform) if blob.digest == error.expected)
        return [damaged], None
    except NotFoundError:
        return await _documents(services, target, platform), None
    config = await local_config(services, found)
    blobs = (*found.indexes, found.descriptor, found.manifest.config, *found.manifest.layers)
    return [*{blob.digest: blob for blob in blobs}.values()], None if config is None else top_chain_id(config)


async def _documents(services: Services, target: Descriptor, platform: Platform) -> list[Descriptor]:
    """Return the indexes and the manifest for the platform, those that are not here too."""
    matcher = platforms.only(platform)
    walked = (await walk_image(services, target)).blobs.values()
    return [blob for blob in walked if blob is target or is_index(blob.media_type) or matcher.matches(blob.platform)]


async def _is_sound(services: Services, blob: Descriptor) -> bool:
    digest = hashlib.new(algorithm_of(blob.digest))
    size = 0
    async with aclosing(read_layer(services, blob)) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            await to_thread.run_sync(digest.update, chunk)
    return size == blob.size and f"{digest.name}:{digest.hexdigest()}" == blob.digest


async def _snapshotters_with(services: Services, chain_id: str) -> list[str]:
    having = []
    for plugin in await services.introspection.plugins([f"type=={_SNAPSHOTTERS}"]):
        if plugin.is_working:
            try:
                is_there = await is_unpacked(services, chain_id, plugin.id)
            except ContainerdError:  # a proxied snapshotter whose program is not running has nothing
                continue
            if is_there:
                having.append(plugin.id)
    return sorted(having)
