"""Pushing an image, whichever way suits daemon and request, with its progress on the side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs

from containerd_py import platforms
from containerd_py._flows.leasing import hold_lease
from containerd_py._flows.load_image import find_record
from containerd_py._flows.progress_board import ProgressBoard
from containerd_py._flows.pull import VIAS, Via
from containerd_py._flows.push_plan import PushPlan, PushRequest, plan_push
from containerd_py._flows.registry_push import push_to_registry
from containerd_py._flows.together import working_together
from containerd_py._flows.transfer_push import push_by_transfer, push_obstacle
from containerd_py._flows.watched import Watched
from containerd_py.errors import InvalidArgumentError, RegistryTLSError, UnimplementedError
from containerd_py.image import Image
from containerd_py.references import Reference
from containerd_py.remotes.registry import Registry, chosen_registry
from containerd_py.services.bundle import Services
from containerd_py.services.leases import LeaseResource
from containerd_py.types import Descriptor, Platform

Platforms = Sequence[Platform | str] | Platform | str | None


class Push(Watched[Descriptor]):
    """A push under way: an iterator over its progress, and what was pushed once it has ended. Made by `open_push`."""

    def __init__(self, services: Services, wish: PushWish) -> None:
        async def flow(board: ProgressBoard) -> Descriptor:
            return await wish.fulfil(services, board)

        super().__init__(f"the push to {wish.reference}", flow)
        self.ref = str(wish.reference)  # the reference in full
        self._namespace = services.namespace

    @property
    def target(self) -> Descriptor:
        """What the reference names at the registry now: a manifest or an index. See `wait`, which waits for it.

        Raises:
            FailedPreconditionError: The push has not ended, or was left before its end.
            Exception: What it failed with.
        """
        return self.result

    def __repr__(self) -> str:
        return f"<Push {self.ref} namespace={self._namespace}>"


@attrs.frozen(kw_only=True)
class PushWish:
    """A push as it was asked for; what was left open is settled with the daemon."""

    reference: Reference
    source: Image | str
    platforms: tuple[Platform, ...]
    registry: Registry
    skip_non_distributable: bool
    via: Via

    def __attrs_post_init__(self) -> None:
        if self.via not in VIAS:
            raise InvalidArgumentError(f"via={self.via!r}: say one of {', '.join(VIAS)}")

    async def fulfil(self, services: Services, board: ProgressBoard) -> Descriptor:
        """Push."""
        source = self.source if isinstance(self.source, Image) else await find_record(services, self.source)
        request = PushRequest(
            reference=self.reference,
            source=source.name,
            target=source.target,
            registry=self.registry,
            platforms=self.platforms,
            skip_non_distributable=self.skip_non_distributable,
        )
        # A lease of its own, also inside another one: what it holds must not stay in that.
        async with hold_lease(services.in_scope()) as leased:
            assert leased.lease is not None
            held = LeaseResource(type="content", id=request.target.digest)
            await leased.leases.add_resource(leased.lease, held)
            return await self._push(leased, request, await plan_push(leased, request), board)

    async def _push(self, leased: Services, request: PushRequest, plan: PushPlan, board: ProgressBoard) -> Descriptor:
        if self.via == "client":
            return await push_to_registry(leased, request, plan, board)
        obstacle = await push_obstacle(leased, request, plan)
        if self.via == "transfer":
            if obstacle is not None:
                raise obstacle
            return await push_by_transfer(leased, request, plan, board)
        if obstacle is None:
            try:
                return await push_by_transfer(leased, request, plan, board)
            except (UnimplementedError, RegistryTLSError):
                pass  # the daemon trusts other certificates than this program, or lacks what its plugins promise
        return await push_to_registry(leased, request, plan, board)


@asynccontextmanager
async def open_push(
    services: Services,
    ref: str,
    *,
    source: Image | str | None = None,
    platform: Platforms = None,
    registry: Registry | None = None,
    skip_non_distributable: bool = False,
    via: Via = "auto",
) -> AsyncIterator[Push]:
    """Push an image while the block reads the progress; leaving the block early cancels the push.

    A cancelled or failed push leaves nothing at the daemon; at the registry it leaves blobs that no tag leads to. See
    `push` for the arguments.

    Raises:
        Exception: What the push failed with, out of the iteration; at the end of the block if nobody read it.
    """
    wish = PushWish(
        reference=Reference.parse(ref),
        source=ref if source is None else source,
        platforms=_parsed(platform),
        registry=chosen_registry(registry),
        skip_non_distributable=skip_non_distributable,
        via=via,
    )
    pushing = Push(services, wish)
    async with working_together() as group:
        group.start_soon(pushing.run)
        try:
            yield pushing
        finally:
            await group.end()
    pushing.raise_unseen()


async def push(
    services: Services,
    ref: str,
    *,
    source: Image | str | None = None,
    platform: Platforms = None,
    registry: Registry | None = None,
    skip_non_distributable: bool = False,
    via: Via = "auto",
) -> Descriptor:
    """Push an image, and return what the reference names at the registry now.

    Args:
        services: Where from.
        ref: Where to; a bare name is normalised as in a pull. A digest in it must be that of what is pushed.
        source: Which image, as a handle or by name; None: the one that is called as the reference.
        platform: Of which platform or platforms; None: all the image has. One platform of an index is pushed as its
            manifest, several as an index of those alone.
        registry: How to talk to the registry.
        skip_non_distributable: Leave layers out that their makers do not want handed on.
        via: "client": we do, with every daemon; "transfer": the daemon does, from containerd 1.7 on; "auto": the daemon
            does where it can do all that is asked, else we.

    Raises:
        NotFoundError: There is no such image, it has nothing for the platform, or content is missing; the message says
            what to do.
        RegistryError: The registry refused, failed or misbehaved.
        DataLossError: Content is damaged, here or once it had arrived there.
    """
    async with open_push(
        services,
        ref,
        source=source,
        platform=platform,
        registry=registry,
        skip_non_distributable=skip_non_distributable,
        via=via,
    ) as pushing:
        return await pushing.wait()


def _parsed(platform: Platforms) -> tuple[Platform, ...]:
    if platform is None:
        return ()
    given = [platform] if isinstance(platform, str | Platform) else list(platform)
    if not given:
        raise InvalidArgumentError("platform: a push of no platform is none; leave it out to push all there are")
    return tuple(platforms.parse(one) if isinstance(one, str) else platforms.normalize(one) for one in given)
