"""Pushing by transfer: the daemon talks to the registry, and tells us how it goes and asks us who we are.

Needs containerd 1.7 or later. Source: containerd, core/transfer.
"""

from __future__ import annotations

from containerd_py._flows.progress_board import ProgressBoard
from containerd_py._flows.push_plan import PushPlan, PushRequest, incomplete
from containerd_py._flows.transfer_errors import typed_error
from containerd_py._flows.transfer_registry import transfer_obstacle
from containerd_py._flows.transfer_talk import TransferTalk
from containerd_py.errors import ContainerdError, InvalidArgumentError, NotFoundError, RegistryError
from containerd_py.services.bundle import Services
from containerd_py.services.transfer import ImageStoreEndpoint
from containerd_py.types import Descriptor


async def push_obstacle(services: Services, request: PushRequest, plan: PushPlan) -> ContainerdError | None:
    """Return why the daemon cannot push what is asked the way it is asked; None if it can."""
    obstacle = await transfer_obstacle(services, request, "push")
    if obstacle is not None:
        return obstacle
    if plan.root.digest != request.target.digest:
        return InvalidArgumentError('the daemon itself pushes an image with its whole index alone: push via="client"')
    if plan.lacking:
        return incomplete(request, plan)
    if plan.has_skipped:
        return InvalidArgumentError('the daemon itself pushes layers of all kinds: push via="client" to leave some out')
    try:
        record = await services.images.get(request.source)
    except NotFoundError as error:
        return error
    if record.target.digest != request.target.digest:
        return InvalidArgumentError(
            f'{request.source} has become another image, and the daemon itself pushes by name: push via="client"'
        )
    return None


async def push_by_transfer(leased: Services, request: PushRequest, plan: PushPlan, board: ProgressBoard) -> Descriptor:
    """Have the daemon push an image, and return what the tag names now.

    Raises:
        NotSupportedError: The daemon is older than containerd 1.7.
        RegistryError: The registry refused, failed or misbehaved.
    """
    talk = TransferTalk(leased, request, board)
    try:
        await talk.transfer(lambda registry: (ImageStoreEndpoint(name=request.source), registry))
    except ContainerdError as error:
        talk.raise_lookup_failure(error)
        raise _typed(error, request.reference.host) from error.__cause__
    talk.warn_of_lookup_failures()
    return plan.root


def _typed(error: ContainerdError, host: str) -> ContainerdError:
    made = typed_error(error, host)
    # What is not found without a status was looked for here.
    is_of_daemon = isinstance(error, NotFoundError) and isinstance(made, RegistryError) and not made.status
    return error if is_of_daemon else made
