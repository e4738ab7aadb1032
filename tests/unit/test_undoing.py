"""What a flow has made is taken back in reverse, out of reach of cancellation, in bounded time, and accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest

from containerd_py._flows import undoing as undoing_module
from containerd_py._flows.undoing import Debt, settle_debts, settled, undoing
from containerd_py.errors import (
    AlreadyExistsError,
    CleanupError,
    ConnectionLostError,
    DaemonNotListeningError,
    FailedPreconditionError,
    NotFoundError,
)

Step = Callable[[], Awaitable[None]]


class FakeConnection:
    """All that undoing knows of a connection."""

    def __init__(self) -> None:
        self.debts: list[object] = []


@pytest.fixture
def connection() -> FakeConnection:
    return FakeConnection()


class Steps:
    """Steps that note their order; each suspends `pauses` times, to be torn open there if it can be."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []

    def __call__(self, name: str, *, raising: Exception | None = None, pauses: int = 3) -> Step:
        async def step() -> None:
            self.begun.append(name)
            for _ in range(pauses):
                await anyio.sleep(0.001)
            if raising is not None:
                raise raising
            self.done.append(name)

        return step


@pytest.fixture
def steps() -> Steps:
    return Steps()


class FlowError(Exception):
    """What a flow fails with."""


def current() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


# ── when steps run ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_failed_flow_is_undone_in_reverse(connection: FakeConnection, steps: Steps):
    """The last thing made goes first; the flow's own error is what the caller hears."""
    with pytest.raises(FlowError) as raised:
        async with undoing(connection) as undo:
            undo.push("a", steps("a"))
            undo.push("b", steps("b"))
            undo.push("c", steps("c"))
            raise FlowError
    assert steps.done == ["c", "b", "a"]
    assert not hasattr(raised.value, "__notes__")


async def test_what_is_kept_is_not_undone(connection: FakeConnection, steps: Steps):
    """After `keep` nothing made so far is taken back, and what is pushed later is."""
    async with undoing(connection) as undo:
        undo.push("a", steps("a"))
        undo.keep()
        undo.push("b", steps("b"))
    assert steps.done == ["b"]


async def test_nothing_to_undo_does_not_suspend(connection: FakeConnection):
    """A flow that kept everything returns even where it was cancelled at its very end: its result has an owner."""
    with anyio.CancelScope() as scope:
        async with undoing(connection) as undo:
            undo.keep()
            scope.cancel()
    assert not scope.cancelled_caught


async def test_making_something_that_exists_takes_nothing_back(connection: FakeConnection, steps: Steps):
    """AlreadyExistsError means somebody else's: its removal is dropped, the other steps stay."""
    with pytest.raises(AlreadyExistsError):
        async with undoing(connection) as undo:
            undo.push("a", steps("a"))
            with undo.making("b", steps("b")):
                raise AlreadyExistsError("b is there")
    assert steps.done == ["a"]


@pytest.mark.parametrize("error", [FlowError(), ConnectionLostError("lost"), NotFoundError("parent")])
async def test_making_that_fails_otherwise_is_undone(connection: FakeConnection, steps: Steps, error: Exception):
    """A create that failed in any other way may have taken effect: it is undone."""
    with pytest.raises(type(error)):
        async with undoing(connection) as undo:
            with undo.making("b", steps("b")):
                raise error
    assert steps.done == ["b"]


async def test_making_that_succeeds_stays_registered(connection: FakeConnection, steps: Steps):
    """What was made is undone when a later step fails."""
    with pytest.raises(FlowError):
        async with undoing(connection) as undo:
            with undo.making("b", steps("b")):
                pass
            raise FlowError
    assert steps.done == ["b"]


# ── what steps may do ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_has_gone_needs_no_undoing(connection: FakeConnection, steps: Steps):
    """NotFoundError from a step is success."""
    with pytest.raises(FlowError) as raised:
        async with undoing(connection) as undo:
            undo.push("a", steps("a"))
            undo.push("b", steps("b", raising=NotFoundError("b")))
            raise FlowError
    assert steps.done == ["a"]
    assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize("error", [FailedPreconditionError("busy"), OSError(16, "busy")])
async def test_failures_become_notes_and_stop_nothing(connection: FakeConnection, steps: Steps, error: Exception):
    """A step that fails is named on the flow's error with its reason; the remaining steps run."""
    with pytest.raises(FlowError) as raised:
        async with undoing(connection) as undo:
            undo.push("removing a", steps("a"))
            undo.push("removing b", steps("b", raising=error))
            raise FlowError
    assert steps.done == ["a"]
    (note,) = raised.value.__notes__
    assert note.startswith("left behind: ")
    assert "busy" in note
    assert "while removing b" in note


async def test_a_flow_that_ended_well_raises_what_it_left(connection: FakeConnection, steps: Steps):
    """Without another error, what could not be taken back is one."""
    with pytest.raises(CleanupError, match="busy") as raised:
        async with undoing(connection) as undo:
            undo.push("removing a", steps("a", raising=FailedPreconditionError("busy")))
    assert "while removing a" in raised.value.__cause__.__notes__


async def test_a_step_is_bounded(connection: FakeConnection, steps: Steps):
    """A step that hangs is given up at its bound and named; the others run."""
    assert undoing_module.CLEANUP_BOUND == 10.0
    began = anyio.current_time()
    with pytest.raises(FlowError) as raised:
        async with undoing(connection) as undo:
            undo.push("removing a", steps("a"))
            undo.push("removing b", anyio.sleep_forever, bound=0.05)
            raise FlowError
    assert anyio.current_time() - began >= 0.05
    assert steps.done == ["a"]
    (note,) = raised.value.__notes__
    assert "removing b took longer than 0.05 s and was given up: it is left behind" in note


# ── cancellation ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_scope_of_anyio_does_not_reach_the_steps(connection: FakeConnection, steps: Steps):
    """A flow whose scope was cancelled is undone whole, and the scope ends as cancelled."""
    with anyio.CancelScope() as scope:
        async with undoing(connection) as undo:
            undo.push("a", steps("a"))
            undo.push("b", steps("b"))
            scope.cancel()
            await anyio.sleep(10)
    assert scope.cancelled_caught
    assert steps.done == ["b", "a"]
    assert current().cancelling() == 0


async def cancelled_flow(connection: FakeConnection, steps: Steps, *, strikes: int, raising: Exception | None = None):
    """Run a flow in a task and cancel it natively, again while its steps run; return the task."""

    async def flow() -> None:
        async with undoing(connection) as undo:
            undo.push("a", steps("a"))
            undo.push("b", steps("b", raising=raising))
            await anyio.sleep(10)

    task = asyncio.get_running_loop().create_task(flow())
    await anyio.sleep(0.002)
    for _ in range(strikes):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.wait([task])
    return task


@pytest.mark.parametrize("strikes", [1, 2, 20])
async def test_task_cancel_does_not_reach_the_steps(connection: FakeConnection, steps: Steps, strikes: int):
    """`Task.cancel`, once, twice or in a storm, tears no step open; the task ends as cancelled, all counted."""
    task = await cancelled_flow(connection, steps, strikes=strikes)
    assert steps.done == ["b", "a"]
    assert task.cancelled()
    assert task.cancelling() == strikes


@pytest.mark.parametrize("strikes", [1, 2])
async def test_failures_are_told_through_a_cancellation(connection: FakeConnection, steps: Steps, strikes: int):
    """What a cancelled flow leaves behind is noted on the cancellation, also on one that came during the undoing."""
    task = await cancelled_flow(connection, steps, strikes=strikes, raising=FailedPreconditionError("busy"))
    assert steps.done == ["a"]
    with pytest.raises(asyncio.CancelledError) as raised:
        task.result()
    assert any("busy" in note for error in (raised.value, raised.value.__context__) if error for note in notes(error))


def notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


async def test_a_cancellation_during_the_undoing_of_success_is_raised(connection: FakeConnection, steps: Steps):
    """`Task.cancel` that comes while a flow that ended well is tidied up waits for that, and is not swallowed."""

    async def flow() -> None:
        async with undoing(connection) as undo:
            undo.push("a", steps("a"))

    task = asyncio.get_running_loop().create_task(flow())
    while not steps.begun:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert steps.done == ["a"]
    assert task.cancelled()


async def test_a_timeout_during_the_undoing_is_one(connection: FakeConnection, steps: Steps):
    """`asyncio.timeout` that runs out while steps run ends as a TimeoutError once they have."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit, undoing(connection) as undo:
            undo.push("a", steps("a", pauses=10))
            limit.reschedule(asyncio.get_running_loop().time() + 0.003)
    assert steps.done == ["a"]
    assert current().cancelling() == 0


@pytest.mark.parametrize("how", ["scope", "task"])
async def test_a_settled_call_runs_to_its_end(steps: Steps, how: str):
    """A call that must not be broken off is not; the cancellation follows it."""
    if how == "scope":
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_later(0.001, scope.cancel)
            await settled(steps("a"))
            pytest.fail("went on")
        assert scope.cancelled_caught
    else:
        task = asyncio.get_running_loop().create_task(settled(steps("a")))
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert steps.done == ["a"]
    assert current().cancelling() == 0


async def test_a_settled_call_returns_and_raises_as_it_is():
    """Undisturbed, value and error are the call's own."""

    async def give() -> int:
        await anyio.sleep(0)
        return 7

    async def fail() -> None:
        raise FlowError

    assert await settled(give) == 7
    with pytest.raises(FlowError):
        await settled(fail)


async def test_a_settled_call_is_bounded_once_cancelled(monkeypatch: pytest.MonkeyPatch):
    """A daemon that never answers holds a cancelled caller for the bound, not for ever."""
    monkeypatch.setattr(undoing_module, "CLEANUP_BOUND", 0.05)
    with anyio.move_on_after(0.01) as scope:
        await settled(anyio.sleep_forever)
    assert scope.cancelled_caught
    assert current().cancelling() == 0


# ── debts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [ConnectionLostError("lost"), DaemonNotListeningError("down", address="/a")])
async def test_what_a_dead_daemon_cannot_undo_is_owed(connection: FakeConnection, steps: Steps, error: Exception):
    """Steps that fail because the daemon is away are remembered on the connection, with no word on the flow's error."""
    with pytest.raises(FlowError) as raised:
        async with undoing(connection) as undo:
            undo.push("a", steps("a"))
            undo.push("b", steps("b", raising=error))
            raise FlowError
    assert [debt.what for debt in connection.debts] == ["b"]
    assert steps.done == ["a"]
    assert not hasattr(raised.value, "__notes__")


async def test_debts_are_paid_as_they_were_to_be(connection: FakeConnection, steps: Steps):
    """Once the daemon is back, everything owed is done, once, in the order of the flow's undoing."""
    down = [DaemonNotListeningError("down", address="/a")] * 2

    def once(name: str) -> Step:
        async def step() -> None:
            if down:
                raise down.pop()
            await steps(name)()

        return step

    with pytest.raises(FlowError):
        async with undoing(connection) as undo:
            undo.push("container", once("container"))
            undo.push("task", once("task"))
            raise FlowError
    assert [debt.what for debt in connection.debts] == ["task", "container"]
    await settle_debts(connection)
    assert steps.done == ["task", "container"]
    assert connection.debts == []


async def test_debts_wait_while_the_daemon_is_away(connection: FakeConnection, steps: Steps):
    """At the first sign that the daemon is still away, paying stops and everything stays owed."""
    connection.debts += [Debt("a", steps("a", raising=ConnectionLostError("lost"))), Debt("b", steps("b"))]
    await settle_debts(connection)
    assert [debt.what for debt in connection.debts] == ["a", "b"]
    assert steps.done == []


@pytest.mark.parametrize("error", [NotFoundError("gone"), FailedPreconditionError("in use"), OSError(2, "gone")])
async def test_a_debt_the_daemon_refuses_is_dropped(connection: FakeConnection, steps: Steps, error: Exception):
    """What the daemon that is back will not undo has become somebody else's; the other debts are paid."""
    connection.debts += [Debt("a", steps("a")), Debt("b", steps("b", raising=error))]
    await settle_debts(connection)
    assert connection.debts == []
    assert steps.done == ["a"]


async def test_a_daemon_that_is_stuck_is_given_way(connection: FakeConnection, monkeypatch: pytest.MonkeyPatch):
    """A debt that takes too long holds the present flow up for its bound only, and stays owed."""
    monkeypatch.setattr(undoing_module, "_SETTLE_BOUND", 0.02)
    connection.debts.append(Debt("a", anyio.sleep_forever))
    with anyio.fail_after(1):
        await settle_debts(connection)
    assert [debt.what for debt in connection.debts] == ["a"]


async def test_a_cancelled_payment_is_not_forgotten(connection: FakeConnection, steps: Steps):
    """A debt that fails again while its payer is cancelled stays owed."""
    connection.debts.append(Debt("a", steps("a", raising=ConnectionLostError("lost"))))
    task = asyncio.get_running_loop().create_task(settle_debts(connection))
    while not steps.begun:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert [debt.what for debt in connection.debts] == ["a"]


async def test_two_flows_pay_the_same_debts(connection: FakeConnection, steps: Steps):
    """Two that pay at once leave nothing owed and lose nothing."""
    connection.debts += [Debt(name, steps(name)) for name in "abc"]
    async with anyio.create_task_group() as group:
        group.start_soon(settle_debts, connection)
        group.start_soon(settle_debts, connection)
    assert connection.debts == []
    assert set(steps.done) == {"a", "b", "c"}
