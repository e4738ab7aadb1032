"""Images pushed, made, converted and cleared away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from containerd_py._calls.calls import Calls
from containerd_py._flows.build_image import build_image
from containerd_py._flows.commit import commit
from containerd_py._flows.convert_image import convert_image
from containerd_py._flows.ensure_image import Policy
from containerd_py._flows.image_layers import LayerSource
from containerd_py._flows.prune_images import PruneReport, prune_images, untag
from containerd_py._flows.pull import Via
from containerd_py._flows.push import Platforms, Push, open_push, push
from containerd_py.container import Container
from containerd_py.image import Image
from containerd_py.oci.config_changes import NO_CHANGES, ConfigChanges
from containerd_py.oci.media_type_families import Compression, MediaTypes
from containerd_py.remotes.registry import Registry
from containerd_py.types import Descriptor, Platform


class ImageCalls(Calls):
    """Images pushed, made, converted and cleared away."""

    async def push(
        self,
        ref: str,
        *,
        source: Image | str | None = None,
        platform: Platforms = None,
        registry: Registry | None = None,
        skip_non_distributable: bool = False,
        via: Via = "auto",
    ) -> Descriptor:
        """Push an image, and return what the reference names now. See `open_push`, which shows progress on the way."""
        return await push(
            self._services,
            ref,
            source=source,
            platform=platform,
            registry=registry,
            skip_non_distributable=skip_non_distributable,
            via=via,
        )

    def open_push(
        self,
        ref: str,
        *,
        source: Image | str | None = None,
        platform: Platforms = None,
        registry: Registry | None = None,
        skip_non_distributable: bool = False,
        via: Via = "auto",
    ) -> AbstractAsyncContextManager[Push]:
        """Begin to push an image and lend its progress: `async for progress in push`, then `push.target`.

        `ref` is completed as Docker does. `source` is the image, a handle or a name; None means the one that is called
        as the reference. `platform` is one or several of its platforms: one is pushed as its manifest, several as an
        index of them; None pushes everything the image has, all of which must be here or at the registry. `registry`
        says how registries are reached, `via` who talks to them, as in a pull. What the registry has already is not
        sent, and what another repository of it may have is mounted from there. Leaving the block early cancels.

        Raises:
            NotFoundError: There is no such image, nothing for the platform, or content is missing: the message says
                what to do.
            RegistryError: The registry refuses, fails or cannot be reached; its subclasses say how.
            DigestMismatchError: Content is damaged, here or once it had arrived there.
            InvalidArgumentError: The reference has a digest, and what is pushed has another.
            NotSupportedError: `via="transfer"` and the daemon has no transfer service.
        """
        return open_push(
            self._services,
            ref,
            source=source,
            platform=platform,
            registry=registry,
            skip_non_distributable=skip_non_distributable,
            via=via,
        )

    async def untag(self, name: str, *, synchronous: bool = False) -> None:
        """Remove an image's name, exact or completed; content nothing else names goes with the next garbage collection.

        `synchronous` waits for that collection.

        Raises:
            NotFoundError: There is no image of that name.
        """
        await untag(self._services, name, synchronous=synchronous)

    async def prune_images(
        self, *, unused: bool = False, filters: Iterable[str] = (), dry_run: bool = False
    ) -> PruneReport:
        """Remove images that no container uses, wait until their content is gone, and tell which they were.

        Dangling ones only: those no tag stands for any more, just digests. With `unused` all of them. `filters` narrow
        it down to images that match any of them. An image is in use if a container names it, by any of its names, or
        stands on its snapshots. `dry_run` tells and removes nothing.
        """
        return await prune_images(self._services, unused=unused, filters=filters, dry_run=dry_run)

    async def convert_image(
        self,
        src: str,
        dst: str,
        *,
        platforms: Sequence[Platform | str] | Platform | str | None = None,
        media_types: MediaTypes | None = None,
        compression: Compression | None = None,
    ) -> Image:
        """Make a copy of an image under the name `dst` (which may be `src`), converted, and return it.

        `platforms` are the ones to keep, exactly as they are named; None keeps those that are here. `media_types` are
        "oci" or "docker", `compression` of the layers "gzip", "zstd" or "none"; None leaves either as it is. What needs
        no change keeps its digest, and unpacked layers stay valid. Attestations are left out, annotations of layers too
        where these are compressed anew. The record's labels are copied.

        Raises:
            NotFoundError: There is no such image, or content of a platform to be kept is not here.
            InvalidArgumentError: Docker has no media type for something, as for zstd, or this is no image.
            DigestMismatchError: A layer is not what the image's configuration says.
        """
        return await convert_image(
            self._services, src, dst, platforms=platforms, media_types=media_types, compression=compression
        )

    async def commit(
        self,
        container: Container | str,
        ref: str,
        *,
        author: str | None = None,
        message: str | None = None,
        changes: ConfigChanges = NO_CHANGES,
        pause: bool = True,
        compression: Compression = "gzip",
    ) -> Image:
        """Make an image of what a container has changed, on top of the very image it was created from; unpacked.

        A running task is frozen while its files are read, and goes on afterwards in any case; with `pause=False` it
        writes on, and the layer may catch files half-written. `changes` are laid over the parent image's configuration.
        A failure or cancellation leaves no image; what `ref` stood for before stays.

        Raises:
            NotFoundError: There is no such container.
            FailedPreconditionError: It has no snapshot, or the documents of its image are no longer here.
            InvalidArgumentError: `ref` names a digest, or the parent has Docker's media types, which have no zstd.
        """
        return await commit(
            self._services,
            container,
            ref,
            author=author,
            message=message,
            changes=changes,
            pause=pause,
            compression=compression,
        )

    async def build_image(
        self,
        ref: str,
        *,
        base: Image | str | None = None,
        layers: Sequence[LayerSource] = (),
        config: ConfigChanges = NO_CHANGES,
        platform: Platform | str | None = None,
        compression: Compression = "gzip",
        source_date_epoch: datetime | int | None = None,
        author: str | None = None,
        labels: Mapping[str, str] | None = None,
        snapshotter: str | None = None,
        policy: Policy = "missing",
        registry: Registry | None = None,
    ) -> Image:
        """Build an image without a build daemon, unpack it, and return it.

        Each of `layers` comes on top of those before: a `DirectoryLayer`, a `TarLayer`, or what a command changes, a
        `RunLayer`. A reference as `base` stands for `ensure_image` of it, with `policy` and `registry`; None is nothing
        at all, for `platform` (the daemon's). `config` is laid over the base's configuration. `labels` go on the
        record.

        With `source_date_epoch`, a time or seconds since 1970, or the environment's SOURCE_DATE_EPOCH, the image is
        from then and nothing in its new layers is younger, archives aside, which are taken as they are: the same input
        gives the same digest, as long as commands do the same and zlib or zstd are the same.

        A failure or cancellation leaves no image; what `ref` stood for before stays.

        Raises:
            ProcessExitError: A command failed; the error has its output.
            NotFoundError: A file or directory is not here.
            ArchiveError: A tar archive's compression is damaged.
            UnpackError: A tar archive is damaged.
            InvalidArgumentError: `ref` names a digest, or the base has Docker's media types, which have no zstd.
        """
        return await build_image(
            self._services,
            ref,
            base=base,
            layers=layers,
            config=config,
            platform=platform,
            compression=compression,
            source_date_epoch=source_date_epoch,
            author=author,
            labels=labels,
            snapshotter=snapshotter,
            policy=policy,
            registry=registry,
        )
