"""All there is to tell of an image on one platform, in one value. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from containerd_py._flows.image_content import ImageContent, read_image
from containerd_py.oci.image_spec import History, ImageConfig, unpackable_layers
from containerd_py.oci.media_types import is_layer
from containerd_py.services.bundle import Services
from containerd_py.types import NO_LABELS, Descriptor, Platform, Timestamp, frozen_map


@attrs.frozen(kw_only=True)
class HistoryEntry:
    """One step in an image's making, in its maker's words, and the layer it made, if it made one."""

    history: History
    layer: Descriptor | None = None
    diff_id: str = ""


@attrs.frozen(kw_only=True)
class ImageDetails:
    """An image on one platform.

    `names` are all names in this namespace that stand for the same target, `target` what they stand for, `manifest`
    the one for the platform, whose digest is the image's own on it. `created` is when it was made and `size` the bytes
    to transfer, as the image says. `labels` are those of the record it was looked up by.
    """

    names: tuple[str, ...]
    target: Descriptor
    manifest: Descriptor
    platform: Platform
    created: Timestamp | None
    size: int
    config: ImageConfig
    layers: tuple[Descriptor, ...]
    history: tuple[HistoryEntry, ...]
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)


async def describe_image(services: Services, name: str, platform: Platform) -> ImageDetails:
    """Return what there is to tell of the image that has the name now.

    Raises:
        NotFoundError: There is no such image, or its documents for the platform are not here.
    """
    record = await services.images.get(name)
    content = await read_image(services, record.target, platform)
    same = await services.images.list([f"target.digest=={record.target.digest}"])
    return ImageDetails(
        names=tuple(sorted({name, *(other.name for other in same)})),
        target=record.target,
        manifest=content.found.descriptor,
        platform=content.config.platform or platform,
        created=content.config.created,
        size=sum(blob.size for blob in content.blobs),
        config=content.config,
        layers=tuple(layer for layer, _ in unpackable_layers(content.manifest, content.config)),
        history=tuple(history_of(content)),
        labels=record.labels,
    )


def history_of(content: ImageContent) -> list[HistoryEntry]:
    """Return how an image was made, oldest step first, each with its layer where it made one."""
    layers = iter([layer for layer in content.manifest.layers if is_layer(layer.media_type)])
    diff_ids = iter(content.config.diff_ids)
    return [
        HistoryEntry(history=step)
        if step.empty_layer
        else HistoryEntry(history=step, layer=next(layers, None), diff_id=next(diff_ids, ""))
        for step in content.config.history
    ]
