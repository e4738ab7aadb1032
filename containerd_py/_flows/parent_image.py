"""Which image a container's snapshot stands on: the very one, even when its name means another one by now."""

from __future__ import annotations

from contextlib import suppress

from containerd_py._flows.content_labels import snapshot_ref_label
from containerd_py._flows.image_content import FoundManifest, ImageContent, read_blob
from containerd_py._flows.image_walk import local_config, top_chain_id, walk_image
from containerd_py.errors import FailedPreconditionError, NotFoundError
from containerd_py.labels import GC_REF_CONTENT
from containerd_py.oci.image_spec import MAX_MANIFEST_SIZE, parse_manifest
from containerd_py.oci.media_types import MEDIA_TYPE_MANIFEST
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord
from containerd_py.types import Descriptor


async def find_parent(services: Services, record: ContainerRecord, chain_id: str) -> ImageContent | None:
    """Return the image whose topmost snapshot the container's stands on; None if it stands on nothing.

    The image that the container's record names is looked at first; if it is another one by now, any whose content is
    still here, name or not.

    Raises:
        FailedPreconditionError: The image's documents are gone, or several images have just these layers.
    """
    suiting = await _named(services, record.image, chain_id)
    if not suiting and chain_id:
        suiting = await _unnamed(services, record.snapshotter, chain_id)
    if not suiting:
        if not chain_id:
            return None
        raise FailedPreconditionError(
            f"the image that container {record.id} was created from is no longer here: pull it again, then commit"
        )
    if len({image.manifest.config.digest for image in suiting}) > 1:
        raise FailedPreconditionError(
            f"container {record.id} may have been created from any of several images with the same layers, and "
            f"{record.image or 'its record'} is none of them: give that name back to the right one, then commit"
        )
    return suiting[0]


async def _named(services: Services, name: str, chain_id: str) -> list[ImageContent]:
    """Return what the named image has with that topmost snapshot, its own choice first."""
    if not name:
        return []
    try:
        target = (await services.images.get(name)).target
    except NotFoundError:
        return []
    suiting = await _suiting(services, (await walk_image(services, target)).manifests, chain_id)
    return suiting[:1]


async def _unnamed(services: Services, snapshotter: str, chain_id: str) -> list[ImageContent]:
    """Look for images by the labels that keep their content: a configuration's snapshot, a manifest's configuration."""
    label = snapshot_ref_label(snapshotter)
    configs = await services.content.list([f'labels."{label}"=="{chain_id}"'])
    filters = [f'labels."{GC_REF_CONTENT}.config"=="{config.digest}"' for config in configs]
    manifests: list[FoundManifest] = []
    for info in await services.content.list(filters) if filters else ():
        found = Descriptor(media_type=MEDIA_TYPE_MANIFEST, digest=info.digest, size=info.size)
        with suppress(NotFoundError):
            manifest = parse_manifest(await read_blob(services, found, limit=MAX_MANIFEST_SIZE))
            manifests.append(FoundManifest(descriptor=found, manifest=manifest))
    return await _suiting(services, sorted(manifests, key=lambda found: found.descriptor.digest), chain_id)


async def _suiting(services: Services, manifests: list[FoundManifest], chain_id: str) -> list[ImageContent]:
    suiting = []
    for found in manifests:
        config = await local_config(services, found)
        if config is not None and top_chain_id(config) == chain_id:
            suiting.append(ImageContent(found=found, config=config))
    return suiting
