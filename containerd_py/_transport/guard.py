"""Wakes the tasks of one call when its stream dies, and never loses a cancellation that somebody else asked for.

grpclib's own wrapper cancels the waiting task without taking the request back (`Task.uncancel`), and replaces an
outside cancellation by its own error. Both break structured concurrency: a time limit around the call would never end,
and a cancelled task would run on.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from grpclib.utils import Wrapper
from h2.exceptions import ProtocolError as Http2ProtocolError

# What grpclib and h2 trip over when they go on with a stream that has died.
_CONSEQUENCES: Final = (Http2ProtocolError, AssertionError)


class CallGuard(Wrapper):
    """One per call. Entered around every wait of the call; `cancel(error)` makes that wait raise `error`.

    A cancellation by a scope of anyio that strikes in the same turn, but second, shows at the next checkpoint only:
    whoever hears the error passes one (`Call.__aexit__`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._entered: dict[asyncio.Task[object], int] = {}  # how many cancellations had been delivered at entry
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
        is_one_on_its_way: bool = task._must_cancel  # type: ignore[attr-defined]  # noqa: SLF001
        self._entered[task] = task.cancelling() - is_one_on_its_way

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        task = asyncio.current_task()
        if task is None or task not in self._entered:
            return
        delivered_at_entry = self._entered.pop(task)
        is_woken = False
        if task in self._interrupted:
            self._interrupted.discard(task)
            if task.uncancel() > delivered_at_entry:
                return  # somebody else cancelled us as well: theirs wins, and is on its way as `exc_val`
            is_woken = exc_type is None or issubclass(exc_type, asyncio.CancelledError)
        if self._error is None:
            return
        if is_woken:
            raise self._error from None
        if isinstance(exc_val, _CONSEQUENCES):
            raise self._error from exc_val

    def cancel(self, error: Exception) -> None:
        """Make the waits of this call raise `error`, now and from now on."""
        if self._error is None:
            self._error = error
        self.cancelled = True
        for task in self._entered:
            if task not in self._interrupted:
                self._interrupted.add(task)
                task.cancel("its call has ended")
