"""Everything of an image that is here: for one that is not whole, since most are pulled for one platform of several.

Knows the Content service and image documents; changes nothing.
"""

from __future__ import annotations

from contextlib import suppress

import attrs

from containerd_py._flows.image_content import MAX_DEPTH, FoundManifest, read_config, read_index, read_manifest
from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.oci.image_spec import ImageConfig, chain_ids
from containerd_py.oci.media_types import is_config, is_index, is_manifest
from containerd_py.services.bundle import Services
from containerd_py.types import Descriptor


@attrs.define
class LocalContent:
    """What documents of an image are here, in its order, and everything that they name, here or not."""

    manifests: list[FoundManifest] = attrs.field(factory=list)
    blobs: dict[str, Descriptor] = attrs.field(factory=dict)


async def walk_image(services: Services, target: Descriptor) -> LocalContent:
    """Find everything that an image consists of, as far as its documents are here.

    Raises:
        InvalidArgumentError: A document is malformed, or indexes are nested too deep.
    """
    found = LocalContent()
    await _walk(services, target, (), found)
    return found


async def _walk(
    services: Services, descriptor: Descriptor, indexes: tuple[Descriptor, ...], found: LocalContent
) -> None:
    if descriptor.digest in found.blobs:
        return
    found.blobs[descriptor.digest] = descriptor
    if len(indexes) > MAX_DEPTH:
        raise InvalidArgumentError(f"indexes are nested more than {MAX_DEPTH} deep")
    with suppress(NotFoundError):
        if is_manifest(descriptor.media_type):
            manifest = await read_manifest(services, descriptor)
            found.manifests.append(FoundManifest(descriptor=descriptor, manifest=manifest, indexes=indexes))
            for blob in (manifest.config, *manifest.layers):
                found.blobs.setdefault(blob.digest, blob)
        elif is_index(descriptor.media_type):
            for child in (await read_index(services, descriptor)).manifests:
                await _walk(services, child, (*indexes, descriptor), found)


async def local_config(services: Services, found: FoundManifest) -> ImageConfig | None:
    """Return the configuration of a manifest; None where it is not here, or this is an artifact."""
    if not is_config(found.manifest.config.media_type):
        return None
    with suppress(NotFoundError):
        return await read_config(services, found.manifest.config)
    return None


def top_chain_id(config: ImageConfig) -> str:
    """Name the topmost snapshot of an image; empty for one without layers."""
    return ["", *chain_ids(config.diff_ids)][-1]
