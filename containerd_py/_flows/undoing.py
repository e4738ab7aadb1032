"""Taking back what a flow has made, whatever ends it: failure, cancellation, a daemon that dies.

A step is registered *before* the call whose effect it undoes: a call that was cancelled may have taken effect all the
same. Steps run in reverse, out of reach of cancellation and bounded in time. What cannot be undone because the daemon
has gone is remembered on the connection and undone when the daemon is back.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final, Generic, TypeVar

import anyio
import attrs
from anyio.lowlevel import checkpoint_if_cancelled

from containerd_py._transport.connection import Connection
from containerd_py.errors import AlreadyExistsError, CleanupError, ContainerdError, NotFoundError, UnavailableError

CLEANUP_BOUND: Final = 10.0  # seconds for one step
# Seconds for a task or exec: to die of SIGKILL, and then up to 10 that its shim waits for output which a child of it
# holds open (containerd since 1.7.29 and 2.0; 2 before).
PROCESS_BOUND: Final = 30.0
CONTAINER_BOUND: Final = 90.0  # seconds for a container: detaching from its networks, others may have their turn before
_SETTLE_BOUND: Final = 2.0  # seconds for what an earlier flow left, before giving way to the present one

T = TypeVar("T")
Step = Callable[[], Awaitable[object]]


@attrs.define
class _Outcome(Generic[T]):
    """How a protected call ended, and whether this task was cancelled meanwhile by `Task.cancel`."""

    values: list[T] = attrs.field(factory=list)
    error: Exception | None = None
    cancelled: CancelledError | None = None

    def unwrap(self) -> T:
        if self.cancelled is not None:
            raise self.cancelled
        if self.error is not None:
            raise self.error
        return self.values[0]


async def _protected(call: Callable[[], Awaitable[T]]) -> _Outcome[T]:
    """Run a call to its end in a task of its own, which neither scopes nor `Task.cancel` of this one can reach."""
    outcome = _Outcome[T]()

    async def run() -> None:
        with anyio.CancelScope(shield=True):
            try:
                outcome.values.append(await call())
            except Exception as error:  # noqa: BLE001  # carried over to the caller
                outcome.error = error

    with anyio.CancelScope(shield=True):
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(run)
        except CancelledError as error:
            outcome.cancelled = error
    return outcome


async def settled(call: Callable[[], Awaitable[T]]) -> T:
    """Run a call to its end and return what it returned, however often this task is cancelled meanwhile.

    For calls that take effect at the daemon some time after they were sent: one that is broken off may still succeed
    later, behind the back of whoever undoes it. A cancellation is raised once the call has ended, or
    `CLEANUP_BOUND` seconds after it came: a daemon that does not answer must not hold its caller for ever.
    """
    outcome = _Outcome[T]()
    ended = anyio.Event()
    grace = anyio.CancelScope(shield=True)

    async def run() -> None:
        with grace:
            try:
                outcome.values.append(await call())
            except Exception as error:  # noqa: BLE001  # carried over to the caller
                outcome.error = error
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        try:
            await ended.wait()
        except CancelledError:
            grace.deadline = anyio.current_time() + CLEANUP_BOUND
            raise
    await checkpoint_if_cancelled()
    return outcome.unwrap()


async def tidy(what: str, step: Step, *, bound: float | None = None) -> None:
    """Run one cleanup step, protected and bounded. That there is nothing left to clean is success.

    Raises:
        CleanupError: The step took longer than `bound` seconds, `CLEANUP_BOUND` by default.
        ContainerdError: The step failed.
    """
    limit = CLEANUP_BOUND if bound is None else bound

    async def bounded() -> None:
        with anyio.move_on_after(limit):
            with suppress(NotFoundError):
                await step()
            return
        raise CleanupError(f"{what} took longer than {limit:g} s and was given up: it is left behind")

    (await _protected(bounded)).unwrap()


@attrs.frozen
class Debt:
    """A step that could not be done because the daemon was away."""

    what: str
    step: Step
    bound: float | None = None  # seconds; None: `CLEANUP_BOUND`


class Undo:
    """The steps that undo a flow so far."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._steps: list[Debt] = []

    def push(self, what: str, step: Step, *, bound: float | None = None) -> None:
        """Register the step that undoes the call about to be made; `what` names it, as in "removing snapshot x"."""
        self._steps.append(Debt(what, step, bound))

    @contextmanager
    def making(self, what: str, step: Step, *, bound: float | None = None) -> Iterator[None]:
        """Register the step around the call that makes something; what exists already is somebody else's, and stays."""
        debt = Debt(what, step, bound)
        self._steps.append(debt)
        try:
            yield
        except AlreadyExistsError:
            self._steps.remove(debt)
            raise

    def keep(self) -> None:
        """Keep everything that was made: the flow has succeeded."""
        self._steps.clear()

    async def run(self) -> list[Exception]:
        """Undo in reverse; return what failed, with the step named in a note.

        A `Task.cancel` that came meanwhile is raised once all is undone, with the failures as its notes.
        """
        if not self._steps:
            return []  # without a checkpoint: what was kept must reach whoever asked for it
        failures: list[Exception] = []
        try:
            (await _protected(lambda: self._run(failures))).unwrap()
        except CancelledError as cancelled:
            note_failures(failures, cancelled)
            raise
        return failures

    async def _run(self, failures: list[Exception]) -> None:
        while self._steps:
            debt = self._steps.pop()
            try:
                await tidy(debt.what, debt.step, bound=debt.bound)
            except UnavailableError:
                self._connection.debts.append(debt)
            except (ContainerdError, OSError) as error:
                error.add_note(f"while {debt.what}")
                failures.append(error)


async def undo_all(debts: Iterable[Debt]) -> list[Exception]:
    """Run steps in their order, each bounded, out of reach of cancellation; return what failed, with the step named.

    One that fails does not keep the others from running. A `Task.cancel` that came meanwhile is raised at the end, with
    the failures as its notes.
    """
    failures: list[Exception] = []

    async def run() -> None:
        for debt in debts:
            try:
                await tidy(debt.what, debt.step, bound=debt.bound)
            except Exception as error:  # noqa: BLE001  # all are returned
                error.add_note(f"while {debt.what}")
                failures.append(error)

    try:
        (await _protected(run)).unwrap()
    except CancelledError as cancelled:
        note_failures(failures, cancelled)
        raise
    return failures


def note_failures(failures: Iterable[Exception], error: BaseException) -> None:
    """Tell on an error what was left behind besides."""
    for failure in failures:
        error.add_note(f"left behind: {failure} ({'; '.join(getattr(failure, '__notes__', ()))})")


@asynccontextmanager
async def undoing(connection: Connection) -> AsyncIterator[Undo]:
    """Lend an `Undo` that runs unless `keep` was called; its failures become notes on what ended the flow.

    Raises:
        CleanupError: The flow ended well, but what it had to take back is left behind.
    """
    undo = Undo(connection)
    try:
        yield undo
    except BaseException as error:
        note_failures(await undo.run(), error)
        raise
    failures = await undo.run()
    if failures:
        raise CleanupError("; ".join(str(failure) for failure in failures)) from failures[0]


async def settle_debts(connection: Connection) -> None:
    """Undo what could not be undone while the daemon was away; what still cannot stays remembered.

    In the order in which it failed, which is a flow's reverse already: a task before its container.
    """
    while connection.debts:
        debt = connection.debts[0]
        assert isinstance(debt, Debt)
        try:
            await tidy(debt.what, debt.step, bound=_SETTLE_BOUND)
        except (UnavailableError, CleanupError):
            return  # still away, or stuck
        except (ContainerdError, OSError):
            pass  # the daemon is back and refuses: the object is in use or has become somebody else's
        # Only now, for this task may have been cancelled; and another one may have settled the same debt.
        with suppress(ValueError):
            connection.debts.remove(debt)
