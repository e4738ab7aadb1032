"""How a process ended is learned through lost connections and restarts, by any number of waiters, or is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from containerd_py._flows import exits
from containerd_py._flows.exits import ExitWatch, wait_for_exit, watch_exit
from containerd_py._transport import comeback
from containerd_py._transport.comeback import Comeback
from containerd_py.errors import (
    ClientClosedError,
    ConnectionLostError,
    DaemonNotListeningError,
    NotFoundError,
    PermissionDeniedError,
    TaskLostError,
)
from containerd_py.services.tasks import ExitStatus
from containerd_py.types import Timestamp

ENDED = ExitStatus(code=7, exited_at=Timestamp.from_parts(1_767_225_600, 1))
AWAY = DaemonNotListeningError("down", address="/a")
LOST = ConnectionLostError("lost")


class FakeServices:
    """Answers waits from a script, and for ever when that is at its end; stands for connection and tasks as well."""

    def __init__(self, *script: ExitStatus | Exception) -> None:
        self.script = list(script)
        self.waits = 0
        self.connects = 0
        self.is_away = False
        self.background: Any = None

    @property
    def tasks(self) -> FakeServices:
        return self

    @property
    def connection(self) -> FakeServices:
        return self

    @property
    def comeback(self) -> Comeback:
        return Comeback(self.connect)

    async def connect(self) -> None:
        self.connects += 1
        await anyio.sleep(0)
        if self.is_away:
            raise AWAY

    async def wait(self, container_id: str, *, exec_id: str = "") -> ExitStatus:  # noqa: ARG002
        self.waits += 1
        await anyio.sleep(0)
        if not self.script:
            await anyio.sleep_forever()
        outcome = self.script.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses; what they are otherwise is part of the promise."""
    assert (comeback._FIRST_PAUSE, comeback._LONGEST_PAUSE, exits._PATIENCE) == (0.05, 1.0, 60.0)
    monkeypatch.setattr(comeback, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(comeback, "_LONGEST_PAUSE", 0.004)


@asynccontextmanager
async def background(services: FakeServices) -> AsyncIterator[None]:
    """Give the services a background, as a connection has, that ends with the block."""
    async with anyio.create_task_group() as group:
        services.background = group
        yield
        group.cancel_scope.cancel()


# ── one wait ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_wait_outlasts_restarts():
    """However often the connection is lost and the daemon away in between, the daemon is asked again."""
    services = FakeServices(LOST, AWAY, AWAY, LOST, AWAY, ENDED)
    assert await wait_for_exit(services, "c") == ENDED
    assert services.waits == 6


async def test_a_daemon_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch):
    """After a minute without a daemon the wait raises why it cannot be reached."""
    monkeypatch.setattr(exits, "_PATIENCE", 0.05)
    services = FakeServices(LOST)
    services.is_away = True
    with pytest.raises(DaemonNotListeningError) as caught:
        await wait_for_exit(services, "c")
    assert caught.value.address == AWAY.address
    assert services.connects > 2
    assert services.waits == 1


async def test_many_waiters_make_the_attempts_of_one():
    """A daemon that is away is tried for by one of those who wait, and by the next when that one is cancelled."""
    services, back = FakeServices(), list[int]()
    services.is_away = True
    shared = Comeback(services.connect)

    async def wait(number: int) -> None:
        await shared.wait(60)
        back.append(number)

    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as first:
            first.start_soon(wait, 0)
            await anyio.wait_all_tasks_blocked()
            for number in range(1, 200):
                group.start_soon(wait, number)
            while services.connects < 3:
                await anyio.sleep(0.001)
            first.cancel_scope.cancel()
        seen = services.connects
        while services.connects < seen + 3:
            await anyio.sleep(0.001)
        assert services.connects < 20
        services.is_away = False
    assert sorted(back) == list(range(1, 200))


@pytest.mark.parametrize(("exec_id", "name"), [("", "task c"), ("e", "exec e of c")])
async def test_a_process_the_daemon_no_longer_knows_is_lost(exec_id: str, name: str):
    """Where the daemon can no longer tell, no code is invented and nobody hangs."""
    with pytest.raises(TaskLostError, match=f"no longer knows {name}: it was deleted, or ended while the daemon was"):
        await wait_for_exit(FakeServices(LOST, NotFoundError("gone")), "c", exec_id)


async def test_other_errors_are_not_repeated():
    """What is no question of being reachable is raised at once."""
    services = FakeServices(PermissionDeniedError("no"))
    with pytest.raises(PermissionDeniedError):
        await wait_for_exit(services, "c")
    assert services.waits == 1


# ── a wait that many join ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_watch_is_under_way_when_it_is_returned():
    """The daemon has been asked before the process is started, so that no exit is missed."""
    services = FakeServices()
    async with background(services):
        watch = await watch_exit(services, "c")
        assert services.waits == 1
        assert not watch.has_ended


async def test_any_number_may_join_a_watch():
    """All waiters learn the same, those that come late as well, from one question to the daemon."""
    services, found = FakeServices(ENDED), []

    async def join(watch: ExitWatch) -> None:
        found.append(await watch.wait())

    async with background(services):
        watch = await watch_exit(services, "c")
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(join, watch)
        assert watch.has_ended
        await join(watch)
    assert found == [ENDED] * 11
    assert services.waits == 1


async def test_each_waiter_gets_an_error_of_its_own():
    """A failure is raised anew for each waiter: notes and tracebacks of one are not another's."""
    services, raised = FakeServices(NotFoundError("gone")), []
    async with background(services):
        watch = await watch_exit(services, "c")
        for _ in range(2):
            with pytest.raises(TaskLostError) as info:
                await watch.wait()
            raised.append(info.value)
    assert raised[0] is not raised[1]
    assert str(raised[0]) == str(raised[1])


async def test_a_watch_ends_with_its_client():
    """Who still waits when the client is left learns that, instead of waiting for ever."""
    services = FakeServices()
    async with background(services):
        watch = await watch_exit(services, "c")
    with anyio.fail_after(1), pytest.raises(ClientClosedError, match="before the process ended"):
        await watch.wait()


async def test_what_was_learned_otherwise_ends_a_watch():
    """A deletion tells how the process ended: the watch says so too, and asks no more."""
    services = FakeServices()
    async with background(services):
        watch = await watch_exit(services, "c")
        watch.settle(ENDED)
        assert await watch.wait() == ENDED
        await anyio.sleep(0.01)
        assert watch.has_ended
    assert await watch.wait() == ENDED


async def test_a_watch_of_nothing_ends():
    """Where the process was not started its waiters are told."""
    services = FakeServices()
    async with background(services):
        watch = await watch_exit(services, "c")
        watch.abandon()
        with pytest.raises(TaskLostError, match="was not started"):
            await watch.wait()


async def test_a_watch_whose_beginning_is_cancelled_ends():
    """Cancelled while the wait is begun, nothing goes on in the background."""
    services = FakeServices()
    async with background(services):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await watch_exit(services, "c")
        assert scope.cancelled_caught
        await anyio.sleep(0.01)
        assert len(services.background._tasks) == 0
