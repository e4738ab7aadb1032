"""An image put together: a configuration and a manifest over layers that are there, with the labels that keep them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import attrs

from containerd_py._flows.authoring import Layer, write_document
from containerd_py._flows.content_labels import child_labels
from containerd_py._flows.image_content import ImageContent, read_blob
from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.config_changes import NO_CHANGES, ConfigChanges
from containerd_py.oci.image_documents import config_document, manifest_document
from containerd_py.oci.image_spec import MAX_CONFIG_SIZE, History, unpackable_layers
from containerd_py.oci.media_type_families import MediaTypes, family_of, in_family
from containerd_py.oci.media_types import MEDIA_TYPE_CONFIG, MEDIA_TYPE_MANIFEST
from containerd_py.services.bundle import Services
from containerd_py.types import Descriptor, Platform, Timestamp

EPOCH_VARIABLE: Final = "SOURCE_DATE_EPOCH"  # reproducible-builds.org
_EPOCH: Final = re.compile(r"[0-9]{1,11}", re.ASCII)


@attrs.frozen(kw_only=True)
class Base:
    """What a new image stands on: `config` is a configuration's bytes, None where it stands on nothing.

    Docker's media types stay Docker's, so that what is below needs no change.
    """

    platform: Platform
    config: bytes | None = None
    layers: tuple[Descriptor, ...] = ()
    family: MediaTypes = "oci"


async def base_of(services: Services, image: ImageContent, default: Platform) -> Base:
    """Return an image as the base of another one; `default` is the platform of one that does not say its own."""
    return Base(
        platform=image.config.platform or default,
        config=await read_blob(services, image.manifest.config, limit=MAX_CONFIG_SIZE),
        layers=tuple(layer for layer, _ in unpackable_layers(image.manifest, image.config)),
        family=family_of(image.manifest.config.media_type),
    )


async def write_image(
    leased: Services,
    base: Base,
    layers: Sequence[Layer],
    *,
    history: Sequence[History],
    changes: ConfigChanges = NO_CHANGES,
    created: Timestamp | None = None,
    author: str | None = None,
) -> Descriptor:
    """Store the documents of an image and return its manifest's descriptor; it has no name yet."""
    document = config_document(
        base.config,
        platform=base.platform,
        diff_ids=[layer.diff_id for layer in layers],
        history=history,
        changes=changes,
        created=created,
        author=author,
    )
    config = await write_document(leased, document, in_family(MEDIA_TYPE_CONFIG, base.family))
    stack = (*base.layers, *(layer.descriptor for layer in layers))
    media_type = in_family(MEDIA_TYPE_MANIFEST, base.family)
    manifest = manifest_document(media_type=media_type, config=config, layers=stack)
    return await write_document(leased, manifest, media_type, labels=child_labels((config, *stack)))


def chosen_epoch(source_date_epoch: datetime | int | None) -> Timestamp | None:
    """Return the time that a reproducible image is from: the given one, else the environment's, else None.

    A number is in seconds since 1970.

    Raises:
        InvalidArgumentError: It is no time.
    """
    if isinstance(source_date_epoch, datetime):
        if source_date_epoch.tzinfo is None:
            raise InvalidArgumentError(f"source_date_epoch={source_date_epoch}: say in which time zone")
        return Timestamp.from_parts(Timestamp.from_datetime(source_date_epoch).parts[0])
    text = os.environ.get(EPOCH_VARIABLE, "") if source_date_epoch is None else str(source_date_epoch)
    if not text:
        return None
    if not _EPOCH.fullmatch(text):
        raise InvalidArgumentError(f"{EPOCH_VARIABLE} is {text[:64]!a}: expected seconds since 1970")
    return Timestamp.from_parts(int(text))
