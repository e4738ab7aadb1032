"""A flow under way next to a block that watches it: its progress to iterate over, and its result once it has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, Self, TypeVar

import anyio

from containerd_py._flows.progress_board import ProgressBoard
from containerd_py.errors import FailedPreconditionError
from containerd_py.progress import Progress

T = TypeVar("T")


class Watched(Generic[T]):
    """Iterates over a flow's progress. Who reads slowly or not at all holds up nothing: the newest reports are kept."""

    def __init__(self, what: str, flow: Callable[[ProgressBoard], Awaitable[T]]) -> None:
        self._what = what
        self._flow = flow
        self._board = ProgressBoard()
        self._has_ended = anyio.Event()
        self._results: list[T] = []
        self._failure: Exception | None = None
        self._is_failure_seen = False

    @property
    def result(self) -> T:
        """What the flow returned.

        Raises:
            FailedPreconditionError: It has not ended, or was left before its end.
            Exception: What it failed with.
        """
        if self._failure is not None:
            raise self._failure
        if not self._results:
            raise FailedPreconditionError(f"{self._what} has not ended: iterate to its end, or await wait()")
        return self._results[0]

    async def wait(self) -> T:
        """Wait for the flow's end and return its result; raise what it failed with."""
        await self._has_ended.wait()
        self.raise_unseen()
        return self.result

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Progress:
        progress = await self._board.take()
        if progress is None:
            self.raise_unseen()
            raise StopAsyncIteration
        return progress

    async def run(self) -> None:
        """Do it; for whoever lends this alone."""
        try:
            self._results.append(await self._flow(self._board))
        except Exception as error:  # noqa: BLE001  # raised where progress is read, or at the end of the block
            self._failure = error
        finally:
            self._has_ended.set()
            self._board.close()

    def raise_unseen(self) -> None:
        """Raise what the flow failed with, unless somebody has seen it."""
        if self._failure is not None and not self._is_failure_seen:
            self._is_failure_seen = True
            raise self._failure

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._what}>"
