"""Wakes the tasks of one call when its stream dies, and never loses a cancellation that somebody else asked for.

grpclib's own wrapper cancels the waiting task without taking the request back (`Task.uncancel`), and replaces an outside
cancellation by its own error. Both break structured concurrency: a time limit around the call would never end, and
a cancelled task would run on.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from grpclib.utils import Wrapper


class CallGuard(Wrapper):
    """One per call. Entered around every wait of the call; `cancel(error)` makes that wait raise `error`."""

    def __init__(self) -> None:
        super().__init__()
        self._entered: dict[asyncio.Task[object], int] = {}  # how many cancellations were pending at entry
        self._interrupted: set[asyncio.Task[object]] = set()

    @property
    def error(self) -> Exception | None:
        """What ended the call, if anything did."""
        return self._error

    def __enter__(self) -> None:
        if self._error is not None:
            raise self._error
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call was made outside of a task")
        self._entered[task] = task.cancelling()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        if task is None or task not in self._entered:
            return
        pending_at_entry = self._entered.pop(task)
        if task not in self._interrupted:
            return
        self._interrupted.discard(task)
        still_pending = task.uncancel()
        if still_pending > pending_at_entry:
            return  # somebody else cancelled us as well: theirs wins, and is on its way as `exc_val` or at the next wait
        if self._error is not None and (exc_type is None or issubclass(exc_type, asyncio.CancelledError)):
            raise self._error from None

    def cancel(self, error: Exception) -> None:
        """Make the waits of this call raise `error`, now and from now on."""
        self._error = error
        self.cancelled = True
        for task in self._entered:
            if task not in self._interrupted:
                self._interrupted.add(task)
                task.cancel()
