"""What of some images goes into an archive, and what the archive says about itself. Reads documents, writes nothing.

Knows image documents and the store; knows neither tar nor files.
Source: containerd, core/images/archive (exporter.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import anyio
import attrs

from containerd_py import platforms
from containerd_py._flows.image_content import (
    MAX_DEPTH,
    choose,
    find_manifest,
    is_attestation_platform,
    no_such_platform,
    read_index,
    read_manifest,
)
from containerd_py._flows.together import working_together
from containerd_py.archives.archive_names import familiar_name, name_annotations
from containerd_py.archives.documents import DockerImage, blob_path, docker_images_document, index_document
from containerd_py.errors import InvalidArgumentError, NotFoundError, SizeMismatchError
from containerd_py.labels import DISTRIBUTION_SOURCE
from containerd_py.oci.image_spec import MAX_REFERENCES
from containerd_py.oci.media_types import is_index, is_manifest, is_nondistributable
from containerd_py.services.bundle import Services
from containerd_py.services.content import ContentInfo
from containerd_py.types import Descriptor, Platform

_AT_ONCE: Final = 8  # blobs looked up at once


@attrs.frozen(kw_only=True)
class ExportScope:
    """What of the images is wanted."""

    platform: Platform
    all_platforms: bool = False
    skip_missing: bool = False
    skip_non_distributable: bool = False


@attrs.frozen(kw_only=True)
class NamedImage:
    """An image and what it is called."""

    name: str
    target: Descriptor


@attrs.frozen(kw_only=True)
class ExportPlan:
    """What an archive is to hold: blobs, in the order of their paths, and its documents."""

    blobs: tuple[Descriptor, ...]
    index: bytes
    docker_manifest: bytes


async def plan_export(services: Services, images: Iterable[NamedImage], scope: ExportScope) -> ExportPlan:
    """Find out what goes into an archive of these images.

    Raises:
        NotFoundError: Content is missing, or an image has nothing for the platform; the message says what it has.
        DataLossError: A document or a blob is not what its descriptor says.
        InvalidArgumentError: An image is malformed, or is none.
    """
    planning = _Planning(services, scope)
    targets: list[Descriptor] = []
    docker: dict[str, DockerImage] = {}  # by digest of the manifest, so that a manifest with two names comes once
    for image in images:
        await planning.add(image)
        targets.append(await _described(services, image))
        await _add_docker_image(planning, docker, image)
    blobs = sorted(planning.blobs.values(), key=lambda blob: blob_path(blob.digest))
    return ExportPlan(
        blobs=tuple(blobs), index=index_document(targets), docker_manifest=docker_images_document(docker.values())
    )


async def _described(services: Services, image: NamedImage) -> Descriptor:
    """Return the image's entry in the index: with its name, and where it came from."""
    labels = (await services.content.info(image.target.digest)).labels
    sources = {key: value for key, value in labels.items() if key.startswith(DISTRIBUTION_SOURCE)}
    return attrs.evolve(
        image.target, annotations={**image.target.annotations, **name_annotations(image.name), **sources}
    )


async def _add_docker_image(planning: _Planning, docker: dict[str, DockerImage], image: NamedImage) -> None:
    manifest = await planning.docker_manifest(image.target)
    if manifest is None:
        return
    name = familiar_name(image.name)
    known = docker.get(manifest.digest)
    if known is None:
        read = await read_manifest(planning.services, manifest)
        known = DockerImage(
            config=blob_path(read.config.digest), layers=tuple(blob_path(layer.digest) for layer in read.layers)
        )
    docker[manifest.digest] = attrs.evolve(known, repo_tags=(*known.repo_tags, *([] if name is None else [name])))


class _Planning:
    """Collects what images consist of; each piece of content is looked at once."""

    def __init__(self, services: Services, scope: ExportScope) -> None:
        self.services = services
        self.blobs: dict[str, Descriptor] = {}
        self._scope = scope
        self._lacking: set[str] = set()  # manifests here that lack something
        self._seen: set[str] = set()

    async def add(self, image: NamedImage) -> None:
        """Add everything of an image that is wanted."""
        if not (is_index(image.target.media_type) or is_manifest(image.target.media_type)):
            raise InvalidArgumentError(f"{image.name} is a {image.target.media_type}: only images can be exported")
        await self._visit(image.target, image.name, 0)
        if image.target.digest not in self.blobs:
            raise NotFoundError(f"{image.name} is not here but for its name: {image.target.digest} is missing")

    async def docker_manifest(self, target: Descriptor) -> Descriptor | None:
        """Return the manifest that Docker would take for the image; None if it is not exported whole."""
        try:
            found = (await find_manifest(self.services, target, self._scope.platform)).descriptor
        except NotFoundError:
            return None  # a missing one that is wanted has been told already
        is_whole = found.digest in self.blobs and found.digest not in self._lacking
        return found if is_whole else None

    async def _visit(self, descriptor: Descriptor, name: str, depth: int) -> None:
        if descriptor.digest in self._seen:
            return
        self._seen.add(descriptor.digest)
        if len(self._seen) > MAX_REFERENCES:
            raise InvalidArgumentError(f"the images consist of more than {MAX_REFERENCES} pieces of content")
        if depth > MAX_DEPTH:
            raise InvalidArgumentError(f"the indexes of {name} are nested more than {MAX_DEPTH} deep")
        if is_index(descriptor.media_type):
            await self._visit_index(descriptor, name, depth)
        elif is_manifest(descriptor.media_type):
            await self._visit_manifest(descriptor)
        else:
            await self._visit_other(descriptor)

    async def _visit_other(self, descriptor: Descriptor) -> None:
        try:
            await self._add_blob(descriptor)
        except NotFoundError:
            if not self._scope.skip_missing:
                raise

    async def _visit_index(self, descriptor: Descriptor, name: str, depth: int) -> None:
        try:
            children = (await read_index(self.services, descriptor)).manifests
        except NotFoundError:
            if depth and self._scope.skip_missing:
                return
            raise
        await self._add_blob(descriptor)
        for child in self._wanted(descriptor, name, children):
            await self._visit(child, name, depth + 1)

    async def _visit_manifest(self, descriptor: Descriptor) -> None:
        try:
            manifest = await read_manifest(self.services, descriptor)
        except NotFoundError:
            if self._scope.skip_missing:
                return
            raise
        await self._add_blob(descriptor)
        children = [child for child in (manifest.config, *manifest.layers) if not self._is_skipped(child)]
        found = await self._look_up(children)
        missing = [child.digest for child in children if child.digest not in found]
        if missing and self._scope.skip_missing:
            self._lacking.add(descriptor.digest)
            return
        if missing:
            raise NotFoundError(f"{missing[0]} is missing here: {descriptor.digest} names it")
        for child in children:
            self._note(child, found[child.digest])

    def _wanted(self, index: Descriptor, name: str, children: Sequence[Descriptor]) -> Sequence[Descriptor]:
        """Return the children for just the platform, else for the one that suits it best; those that name none too."""
        if self._scope.all_platforms:
            return children
        strict = platforms.only_strict(self._scope.platform)
        nameless = [child for child in children if child.platform is None]
        named = [child for child in children if child.platform is not None]
        suiting = [child for child in named if strict.matches(child.platform)]
        if not suiting:
            suiting = [
                child for child in choose(named, platforms.only(self._scope.platform)) if child.platform is not None
            ][:1]
        if not suiting and not nameless:
            present = [child.platform for child in named if child.platform is not None]
            raise no_such_platform(
                f"{name} ({index.digest})",
                self._scope.platform,
                [platform for platform in present if not is_attestation_platform(platform)],
            )
        return [child for child in children if child in suiting or child in nameless]

    async def _look_up(self, blobs: Iterable[Descriptor]) -> dict[str, ContentInfo]:
        """Return what is known of those blobs that are here, several asked for at once."""
        found: dict[str, ContentInfo] = {}
        limiter = anyio.CapacityLimiter(_AT_ONCE)

        async def ask(digest: str) -> None:
            async with limiter:
                with suppress(NotFoundError):
                    found[digest] = await self.services.content.info(digest)

        async with working_together() as group:
            for digest in {blob.digest: None for blob in blobs}:
                group.start_soon(ask, digest)
        return found

    async def _add_blob(self, descriptor: Descriptor) -> None:
        if not self._is_skipped(descriptor) and descriptor.digest not in self.blobs:
            self._note(descriptor, await self.services.content.info(descriptor.digest))

    def _note(self, descriptor: Descriptor, info: ContentInfo) -> None:
        if descriptor.size > 0 and info.size != descriptor.size:
            raise SizeMismatchError(f"{descriptor.digest} is said to have {descriptor.size} bytes and has {info.size}")
        self.blobs[descriptor.digest] = attrs.evolve(descriptor, size=info.size)

    def _is_skipped(self, descriptor: Descriptor) -> bool:
        return self._scope.skip_non_distributable and is_nondistributable(descriptor.media_type)
