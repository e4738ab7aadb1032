"""A guard wakes the waits of one call, and no cancellation that somebody else asked for is lost or left uncounted."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import StreamClosedError

from containerd_py._generated.containerd.services.version.v1 import VersionResponse
from containerd_py._generated.google.protobuf import Empty
from containerd_py._transport.channel import Channel
from containerd_py._transport.guard import CallGuard
from containerd_py.errors import ConnectionLostError

LOST = StreamTerminatedError("Connection lost")
Strike = Callable[[], None]


def current() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


def soon(*strikes: Strike) -> None:
    """Let several things happen in one turn of the loop, in order, after the caller has begun to wait."""
    for strike in strikes:
        asyncio.get_running_loop().call_soon(strike)


async def wait_in(guard: CallGuard) -> None:
    with guard:
        await asyncio.get_running_loop().create_future()


async def still_structured() -> None:
    """Prove that time limits work in this task: none of its cancellations is left uncounted."""
    assert current().cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await asyncio.sleep(10)
    with anyio.move_on_after(0.001) as scope:
        await anyio.sleep(10)
    assert scope.cancelled_caught
    await asyncio.sleep(0)
    assert current().cancelling() == 0


# ── the guard by itself ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_wait_raises_what_ended_the_call():
    """The waiting task is woken with the error, and its cancellation count is as before."""
    guard = CallGuard()
    soon(lambda: guard.cancel(LOST))
    with pytest.raises(StreamTerminatedError) as raised:
        await wait_in(guard)
    assert raised.value is LOST
    await still_structured()


async def test_later_waits_raise_at_once():
    """A call that has ended can be waited for no more."""
    guard = CallGuard()
    guard.cancel(LOST)
    assert guard.error is LOST
    with pytest.raises(StreamTerminatedError):
        await wait_in(guard)
    await still_structured()


async def test_all_waits_of_a_call_are_woken_once():
    """Two tasks in one call, as sender and receiver are, both wake; ending it twice wakes nobody twice."""
    guard = CallGuard()
    balanced: list[bool] = []

    async def wait() -> None:
        with pytest.raises(StreamTerminatedError):
            await wait_in(guard)
        balanced.append(current().cancelling() == 0)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        group.start_soon(wait)
        await anyio.sleep(0)
        soon(lambda: guard.cancel(LOST), lambda: guard.cancel(StreamTerminatedError("again")))
    assert balanced == [True, True]


async def test_a_wait_that_just_ended_is_not_lost_on_the_caller():
    """The end of a call in the turn in which its wait was fulfilled is an error, not a stray cancellation later."""
    guard = CallGuard()
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    soon(lambda: future.set_result(None), lambda: guard.cancel(LOST))
    with pytest.raises(StreamTerminatedError), guard:
        await future
    await still_structured()


async def test_a_status_wins_over_the_end_of_the_connection():
    """What the daemon said stays what the caller hears, also when the connection went in the same turn."""
    guard = CallGuard()
    with pytest.raises(GRPCError), guard:
        guard.cancel(LOST)
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise GRPCError(Status.NOT_FOUND, "x") from None
    await still_structured()


@pytest.mark.parametrize("error", [StreamClosedError(1), AssertionError("short")])
async def test_consequences_of_the_end_give_way_to_its_reason(error: Exception):
    """What a dead stream makes h2 and grpclib trip over is not what the caller should hear."""
    guard = CallGuard()
    with pytest.raises(StreamTerminatedError) as raised, guard:
        guard._error = LOST
        raise error
    assert raised.value.__cause__ is error


async def test_outside_of_a_task_nothing_can_wait():
    """A guard entered by a callback of the loop is refused: it could not be woken."""
    refused = asyncio.get_running_loop().create_future()

    def enter() -> None:
        try:
            CallGuard().__enter__()
        except RuntimeError as error:
            refused.set_result(error)

    soon(enter)
    assert "outside of a task" in str(await refused)


@pytest.mark.parametrize("foreign_first", [True, False], ids=["foreign first", "ours first"])
async def test_task_cancel_wins(foreign_first: bool):
    """`Task.cancel` in the turn in which the call ends: the task is cancelled, whoever came first."""
    guard = CallGuard()

    async def body() -> None:
        strikes = [lambda: task.cancel(), lambda: guard.cancel(LOST)]
        soon(*(strikes if foreign_first else reversed(strikes)))
        await wait_in(guard)

    task = asyncio.get_running_loop().create_task(body())
    await asyncio.wait([task])
    assert task.cancelled()
    assert task.cancelling() == 1


@pytest.mark.parametrize("foreign_first", [True, False], ids=["foreign first", "ours first"])
async def test_asyncio_timeout_wins(foreign_first: bool):
    """A limit of `asyncio.timeout` that runs out in that turn is a TimeoutError, and the count is as before."""
    guard = CallGuard()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:

            def strike() -> None:  # a limit that is rescheduled strikes in the next turn: so do both
                strikes = [lambda: limit.reschedule(0), lambda: soon(lambda: guard.cancel(LOST))]
                for each in strikes if foreign_first else reversed(strikes):
                    each()

            soon(strike)
            await wait_in(guard)
    await still_structured()


async def test_a_cancellation_pending_at_entry_is_not_ours_to_take_back():
    """A task that works on after being cancelled keeps its count through the end of a call."""
    guard = CallGuard()

    async def body() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            soon(lambda: guard.cancel(LOST))
            with pytest.raises(StreamTerminatedError):
                await wait_in(guard)
        return "worked on"

    task = asyncio.get_running_loop().create_task(body())
    soon(lambda: task.cancel())
    assert await task == "worked on"
    assert task.cancelling() == 1


async def test_a_task_that_cancelled_itself_is_cancelled():
    """A cancellation not yet delivered at entry is somebody else's, and wins."""
    guard = CallGuard()

    async def body() -> None:
        current().cancel()
        soon(lambda: guard.cancel(LOST))
        await wait_in(guard)

    task = asyncio.get_running_loop().create_task(body())
    await asyncio.wait([task])
    assert task.cancelled()
    assert task.cancelling() == 1
