"""An image under other media types, another compression, or with fewer platforms: new documents, perhaps new layers.

What nothing has to change about keeps its digest. Source: containerd, core/images/converter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import anyio
import attrs

from containerd_py import platforms as matching
from containerd_py._flows.authoring import Layer, decompressed, read_layer, write_document, write_layer
from containerd_py._flows.content_labels import child_labels
from containerd_py._flows.image_content import (
    MAX_DEPTH,
    is_attestation_platform,
    list_platforms,
    no_such_platform,
    read_blob,
    read_config,
)
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.load_image import load_image
from containerd_py._flows.publishing import new_name, publish
from containerd_py._flows.together import working_together
from containerd_py._flows.undoing import undoing
from containerd_py.archives.compression import detect
from containerd_py.errors import DigestMismatchError, InvalidArgumentError, NotFoundError
from containerd_py.image import Image
from containerd_py.oci.image_documents import descriptor_document, load_document
from containerd_py.oci.image_spec import (
    MAX_MANIFEST_SIZE,
    MAX_REFERENCES,
    parse_index,
    parse_manifest,
    unpackable_layers,
)
from containerd_py.oci.media_type_families import (
    Compression,
    MediaTypes,
    check_compression,
    check_family,
    family_of,
    in_family,
    layer_type,
)
from containerd_py.oci.media_types import (
    MEDIA_TYPE_DOCKER_LAYER,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_MANIFEST,
    is_config,
    is_encrypted,
    is_index,
    is_layer,
    is_manifest,
    is_nondistributable,
    layer_compression,
)
from containerd_py.platforms import Matcher
from containerd_py.services.bundle import Services
from containerd_py.services.images import ImageRecord
from containerd_py.types import Descriptor, Platform

_LAYERS_AT_ONCE: Final = 2  # each takes a processor


@attrs.frozen(kw_only=True)
class Conversion:
    """What is asked for: None keeps things as they are."""

    matcher: Matcher
    family: MediaTypes | None
    compression: Compression | None

    def __attrs_post_init__(self) -> None:
        if self.family is not None and self.compression is not None:
            layer_type(self.compression, self.family)


async def convert_image(
    services: Services,
    src: str,
    dst: str,
    *,
    platforms: Sequence[Platform | str] | Platform | str | None = None,
    media_types: MediaTypes | None = None,
    compression: Compression | None = None,
) -> Image:
    """Make a converted copy of an image; see `Client.convert_image`."""
    name = new_name(dst)
    conversion = Conversion(
        matcher=_matcher(platforms),
        family=None if media_types is None else check_family(media_types),
        compression=None if compression is None else check_compression(compression),
    )
    async with undoing(services.connection) as undo:
        async with hold_lease(services) as leased:
            image = await load_image(leased, src)
            converter = _Converter(leased, conversion)
            target = await converter.convert(image.target, 0)
            if target is None or not converter.kept:
                wanted = (conversion.matcher.platforms or (image.platform,))[0]
                raise no_such_platform(image.name, wanted, await list_platforms(services, image.target))
            labels = (await image.record()).labels
            await publish(leased, undo, ImageRecord(name=name, target=target, labels=labels))
        undo.keep()
    return Image(services, name=name, target=target, platform=_best(image.platform, converter.kept))


def _matcher(platforms: Sequence[Platform | str] | Platform | str | None) -> Matcher:
    if platforms is None:
        return matching.ALL
    given = [platforms] if isinstance(platforms, str | Platform) else platforms
    if not given:
        raise InvalidArgumentError("platforms: an image of no platform is none")
    return matching.any_of(*(matching.parse(one) if isinstance(one, str) else one for one in given))


def _best(platform: Platform, kept: Sequence[Platform | None]) -> Platform:
    """Return the platform the handle is for: the source's if it has been kept, else the first."""
    named = [one for one in kept if one is not None]
    if not named or None in kept or any(matching.only(platform).rank(one) is not None for one in named):
        return platform
    return named[0]


class _Converter:
    """One conversion; what several manifests share is converted once."""

    def __init__(self, leased: Services, conversion: Conversion) -> None:
        self._leased = leased
        self._wanted = conversion
        self._made: dict[Descriptor, Descriptor | None] = {}  # indexes may name each other a million times over
        self._layers: dict[tuple[str, MediaTypes], Descriptor] = {}
        self.kept: list[Platform | None] = []  # of each manifest; None where it does not tell

    async def convert(self, descriptor: Descriptor, depth: int) -> Descriptor | None:
        """Return what takes the descriptor's place; None for a platform that is not wanted."""
        if depth > MAX_DEPTH:
            raise InvalidArgumentError(f"indexes are nested more than {MAX_DEPTH} deep")
        if descriptor not in self._made:
            if len(self._made) >= MAX_REFERENCES:
                raise InvalidArgumentError(f"the image consists of more than {MAX_REFERENCES} documents")
            self._made[descriptor] = await self._convert(descriptor, depth)
        return self._made[descriptor]

    async def _convert(self, descriptor: Descriptor, depth: int) -> Descriptor | None:
        if is_index(descriptor.media_type):
            return await self._convert_index(descriptor, depth)
        if is_manifest(descriptor.media_type):
            return await self._convert_manifest(descriptor)
        raise InvalidArgumentError(f"{descriptor.digest} is a {descriptor.media_type}, no image")

    async def _convert_index(self, descriptor: Descriptor, depth: int) -> Descriptor:
        data = await read_blob(self._leased, descriptor, limit=MAX_MANIFEST_SIZE)
        before = parse_index(data).manifests
        after = [made for child in before if (made := await self._convert_child(child, depth + 1)) is not None]
        document = load_document(data, what="index")
        document["manifests"] = [descriptor_document(child) for child in after]
        changed = [*before] != after
        return await self._replace(descriptor, document, MEDIA_TYPE_INDEX, changed=changed, children=after)

    async def _convert_child(self, child: Descriptor, depth: int) -> Descriptor | None:
        # An attestation speaks of a manifest that is no longer in the image.
        is_attestation = child.platform is not None and is_attestation_platform(child.platform)
        if is_attestation or not self._wanted.matcher.matches(child.platform):
            return None
        if self._wanted.matcher == matching.ALL and not await self._is_here(child):
            return None
        return await self.convert(child, depth)

    async def _is_here(self, child: Descriptor) -> bool:
        try:
            await self._leased.content.info(child.digest)
        except NotFoundError:
            return False
        return True

    async def _convert_manifest(self, descriptor: Descriptor) -> Descriptor | None:
        data = await read_blob(self._leased, descriptor, limit=MAX_MANIFEST_SIZE)
        manifest = parse_manifest(data)
        if not is_config(manifest.config.media_type):
            raise InvalidArgumentError(f"{descriptor.digest} is an artifact ({manifest.config.media_type}), no image")
        config = await read_config(self._leased, manifest.config)
        platform = descriptor.platform or config.platform
        if not self._wanted.matcher.matches(platform):
            return None
        self.kept.append(platform)
        diff_ids = {layer.digest: diff_id for layer, diff_id in unpackable_layers(manifest, config)}
        family = self._wanted.family or family_of(manifest.config.media_type)
        await self._convert_layers(manifest.layers, diff_ids, family)
        new_config = attrs.evolve(manifest.config, media_type=in_family(manifest.config.media_type, family))
        children = [new_config, *(self._layers.get((layer.digest, family), layer) for layer in manifest.layers)]
        document = load_document(data, what="manifest")
        document["config"], document["layers"] = (
            descriptor_document(new_config),
            list(map(descriptor_document, children[1:])),
        )
        changed = children != [manifest.config, *manifest.layers]
        return await self._replace(descriptor, document, MEDIA_TYPE_MANIFEST, changed=changed, children=children)

    async def _replace(
        self,
        descriptor: Descriptor,
        document: dict[str, object],
        oci_type: str,
        *,
        changed: bool,
        children: Sequence[Descriptor],
    ) -> Descriptor:
        """Store a document in place of another one, unless they are the same."""
        family = self._wanted.family or family_of(descriptor.media_type)
        media_type = in_family(oci_type, family)
        if not changed and media_type == descriptor.media_type:
            return descriptor
        document["mediaType"] = media_type
        if family == "docker":
            document.pop("annotations", None)  # Docker's documents have none
        made = await write_document(self._leased, document, media_type, labels=child_labels(children))
        annotations = descriptor.annotations if family == "oci" else {}
        return attrs.evolve(made, platform=descriptor.platform, annotations=annotations)

    # ── layers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _convert_layers(
        self, layers: Sequence[Descriptor], diff_ids: Mapping[str, str], family: MediaTypes
    ) -> None:
        limiter = anyio.CapacityLimiter(_LAYERS_AT_ONCE)

        async def convert(layer: Descriptor) -> None:
            async with limiter:
                self._layers[layer.digest, family] = await self._convert_layer(layer, diff_ids[layer.digest], family)

        async with working_together() as group:
            for digest, layer in {layer.digest: layer for layer in layers if is_layer(layer.media_type)}.items():
                if (digest, family) not in self._layers:
                    group.start_soon(convert, layer)

    async def _convert_layer(self, layer: Descriptor, diff_id: str, family: MediaTypes) -> Descriptor:
        if is_nondistributable(layer.media_type) or is_encrypted(layer.media_type):
            return attrs.evolve(layer, media_type=in_family(layer.media_type, family))
        present = await self._compression_of(layer)
        wanted = self._wanted.compression or present
        if wanted == present:
            return attrs.evolve(layer, media_type=layer_type(present, family))
        made = await self._recompress(layer, wanted, family)
        if made.diff_id != diff_id:
            raise DigestMismatchError(expected=diff_id, actual=made.diff_id, source=f"layer {layer.digest}")
        return made.descriptor  # annotations told of the old bytes, such as where in them which file is

    async def _compression_of(self, layer: Descriptor) -> Compression:
        told = layer_compression(layer.media_type)
        if layer.media_type == MEDIA_TYPE_DOCKER_LAYER:  # some push gzip under this name: the bytes decide
            told = detect(await self._leased.content.read(layer.digest, size=min(layer.size, 8)))
        return check_compression(told or "none")

    async def _recompress(self, layer: Descriptor, compression: Compression, family: MediaTypes) -> Layer:
        packed = read_layer(self._leased, layer)
        tar = decompressed(packed, what=f"layer {layer.digest}")
        return await write_layer(self._leased, tar, compression=compression, family=family)
