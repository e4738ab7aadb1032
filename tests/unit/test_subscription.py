"""A subscription is live when it says so, outlasts its connection, and hands over every envelope exactly once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from containerd_py._generated.containerd.services.events.v1 import PublishRequest, SubscribeRequest
from containerd_py._generated.containerd.types import Envelope as WireEnvelope
from containerd_py._generated.google.protobuf import Empty
from containerd_py._generated.google.protobuf import Timestamp as WireTimestamp
from containerd_py.errors import (
    CancelledByDaemonError,
    ConnectionLostError,
    ContainerdError,
    DaemonNotListeningError,
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    UnavailableError,
    UnknownError,
)
from containerd_py.services import subscription
from containerd_py.services.event_types import Envelope, EventsGap
from containerd_py.services.events import EventsService
from containerd_py.services.subscription import EnvelopeBuffer
from containerd_py.typeurl import TypedValue

Session = Callable[["ScriptedDaemon"], AsyncIterator[WireEnvelope]]


class ScriptedDaemon:
    """Stands for connection and stub: each subscription goes through the next session of the script."""

    def __init__(self, *sessions: Session | ContainerdError, publish: ContainerdError | None = None) -> None:
        self._sessions = list(sessions)
        self._publish = publish
        self.requests: list[SubscribeRequest] = []
        self.probes: list[PublishRequest] = []
        self.probed = anyio.Event()
        self.closed = 0

    def stub(self, _stub_class: object) -> ScriptedDaemon:
        return self

    def stream(self, call: Any, request: SubscribeRequest) -> aclosing[AsyncGenerator[WireEnvelope]]:
        return aclosing(call(request))

    async def publish(self, request: PublishRequest) -> Empty:
        await anyio.sleep(0)
        self.probes.append(request)
        if self._publish is not None:
            raise self._publish
        self.probed.set()
        return Empty()

    async def subscribe(self, request: SubscribeRequest) -> AsyncGenerator[WireEnvelope]:
        self.requests.append(request)
        session = self._sessions.pop(0)
        self.probed = anyio.Event()
        try:
            await anyio.sleep(0)
            if isinstance(session, ContainerdError):
                raise session
            async for message in session(self):
                yield message
        finally:
            self.closed += 1

    @property
    def events(self) -> EventsService:
        return EventsService(self)  # type: ignore[arg-type]


def numbered(number: int) -> WireEnvelope:
    return WireEnvelope(timestamp=WireTimestamp(seconds=number), namespace="n", topic=f"/n/{number}")


def session(*numbers: int, end: ContainerdError | None = None, silent: bool = False, deaf_for: int = 0) -> Session:
    """Script a session: the probe comes back, then events, then the end, or silence."""

    async def run(daemon: ScriptedDaemon) -> AsyncIterator[WireEnvelope]:
        for _ in range(deaf_for):
            await daemon.probed.wait()
            daemon.probed = anyio.Event()
        await daemon.probed.wait()
        yield WireEnvelope(topic=daemon.probes[-1].topic)
        for number in numbers:
            yield numbered(number)
        if silent:
            await anyio.sleep_forever()
        if end is not None:
            raise end

    return run


async def take(envelopes: AsyncIterator[Envelope], count: int) -> list[str]:
    """Receive so many envelopes as their topics, a gap as its reason."""
    with anyio.fail_after(5):
        taken = [await anext(envelopes) for _ in range(count)]
    return [envelope.event.reason if isinstance(envelope.event, EventsGap) else envelope.topic for envelope in taken]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses short: what is tested is what follows what."""
    monkeypatch.setattr(subscription, "_FIRST_RECONNECT_PAUSE", 0.001)
    monkeypatch.setattr(subscription, "_LONGEST_RECONNECT_PAUSE", 0.004)
    monkeypatch.setattr(subscription, "_FIRST_PROBE_PAUSE", 0.001)
    monkeypatch.setattr(subscription, "_LONGEST_PROBE_PAUSE", 0.004)
    monkeypatch.setattr(subscription, "RETRY_PAUSES", (0.0, 0.001, 0.001))


# ── going live ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_probe_is_asked_for_and_left_out() -> None:
    """The daemon's filters let the probe through, the iterator does not."""
    daemon = ScriptedDaemon(session(1, silent=True))
    async with daemon.events.subscribe('topic=="/n/1"') as envelopes:
        assert await take(envelopes, 1) == ["/n/1"]
    assert daemon.requests[0].filters == ['topic=="/n/1"', f'topic=="{daemon.probes[0].topic}"']


async def test_without_filters_none_are_sent() -> None:
    """Asking for everything asks for the probe as well; a filter for it alone would shut all others out."""
    daemon = ScriptedDaemon(session(silent=True))
    async with daemon.events.subscribe():
        pass
    assert daemon.requests[0].filters == []


async def test_the_probe_is_repeated_until_it_comes_back() -> None:
    """A probe that was published before the daemon had the subscription is lost; another one follows."""
    daemon = ScriptedDaemon(session(1, silent=True, deaf_for=4))
    async with daemon.events.subscribe("namespace==n") as envelopes:
        assert await take(envelopes, 1) == ["/n/1"]
    assert len(daemon.probes) >= 5


async def test_any_event_shows_that_it_is_live() -> None:
    """An event that comes before the probe is proof enough, and is delivered."""

    async def run(daemon: ScriptedDaemon) -> AsyncIterator[WireEnvelope]:
        yield numbered(1)
        await anyio.sleep_forever()

    daemon = ScriptedDaemon(run)
    async with daemon.events.subscribe("namespace==n") as envelopes:
        assert await take(envelopes, 1) == ["/n/1"]


async def test_a_daemon_that_delivers_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probing is bounded."""

    async def run(daemon: ScriptedDaemon) -> AsyncIterator[WireEnvelope]:
        await anyio.sleep_forever()
        yield numbered(1)

    monkeypatch.setattr(subscription, "_PROBE_LIMIT", 0.05)
    daemon = ScriptedDaemon(run)
    with pytest.raises(UnavailableError, match="no event came"):
        async with daemon.events.subscribe():
            pytest.fail("entered")
    assert daemon.closed == 1


async def test_a_probe_that_may_not_be_published_is_reported() -> None:
    """What keeps a subscription from being known live is raised, not wrapped in a group."""
    daemon = ScriptedDaemon(session(silent=True), publish=PermissionDeniedError("no"))
    with pytest.raises(PermissionDeniedError):
        async with daemon.events.subscribe():
            pytest.fail("entered")
    assert daemon.closed == 1


async def test_bad_filters_are_the_callers_fault() -> None:
    """The daemon calls a filter it cannot parse an unknown error; here it is an invalid argument, as one never sent."""
    daemon = ScriptedDaemon(UnknownError("subscription error: failed parsing subscription filters: filters: x"))
    with pytest.raises(InvalidArgumentError, match="failed parsing"):
        async with daemon.events.subscribe("topic==x"):
            pytest.fail("entered")
    with pytest.raises(InvalidArgumentError, match="here a value is expected"):
        async with daemon.events.subscribe("topic=="):
            pytest.fail("entered")


async def test_a_connection_lost_while_subscribing_is_tried_again() -> None:
    """Entering behaves as a read does: a daemon that restarts just then is waited for."""
    daemon = ScriptedDaemon(ConnectionLostError("lost"), DaemonNotListeningError("away"), session(1, silent=True))
    async with daemon.events.subscribe() as envelopes:
        assert await take(envelopes, 1) == ["/n/1"]


async def test_a_stream_that_ends_before_it_is_live_is_tried_again() -> None:
    """A daemon that ends the call without a word is going away."""

    async def run(_daemon: ScriptedDaemon) -> AsyncIterator[WireEnvelope]:
        for message in ():
            yield message

    daemon = ScriptedDaemon(run, session(1, silent=True))
    async with daemon.events.subscribe() as envelopes:
        assert await take(envelopes, 1) == ["/n/1"]


async def test_a_daemon_that_is_not_there_is_reported_at_once() -> None:
    """Nobody is kept waiting for a daemon that was never there."""
    daemon = ScriptedDaemon(DaemonNotListeningError("nobody"))
    with pytest.raises(DaemonNotListeningError):
        async with daemon.events.subscribe():
            pytest.fail("entered")


async def test_a_daemon_that_stays_away_is_reported() -> None:
    """Waiting for a daemon that restarts while we enter has an end."""
    daemon = ScriptedDaemon(ConnectionLostError("lost"), *[DaemonNotListeningError("away")] * 3)
    with pytest.raises(DaemonNotListeningError):
        async with daemon.events.subscribe():
            pytest.fail("entered")


# ── outlasting the connection ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "end",
    [None, ConnectionLostError("lost"), CancelledByDaemonError("lost"), UnknownError("failed sending event")],
    ids=["ended well", "lost", "cancelled", "failed"],
)
async def test_an_end_is_followed_by_a_gap(end: ContainerdError | None) -> None:
    """However a live subscription ends, it is made again, and a gap is told before anything else."""
    daemon = ScriptedDaemon(session(1, 2, end=end), session(3, silent=True))
    async with daemon.events.subscribe() as envelopes:
        reason = "the daemon ended the subscription" if end is None else str(end)
        assert await take(envelopes, 4) == ["/n/1", "/n/2", reason, "/n/3"]


async def test_one_outage_is_one_gap() -> None:
    """Attempts to come back are not told, only that it took them."""
    away = [DaemonNotListeningError("away"), ConnectionLostError("lost"), CancelledByDaemonError("stopping")]
    daemon = ScriptedDaemon(session(1, end=ConnectionLostError("first")), *away, session(2, silent=True))
    async with daemon.events.subscribe() as envelopes:
        assert await take(envelopes, 3) == ["/n/1", "first", "/n/2"]


async def test_every_outage_is_told() -> None:
    """Each lost connection has its own gap, with its own times."""
    sessions = [session(number, end=ConnectionLostError(f"lost {number}")) for number in range(5)]
    daemon = ScriptedDaemon(*sessions, session(silent=True))
    async with daemon.events.subscribe() as envelopes:
        expected = [text for number in range(5) for text in (f"/n/{number}", f"lost {number}")]
        assert await take(envelopes, 10) == expected


async def test_a_gap_says_from_when_to_when() -> None:
    """What is listed after the gap's end leaves nothing out; the envelope has the time of that end."""
    daemon = ScriptedDaemon(
        session(end=ConnectionLostError("lost")), DaemonNotListeningError("away"), session(silent=True)
    )
    async with daemon.events.subscribe() as envelopes:
        with anyio.fail_after(5):
            envelope = await anext(envelopes)
    assert isinstance(envelope.event, EventsGap)
    assert envelope.event.began_at < envelope.event.ended_at == envelope.timestamp
    assert (envelope.namespace, envelope.topic) == ("", "")


async def test_what_cannot_be_mended_ends_the_iteration() -> None:
    """An error that trying again would not help is raised where events are awaited, after those that came before."""
    daemon = ScriptedDaemon(session(1, end=ConnectionLostError("lost")), FailedPreconditionError("never again"))
    async with daemon.events.subscribe() as envelopes:
        with anyio.fail_after(5):
            assert (await anext(envelopes)).topic == "/n/1"
            for _ in range(2):
                with pytest.raises(FailedPreconditionError):
                    await anext(envelopes)


# ── leaving ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_error_of_the_block_comes_out_as_it_is() -> None:
    """What the caller raises is not wrapped in a group, and ends the subscription."""
    daemon = ScriptedDaemon(session(silent=True))
    with pytest.raises(ZeroDivisionError):
        async with daemon.events.subscribe():
            raise ZeroDivisionError
    assert daemon.closed == 1


async def test_a_group_of_the_block_comes_out_as_it_is() -> None:
    """Nor is a group of the caller's wrapped once more."""
    daemon = ScriptedDaemon(session(silent=True))
    with pytest.raises(ExceptionGroup) as caught:
        async with daemon.events.subscribe():
            raise ExceptionGroup("theirs", [ZeroDivisionError()])
    assert caught.value.message == "theirs"


async def test_leaving_ends_the_iteration() -> None:
    """An iterator that outlives its block ends, also for a task that waits for it."""
    daemon = ScriptedDaemon(session(silent=True))
    ended: list[bool] = []

    async def follow(envelopes: AsyncIterator[Envelope]) -> None:
        async for _ in envelopes:
            pytest.fail("an event from nowhere")
        ended.append(True)

    async with anyio.create_task_group() as tasks, daemon.events.subscribe() as envelopes:
        tasks.start_soon(follow, envelopes)
        await anyio.wait_all_tasks_blocked()
    with pytest.raises(StopAsyncIteration):
        await anext(envelopes)
    assert (ended, daemon.closed) == ([True], 1)


async def test_leaving_while_the_daemon_is_away() -> None:
    """The wait for a daemon ends with the block."""
    daemon = ScriptedDaemon(session(end=ConnectionLostError("lost")), *[DaemonNotListeningError("away")] * 1000)
    with anyio.fail_after(5):
        async with daemon.events.subscribe():
            await anyio.sleep(0.02)


async def test_a_time_limit_of_the_caller_works() -> None:
    """A scope around the block cancels it and nothing else."""
    daemon = ScriptedDaemon(session(silent=True))
    with anyio.move_on_after(0.02) as scope:
        async with daemon.events.subscribe() as envelopes:
            await anext(envelopes)
    assert scope.cancelled_caught
    assert daemon.closed == 1


# ── the buffer ──────────────────────────────────────────────────────────────────────────────────────────────────────


def envelope(number: int) -> Envelope:
    return Envelope(timestamp=None, namespace="n", topic=f"/n/{number}", event=TypedValue(type_url=""))


async def fill(buffer: EnvelopeBuffer, count: int, done: list[int]) -> None:
    for number in range(count):
        await buffer.put(envelope(number))
        done.append(number)


async def test_a_full_buffer_is_not_read_into() -> None:
    """Who reads slowly holds the subscription up, and through it the daemon."""
    buffer, done = EnvelopeBuffer(4), []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fill, buffer, 6, done)
        await anyio.wait_all_tasks_blocked()
        assert done == [0, 1, 2, 3]
        assert [(await anext(buffer)).topic for _ in range(6)] == [f"/n/{number}" for number in range(6)]


@pytest.mark.parametrize("cancel", ["scope", "task"])
async def test_cancelling_a_reader_loses_nothing(cancel: str) -> None:
    """An envelope is handed over in one step: either the reader has it, or the next one gets it."""
    count, buffer, received = 300, EnvelopeBuffer(4), []

    async def read() -> None:
        received.append((await anext(buffer)).topic)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fill, buffer, count, [])
        turn = 0
        while len(received) < count:
            turn += 1
            await (cancel_after_turns if cancel == "scope" else cancel_natively)(read, turn % 4)
    assert received == [f"/n/{number}" for number in range(count)]


async def cancel_after_turns(function: Callable[[], Awaitable[None]], turns: int) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(function)
        for _ in range(turns):
            await anyio.lowlevel.cancel_shielded_checkpoint()
        tasks.cancel_scope.cancel()


async def cancel_natively(function: Callable[[], Awaitable[None]], turns: int) -> None:
    import asyncio

    task = asyncio.get_running_loop().create_task(function())
    for _ in range(turns):
        await anyio.lowlevel.cancel_shielded_checkpoint()
    task.cancel()
    await asyncio.wait([task])


async def test_several_readers_share() -> None:
    """Two readers of one subscription get each envelope once between them."""
    buffer, received = EnvelopeBuffer(2), []

    async def read() -> None:
        async for received_envelope in buffer:
            received.append(received_envelope.topic)

    async with anyio.create_task_group() as readers:
        readers.start_soon(read)
        readers.start_soon(read)
        await fill(buffer, 50, [])
        buffer.end()
    assert sorted(received) == sorted(f"/n/{number}" for number in range(50))


async def test_an_end_comes_after_what_is_buffered() -> None:
    """An error does not overtake the events before it."""
    buffer = EnvelopeBuffer(4)
    await fill(buffer, 2, [])
    buffer.end(ConnectionLostError("over"))
    assert [(await anext(buffer)).topic for _ in range(2)] == ["/n/0", "/n/1"]
    with pytest.raises(ConnectionLostError):
        await anext(buffer)
