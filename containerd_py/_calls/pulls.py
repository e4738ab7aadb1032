"""Images from registries and what is here of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager

from containerd_py._calls.calls import Calls
from containerd_py._flows.blob_cache import read_cached_blob
from containerd_py._flows.ensure_image import Policy, ensure_image
from containerd_py._flows.load_image import list_images, load_image
from containerd_py._flows.pull import Pull, Via, open_pull, pull
from containerd_py.image import Image
from containerd_py.remotes.registry import Registry
from containerd_py.types import Descriptor, Platform


class PullCalls(Calls):
    """Images from registries and what is here of them."""

    async def pull(
        self,
        ref: str,
        *,
        platform: Platform | str | None = None,
        all_platforms: bool = False,
        unpack: bool = True,
        snapshotter: str | None = None,
        labels: Mapping[str, str] | None = None,
        registry: Registry | None = None,
        via: Via = "auto",
    ) -> Image:
        """Pull an image, unpack it, and return it. See `open_pull`, which shows progress on the way."""
        return await pull(
            self._services,
            ref,
            platform=platform,
            all_platforms=all_platforms,
            unpack=unpack,
            snapshotter=snapshotter,
            labels=labels,
            registry=registry,
            via=via,
        )

    def open_pull(
        self,
        ref: str,
        *,
        platform: Platform | str | None = None,
        all_platforms: bool = False,
        unpack: bool = True,
        snapshotter: str | None = None,
        labels: Mapping[str, str] | None = None,
        registry: Registry | None = None,
        via: Via = "auto",
    ) -> AbstractAsyncContextManager[Pull]:
        """Begin to pull an image and lend its progress: `async for progress in pull`, then `pull.image`.

        `ref` is completed as Docker does: "alpine" is docker.io/library/alpine:latest. `platform` is the daemon's by
        default; `all_platforms` fetches every platform and unpacks none. `labels` go on the image record. `registry`
        says how registries are reached. `via` says who talks to them: "client" (this program), "transfer" (the
        daemon, from containerd 1.7 on), "auto" (the daemon where it can do what is asked). Leaving the block early
        cancels the pull; what was fetched is resumed by the next one.

        Raises:
            RegistryError: The registry refuses, fails or cannot be reached; its subclasses say how.
            NotFoundError: The image has nothing for the platform; the message says what it has.
            DigestMismatchError: Content is not what its descriptor promises.
            NotSupportedError: `via="transfer"` and the daemon has no transfer service.
        """
        return open_pull(
            self._services,
            ref,
            platform=platform,
            all_platforms=all_platforms,
            unpack=unpack,
            snapshotter=snapshotter,
            labels=labels,
            registry=registry,
            via=via,
        )

    async def ensure_image(
        self,
        ref: str,
        *,
        policy: Policy = "missing",
        platform: Platform | str | None = None,
        all_platforms: bool = False,
        unpack: bool = True,
        snapshotter: str | None = None,
        labels: Mapping[str, str] | None = None,
        registry: Registry | None = None,
        via: Via = "auto",
    ) -> Image:
        """Return an image that is whole and unpacked here, pulled where the policy says so.

        "missing" pulls what is not here, and repairs what is not whole; "always" asks the registry in any case; "never"
        only looks. The other arguments are those of `open_pull`.

        Raises:
            NotFoundError: The policy is "never" and the image is not here, or not whole.
            RegistryError: Pulling failed.
        """
        return await ensure_image(
            self._services,
            ref,
            policy=policy,
            platform=platform,
            all_platforms=all_platforms,
            unpack=unpack,
            snapshotter=snapshotter,
            labels=labels,
            registry=registry,
            via=via,
        )

    async def load_image(self, name: str) -> Image:
        """Return an image that is here, by its exact or completed name.

        Raises:
            NotFoundError: There is none.
        """
        return await load_image(self._services, name)

    async def list_images(self, filters: Iterable[str] = ()) -> list[Image]:
        """Return the images that match any of the filters, all without one."""
        return await list_images(self._services, filters)

    async def read_blob(self, descriptor: Descriptor) -> bytes:
        """Return a blob of the content store, verified against its descriptor.

        Indexes, manifests and configurations of up to 4 MiB are kept in memory, 32 MiB of them for a connection: one
        that was read before is not asked for again, even when the daemon has dropped it since.

        Raises:
            NotFoundError: This namespace has no such blob.
            DigestMismatchError: It is damaged.
        """
        return await read_cached_blob(self._services, descriptor)
