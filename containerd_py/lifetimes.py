"""Deleting what lives in the daemon on the way out of a block. Knows only that a thing can be deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from inspect import iscoroutine
from typing import Protocol, TypeVar

from containerd_py._flows.undoing import CLEANUP_BOUND, CONTAINER_BOUND, PROCESS_BOUND, tidy
from containerd_py.container import Container
from containerd_py.errors import InvalidArgumentError
from containerd_py.process import Process


class Deletable(Protocol):
    """A handle of something in the daemon."""

    async def delete(self) -> object:
        """Delete it."""
        ...


def deletion_bound(thing: object) -> float:
    """Return how many seconds deleting this may take."""
    match thing:
        case Container():
            return CONTAINER_BOUND
        case Process():
            return PROCESS_BOUND
    return CLEANUP_BOUND


DeletableT = TypeVar("DeletableT", bound=Deletable)


@asynccontextmanager
async def deleting(thing: DeletableT) -> AsyncIterator[DeletableT]:
    """Lend a task, exec, container, image or lease, and delete it on the way out; a process that runs is killed for it.

    The deletion is out of reach of cancellation and bounded: to 30 s for a process, to 90 s for a container, which may
    be on networks, else to 10 s. That the thing has gone already is fine.

    Raises:
        InvalidArgumentError: This is nothing that can be deleted, such as a call that was not awaited.
        CleanupError: Deleting took too long.
        ContainerdError: Deleting failed.
    """
    given: object = thing
    if iscoroutine(given):
        given.close()
        raise InvalidArgumentError(f"deleting wants what {given.__qualname__} returns: await it first")
    if not callable(getattr(thing, "delete", None)):
        raise InvalidArgumentError(f"{thing!r} has nothing to delete: give a handle such as a task, container or image")

    async def delete() -> object:
        return await (thing.delete(force=True) if isinstance(thing, Process) else thing.delete())

    bound = deletion_bound(thing)
    try:
        yield thing
    except BaseException as error:
        try:
            await tidy(f"deleting {thing!r}", delete, bound=bound)
        except Exception as failure:  # noqa: BLE001  # what ended the block matters more
            error.add_note(f"left behind: {thing!r}: {failure}")
        raise
    await tidy(f"deleting {thing!r}", delete, bound=bound)
