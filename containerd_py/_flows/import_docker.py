"""Images that come as Docker saves them: without manifests, which are made here as containerd makes them.

Knows manifest.json and how layers are found in an archive and in the store.
Source: containerd, core/images/archive (importer.go).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final

import attrs
from anyio import to_thread

from containerd_py import platforms
from containerd_py._flows.import_content import ArchiveContent, Brought
from containerd_py._flows.store_content import Incoming, keep_content, store_content
from containerd_py.archives.archive_names import docker_name, name_annotations
from containerd_py.archives.compression import SNIFFED, Compressor, is_compressed
from containerd_py.archives.documents import DockerImage, docker_manifest_document, index_document
from containerd_py.errors import ArchiveError, InvalidArgumentError
from containerd_py.labels import UNCOMPRESSED
from containerd_py.oci.image_spec import MAX_CONFIG_SIZE, parse_config
from containerd_py.oci.media_types import (
    MEDIA_TYPE_DOCKER_CONFIG,
    MEDIA_TYPE_DOCKER_LAYER,
    MEDIA_TYPE_DOCKER_LAYER_GZIP,
    MEDIA_TYPE_DOCKER_MANIFEST,
)
from containerd_py.services.bundle import Services
from containerd_py.types import Descriptor, Platform

_NO_PLATFORM: Final = Platform(os="", architecture="")
_FILTERS: Final = 64  # digests asked for in one call


class DockerImages:
    """Turns the images of one archive into an index."""

    def __init__(self, leased: Services, content: ArchiveContent, *, compress: bool) -> None:
        self._leased = leased
        self._content = content
        self._compress = compress
        self._made: dict[str, Descriptor] = {}  # layers by the digest of what the archive holds

    async def index(self, images: Iterable[DockerImage]) -> bytes:
        """Return an index of the images, with one entry for each of their names.

        Raises:
            ArchiveError: A configuration or layer is not in the archive, or a name is none.
        """
        self._content.check_links()
        entries: list[Descriptor] = []
        for image in images:
            manifest = await self._manifest(image)
            entries += [attrs.evolve(manifest, annotations=_annotations(tag)) for tag in image.repo_tags] or [manifest]
        return index_document(entries, media_type="")

    async def _manifest(self, image: DockerImage) -> Descriptor:
        config = self._find(image.config, "configuration")
        described = Descriptor(media_type=MEDIA_TYPE_DOCKER_CONFIG, digest=config.digest, size=config.size)
        layers = await self._layers([self._find(path, "layer") for path in image.layers])
        digest, size = self._content.add(docker_manifest_document(described, layers))
        read = parse_config(await self._content.document(described, limit=MAX_CONFIG_SIZE))
        # containerd takes a configuration that says nothing for Linux, on an architecture without a name.
        platform = platforms.normalize(read.platform or _NO_PLATFORM)
        return Descriptor(media_type=MEDIA_TYPE_DOCKER_MANIFEST, digest=digest, size=size, platform=platform)

    def _find(self, path: str, what: str) -> Brought:
        found = self._content.find(path)
        if found is None:
            raise ArchiveError(f"the {what} {path[:160]!a} of an image is not in the archive")
        return found

    async def _layers(self, brought: list[Brought]) -> list[Descriptor]:
        unknown = {layer.digest: layer for layer in brought if layer.digest not in self._made}
        here = await self._compressed_here(unknown)
        for digest, layer in unknown.items():
            self._made[digest] = here.get(digest) or await self._layer(layer)
        return [self._made[layer.digest] for layer in brought]

    async def _compressed_here(self, layers: Mapping[str, Brought]) -> dict[str, Descriptor]:
        """Return blobs of the store that decompress to these layers: they are the same, and smaller."""
        found: dict[str, Descriptor] = {}
        digests = [*layers]
        for start in range(0, len(digests), _FILTERS):
            filters = [f'labels."{UNCOMPRESSED}"=={digest}' for digest in digests[start : start + _FILTERS]]
            for info in await self._leased.content.list(filters):
                found[info.labels[UNCOMPRESSED]] = await self._described(info.digest, info.size)
        return found

    async def _described(self, digest: str, size: int) -> Descriptor:
        await keep_content(self._leased, digest, size, source="the archive")
        start = await self._leased.content.read(digest, size=min(size, SNIFFED)) if size else b""
        return Descriptor(media_type=_layer_type(compressed=is_compressed(start)), digest=digest, size=size)

    async def _layer(self, layer: Brought) -> Descriptor:
        if self._compress and not layer.is_compressed:
            return await self._compressed(layer)
        media_type = _layer_type(compressed=layer.is_compressed)
        return Descriptor(media_type=media_type, digest=layer.digest, size=layer.size)

    async def _compressed(self, layer: Brought) -> Descriptor:
        """Compress a layer into a blob of its own."""
        await self._content.keep(Descriptor(media_type=MEDIA_TYPE_DOCKER_LAYER, digest=layer.digest, size=layer.size))
        async with self._leased.content.open_reader(layer.digest) as chunks:
            pieces = _Compressing(chunks)
            incoming = Incoming(next=pieces.next, size=None, source="a layer that is being compressed")
            stored = await store_content(self._leased, incoming, labels={UNCOMPRESSED: layer.digest})
        return Descriptor(media_type=MEDIA_TYPE_DOCKER_LAYER_GZIP, digest=stored.digest, size=pieces.size)


class _Compressing:
    """Chunks on their way through a compressor."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._compressor = Compressor("gzip")
        self._has_ended = False
        self.size = 0

    async def next(self) -> bytes:
        """Return the next compressed piece; an empty one at the end."""
        piece = b""
        while not piece and not self._has_ended:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                self._has_ended = True
                piece = self._compressor.finish()
            else:
                piece = await to_thread.run_sync(self._compressor.compress, chunk)
        self.size += len(piece)
        return piece


def _layer_type(*, compressed: bool) -> str:
    # Also for zstd, as in containerd: it looks at the bytes when it unpacks.
    return MEDIA_TYPE_DOCKER_LAYER_GZIP if compressed else MEDIA_TYPE_DOCKER_LAYER


def _annotations(repo_tag: str) -> dict[str, str]:
    try:
        return name_annotations(docker_name(repo_tag))
    except InvalidArgumentError as error:
        raise ArchiveError(str(error)) from error
