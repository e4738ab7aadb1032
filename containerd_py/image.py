"""Image handle: a name at the daemon, and what that means on one platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from containerd_py import platforms
from containerd_py._flows.check_image import ImageCheck, check_image
from containerd_py._flows.defaults import chosen_snapshotter
from containerd_py._flows.image_content import ImageContent, find_manifest, list_platforms, read_image
from containerd_py._flows.image_details import HistoryEntry, ImageDetails, describe_image, history_of
from containerd_py._flows.image_records import change_labels, save_record
from containerd_py._flows.unpack import is_unpacked, unpack_image
from containerd_py.errors import NotFoundError
from containerd_py.oci.image_spec import ImageConfig, Manifest, chain_ids
from containerd_py.references import Reference
from containerd_py.services.bundle import Services
from containerd_py.services.images import ImageRecord
from containerd_py.types import Descriptor, Platform


@attrs.frozen(kw_only=True)
class ImageUsage:
    """What an image takes at the daemon for one platform, in bytes; content shared with other images counts in full.

    `content` is in the content store, `missing` is not, though the manifest names it; `snapshots` is unpacked, all
    layers together.
    """

    content: int
    missing: int
    snapshots: int


class Image:
    """An image of the daemon, seen on one platform.

    Everything it tells is asked of the daemon, and what it reads is checked against its digest. `target` is what the
    name stood for when the handle was made; `record` says what it stands for now. Handles are equal that have the same
    name, target and platform, in one namespace of one daemon.
    """

    def __init__(self, services: Services, *, name: str, target: Descriptor, platform: Platform) -> None:
        self._services = services
        self.name = name
        self.target = target
        self.platform = platform

    async def record(self) -> ImageRecord:
        """Return the image's record as it is now, with its labels.

        Raises:
            NotFoundError: The image has been deleted.
        """
        return await self._services.images.get(self.name)

    async def manifest(self) -> Manifest:
        """Return the manifest for the platform.

        Raises:
            NotFoundError: The image has nothing for the platform, or its manifest is not here.
        """
        return (await find_manifest(self._services, self.target, self.platform)).manifest

    async def config(self) -> ImageConfig:
        """Return the configuration for the platform: what the image's maker says about running it.

        Raises:
            NotFoundError: The image has nothing for the platform, or its configuration is not here.
            InvalidArgumentError: This is an artifact without a configuration.
        """
        return (await self._content()).config

    async def diff_ids(self) -> list[str]:
        """Return the digests of the unpacked layers, lowest first."""
        return list((await self._content()).config.diff_ids)

    async def chain_id(self) -> str:
        """Return the name of the topmost snapshot once the image is unpacked; empty for an image without layers."""
        return ["", *chain_ids(await self.diff_ids())][-1]

    async def platforms(self) -> list[Platform]:
        """Return the platforms the image names, whether or not their content is here."""
        return await list_platforms(self._services, self.target)

    async def size(self) -> int:
        """Return the bytes to transfer for the platform: indexes, manifest, configuration and layers, as described."""
        found = await find_manifest(self._services, self.target, self.platform)
        blobs = (*found.indexes, found.descriptor, found.manifest.config, *found.manifest.layers)
        return sum(blob.size for blob in blobs)

    async def usage(self, snapshotter: str | None = None) -> ImageUsage:
        """Return what the image takes at the daemon, unpacked in a snapshotter (None: the namespace's default)."""
        content = await self._content()
        here = missing = 0
        for blob in {blob.digest: blob for blob in content.blobs}.values():
            try:
                here += (await self._services.content.info(blob.digest)).size
            except NotFoundError:
                missing += blob.size
        snapshots = await self._unpacked_size(content.config.diff_ids, snapshotter)
        return ImageUsage(content=here, missing=missing, snapshots=snapshots)

    async def history(self) -> list[HistoryEntry]:
        """Return how the image was made, oldest step first, each with its layer where it made one."""
        return history_of(await self._content())

    async def inspect(self) -> ImageDetails:
        """Return all there is to tell of what the name stands for now: names, digests, size, configuration, history.

        Raises:
            NotFoundError: The image has been deleted, or its documents for the platform are not here.
        """
        return await describe_image(self._services, self.name, self.platform)

    async def check(self, *, verify: bool = False) -> ImageCheck:
        """Tell whether all content for the platform is here, and which snapshotters have the image unpacked.

        `verify` reads all content and compares its digests.
        """
        return await check_image(self._services, self.name, self.target, self.platform, verify=verify)

    async def labels(self) -> Mapping[str, str]:
        """Return the labels of the image's record.

        Raises:
            NotFoundError: The image has been deleted.
        """
        return (await self.record()).labels

    async def set_labels(self, labels: Mapping[str, str]) -> Mapping[str, str]:
        """Set labels of the image's record, an empty value removing one, leave the others, and return all.

        Raises:
            NotFoundError: The image has been deleted.
            InvalidArgumentError: A label is larger than 4,096 bytes.
        """
        return (await change_labels(self._services, self.name, labels)).labels

    async def is_unpacked(self, snapshotter: str | None = None) -> bool:
        """Tell whether all layers are snapshots of a snapshotter (None: the namespace's default)."""
        name = await chosen_snapshotter(self._services, snapshotter)
        return await is_unpacked(self._services, await self.chain_id(), name)

    async def unpack(self, snapshotter: str | None = None) -> None:
        """Make snapshots of the layers; those there are already stay as they are.

        Raises:
            NotFoundError: Content is missing here: `ensure_image` fetches it.
            UnpackError: A layer is damaged.
        """
        name = await chosen_snapshotter(self._services, snapshotter)
        await unpack_image(self._services, self.target, self.platform, name)

    async def tag(self, new_ref: str) -> Image:
        """Give the image another name, which stands for it alone from now on, and return it under that name.

        Labels are copied. The name is normalised as in a pull.

        Raises:
            NotFoundError: The image has been deleted.
        """
        record = await self.record()
        made = await save_record(self._services, attrs.evolve(record, name=str(Reference.parse(new_ref))))
        return Image(self._services, name=made.name, target=made.target, platform=self.platform)

    async def delete(self, *, synchronous: bool = False) -> None:
        """Delete the name; content nothing else names goes with the next garbage collection, or with this call.

        `synchronous` waits for that collection.

        Raises:
            NotFoundError: It has been deleted already.
        """
        await self._services.images.delete(self.name, synchronous=synchronous)

    async def _content(self) -> ImageContent:
        return await read_image(self._services, self.target, self.platform)

    async def _unpacked_size(self, diff_ids: Sequence[str], snapshotter: str | None) -> int:
        snapshots = self._services.snapshotter(await chosen_snapshotter(self._services, snapshotter))
        size = 0
        for chain_id in chain_ids(diff_ids):
            try:
                size += (await snapshots.usage(chain_id)).size
            except NotFoundError:
                break
        return size

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, Image) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[object, ...]:
        place = (self._services.connection.address, self._services.namespace)
        return (*place, self.name, self.target.digest, self.platform)

    def __repr__(self) -> str:
        return (
            f"<Image {self.name} {self.target.digest[:19]}… {platforms.format(self.platform)} "
            f"namespace={self._services.namespace}>"
        )
