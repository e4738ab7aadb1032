"""A guard wakes the waits of one call, and no cancellation that somebody else asked for is lost or left uncounted."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable

import anyio
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import StreamClosedError

from containerd_py._generated.containerd.services.version.v1 import VersionStub
from containerd_py._transport.channel import Channel
from containerd_py._transport.guard import CallGuard
from containerd_py._transport.http2 import Http2Protocol
from containerd_py.errors import ClientClosedError, ConnectionLostError

LOST = StreamTerminatedError("Connection lost")
Strike = Callable[[], None]
ORDERS = pytest.mark.parametrize("foreign_first", [True, False], ids=["foreign first", "ours first"])


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


@ORDERS
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


@ORDERS
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


# ── a whole call under a guard ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def channel() -> AsyncIterator[Channel]:
    """Lend a channel to somebody who listens and never answers."""
    with tempfile.TemporaryDirectory(prefix="guard-") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/s")
        listener.listen()
        made = Channel(f"{folder}/s")
        yield made
        made.close()


def lose(channel: Channel) -> None:
    assert channel._protocol is not None
    channel._protocol.processor.close("Connection lost")


async def call(channel: Channel) -> None:
    await VersionStub(channel).version()


async def begin(group: anyio.abc.TaskGroup, channel: Channel) -> None:
    """Have the channel connected, by a call that goes on."""

    async def ignored() -> None:
        with pytest.raises(ConnectionLostError):
            await call(channel)

    group.start_soon(ignored)
    while channel._protocol is None:
        await anyio.sleep(0)


async def test_a_call_on_a_lost_connection_is_a_typed_error(channel: Channel):
    """Every call under way when the connection goes raises ConnectionLostError; counts are balanced."""
    async with anyio.create_task_group() as group:
        await begin(group, channel)
        soon(lambda: lose(channel))
        with pytest.raises(ConnectionLostError):
            await call(channel)
    await still_structured()


@ORDERS
async def test_a_scope_of_anyio_wins_over_a_lost_connection(channel: Channel, foreign_first: bool):
    """A cancelled scope ends as cancelled, not with the error of the connection that went in the same turn."""
    async with anyio.create_task_group() as group:
        await begin(group, channel)
        with anyio.CancelScope() as scope:
            strikes = [scope.cancel, lambda: lose(channel)]
            soon(*(strikes if foreign_first else reversed(strikes)))
            await call(channel)
            pytest.fail("went on")
        assert scope.cancelled_caught
    await still_structured()


@ORDERS
async def test_an_abandoned_stream_lets_a_scope_win_too(channel: Channel, foreign_first: bool):
    """The same for a stream that is read in a loop, closed by its context."""
    from contextlib import aclosing

    from containerd_py._generated.containerd.services.content.v1 import ContentStub, ListContentRequest

    async with anyio.create_task_group() as group:
        await begin(group, channel)
        with anyio.CancelScope() as scope:
            strikes = [scope.cancel, lambda: lose(channel)]
            soon(*(strikes if foreign_first else reversed(strikes)))
            async with aclosing(ContentStub(channel).list(ListContentRequest())) as pages:
                async for _ in pages:
                    pytest.fail("nobody answers")
        assert scope.cancelled_caught
    await still_structured()


@ORDERS
async def test_task_cancel_wins_over_a_lost_connection(channel: Channel, foreign_first: bool):
    """The same for `Task.cancel`."""
    async with anyio.create_task_group() as group:
        await begin(group, channel)
        task = asyncio.get_running_loop().create_task(call(channel))
        strikes = [lambda: task.cancel(), lambda: lose(channel)]
        await asyncio.sleep(0)
        soon(*(strikes if foreign_first else reversed(strikes)))
        await asyncio.wait([task])
    assert task.cancelled()
    assert task.cancelling() == 1


@ORDERS
async def test_a_timeout_wins_over_a_lost_connection(channel: Channel, foreign_first: bool):
    """The same for `asyncio.timeout`."""
    async with anyio.create_task_group() as group:
        await begin(group, channel)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:

                def strike() -> None:
                    strikes = [lambda: limit.reschedule(0), lambda: soon(lambda: lose(channel))]
                    for each in strikes if foreign_first else reversed(strikes):
                        each()

                soon(strike)
                await call(channel)
    await still_structured()


async def test_a_connection_that_is_gone_when_it_is_made(channel: Channel, monkeypatch: pytest.MonkeyPatch):
    """A peer that hangs up before the first call is begun is a lost connection, and nothing else."""
    made = Http2Protocol.connection_made

    def made_and_lost(self: Http2Protocol, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        self.processor.close("Connection lost")

    monkeypatch.setattr(Http2Protocol, "connection_made", made_and_lost)
    for _ in range(2):
        with pytest.raises(ConnectionLostError):
            await call(channel)


async def test_a_call_that_waits_for_the_connection_ends_with_the_client(channel: Channel):
    """Closing a client while it connects ends the calls that wait for that, and leaves no connection behind."""
    failures: list[Exception] = []

    async def expect() -> None:
        try:
            await call(channel)
        except ClientClosedError as error:
            failures.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(expect)
        await anyio.sleep(0)
        channel.close()
    assert len(failures) == 3
    assert channel._protocol is None or channel._protocol.connection.is_closing()
