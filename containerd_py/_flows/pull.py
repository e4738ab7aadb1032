"""Pulling an image, whichever way suits daemon and request, with its progress on the side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal, get_args

import attrs

from containerd_py._flows.defaults import chosen_platform, chosen_snapshotter
from containerd_py._flows.progress_board import ProgressBoard
from containerd_py._flows.pull_request import PullRequest
from containerd_py._flows.registry_pull import pull_from_registry
from containerd_py._flows.together import working_together
from containerd_py._flows.transfer_pull import pull_by_transfer
from containerd_py._flows.transfer_registry import transfer_obstacle
from containerd_py._flows.watched import Watched
from containerd_py.errors import InvalidArgumentError, RegistryTLSError, UnimplementedError
from containerd_py.image import Image
from containerd_py.labels import check_labels
from containerd_py.references import Reference
from containerd_py.remotes.registry import Registry, chosen_registry
from containerd_py.services.bundle import Services
from containerd_py.services.images import ImageRecord
from containerd_py.types import NO_LABELS, Platform

Via = Literal["auto", "client", "transfer"]
VIAS: Final = get_args(Via)


class Pull(Watched[Image]):
    """A pull under way: an iterator over its progress, and the image once it has ended. Made by `open_pull`."""

    def __init__(self, services: Services, wish: PullWish) -> None:
        async def flow(board: ProgressBoard) -> Image:
            return await wish.fulfil(services, board)

        super().__init__(f"the pull of {wish.reference}", flow)
        self._ref = str(wish.reference)
        self._namespace = services.namespace

    @property
    def ref(self) -> str:
        """The reference in full: what the image will be called."""
        return self._ref

    @property
    def image(self) -> Image:
        """The image. See `wait`, which waits for it.

        Raises:
            FailedPreconditionError: The pull has not ended, or was left before its end.
            Exception: What the pull failed with.
        """
        return self.result

    def __repr__(self) -> str:
        return f"<Pull {self._ref} namespace={self._namespace}>"


@attrs.frozen(kw_only=True)
class PullWish:
    """A pull as it was asked for; what was left open is settled with the daemon."""

    reference: Reference
    platform: Platform | str | None
    all_platforms: bool
    unpack: bool
    snapshotter: str | None
    labels: Mapping[str, str]
    registry: Registry
    via: Via

    def __attrs_post_init__(self) -> None:
        if self.via not in VIAS:
            raise InvalidArgumentError(f"via={self.via!r}: say one of {', '.join(VIAS)}")
        if self.all_platforms and self.platform is not None:
            raise InvalidArgumentError("all_platforms leaves no platform to choose: give one or the other")
        check_labels(self.labels)

    async def fulfil(self, services: Services, board: ProgressBoard) -> Image:
        """Pull."""
        unpacks = self.unpack and not self.all_platforms
        request = PullRequest(
            reference=self.reference,
            platform=await chosen_platform(services, self.platform),
            registry=self.registry,
            all_platforms=self.all_platforms,
            snapshotter=await chosen_snapshotter(services, self.snapshotter) if unpacks else None,
            labels=self.labels,
        )
        record = await self._pull(services, request, board)
        return Image(services, name=record.name, target=record.target, platform=request.platform)

    async def _pull(self, services: Services, request: PullRequest, board: ProgressBoard) -> ImageRecord:
        if self.via == "client":
            return await pull_from_registry(services, request, board)
        obstacle = await transfer_obstacle(services, request, "pull")
        if self.via == "transfer":
            if obstacle is not None:
                raise obstacle
            return await pull_by_transfer(services, request, board)
        if obstacle is None:
            try:
                return await pull_by_transfer(services, request, board)
            except (UnimplementedError, RegistryTLSError):
                pass  # the daemon trusts other certificates than this program, or lacks what its plugins promise
        return await pull_from_registry(services, request, board)


@asynccontextmanager
async def open_pull(
    services: Services,
    ref: str,
    *,
    platform: Platform | str | None = None,
    all_platforms: bool = False,
    unpack: bool = True,
    snapshotter: str | None = None,
    labels: Mapping[str, str] | None = None,
    registry: Registry | None = None,
    via: Via = "auto",
) -> AsyncIterator[Pull]:
    """Pull an image while the block reads the progress; leaving the block early cancels the pull.

    A cancelled or failed pull leaves no image, no lease and no unfinished snapshot; what it had fetched is resumed by
    the next one. See `pull` for the arguments.

    Raises:
        Exception: What the pull failed with, out of the iteration; at the end of the block if nobody read it.
    """
    wish = PullWish(
        reference=Reference.parse(ref),
        platform=platform,
        all_platforms=all_platforms,
        unpack=unpack,
        snapshotter=snapshotter,
        labels=NO_LABELS if labels is None else labels,
        registry=chosen_registry(registry),
        via=via,
    )
    pull = Pull(services, wish)
    async with working_together() as group:
        group.start_soon(pull.run)
        try:
            yield pull
        finally:
            await group.end()
    pull.raise_unseen()


async def pull(
    services: Services,
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
    """Pull an image, unpack it, and return it.

    Args:
        services: Where to.
        ref: What; a bare name is normalised, as in `docker.io/library/NAME:latest`.
        platform: For which platform; None: the daemon's.
        all_platforms: Everything the image has; then nothing is unpacked.
        unpack: Make snapshots of the layers. Layers whose snapshots exist are not fetched.
        snapshotter: Unpack with this one; None: the namespace's default.
        labels: Of the image record. Labels that a record of this name has besides stay.
        registry: How to talk to the registry.
        via: "client": we do, with every daemon; "transfer": the daemon does, from containerd 1.7 on; "auto": the daemon
            does where it can do all that is asked, else we.

    Raises:
        RegistryError: The registry refused, failed or misbehaved.
        NotFoundError: The image has nothing for the platform; the message says what it has.
        DataLossError: The registry sent something else than its descriptor says.
        UnpackError: A layer is damaged.
    """
    async with open_pull(
        services,
        ref,
        platform=platform,
        all_platforms=all_platforms,
        unpack=unpack,
        snapshotter=snapshotter,
        labels=labels,
        registry=registry,
        via=via,
    ) as pulling:
        return await pulling.wait()
