"""Tasks that work together: the failure of one is the failure of all, and comes out as it is, not in a group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVarTuple

import anyio
from anyio.abc import TaskGroup

ArgsT = TypeVarTuple("ArgsT")


class Workers:
    """Tasks begun in a block. Made by `working_together`.

    Each runs in a shielded scope of its own, through which alone it is cancelled. Left to the task group, anyio 4.16
    would have a scope inside of a worker take back cancellations of the task around the group (it adds what it counted
    to the enclosing scope, whose task is another), and one by `Task.cancel` would no longer be counted.
    """

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._scopes: set[anyio.CancelScope] = set()
        self._is_ending = False
        self._change = anyio.Event()

    def start_soon(self, function: Callable[[*ArgsT], Awaitable[object]], *args: *ArgsT) -> None:
        """Begin a task."""
        scope = anyio.CancelScope(shield=True)
        if self._is_ending:
            scope.cancel()
        self._scopes.add(scope)
        self._group.start_soon(self._run, scope, function, *args)

    async def join(self) -> None:
        """Wait until all tasks have ended."""
        while self._scopes:
            self._change = anyio.Event()
            await self._change.wait()

    async def end(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        self._is_ending = True
        for scope in self._scopes:
            scope.cancel()
        with anyio.CancelScope(shield=True):
            await self.join()

    async def _run(
        self,
        scope: anyio.CancelScope,
        function: Callable[[*ArgsT], Awaitable[object]],
        *args: *ArgsT,
    ) -> None:
        try:
            with scope:
                await function(*args)
        finally:
            self._scopes.discard(scope)
            self._change.set()


@asynccontextmanager
async def working_together() -> AsyncIterator[Workers]:
    """Lend workers; when one or the block fails, the others are cancelled and that first failure is raised.

    A block that ends well waits for its workers. Failures of the others while they end become notes on the first one.
    """
    try:
        async with anyio.create_task_group() as group:
            workers = Workers(group)
            try:
                yield workers
                await workers.join()
            except BaseException:
                await workers.end()
                raise
    except BaseExceptionGroup as failures:
        first, *others = _leaves(failures)
        for other in others:
            first.add_note(f"and, while the rest was ended: {other!r}")
        raise first from first.__cause__


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return leaves
