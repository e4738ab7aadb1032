"""Events, many more than in every run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from containerd_py._transport.connection import Rpc, open_connection
from containerd_py._transport.scope import Scope
from containerd_py.daemon import Daemon
from containerd_py.services.bundle import Services
from containerd_py.services.event_types import EventsGap
from tests.integration.test_events import (
    numbers,
    own,
    publish,
    subscribe_and_publish_at_once,
    subscribe_then_publish,
    take,
)

ROUNDS = 1_000
AT_ONCE = 500
EVENTS = 100_000
PUBLISHERS = 8
RESTARTS = 10


@pytest.fixture
async def services(daemon: Daemon, namespace: str) -> AsyncIterator[Services]:
    """Lend the services of a namespace of the test's own."""
    async with open_connection(daemon.address) as connection:
        yield Services(Rpc(connection, Scope(namespace=namespace)))


async def test_no_event_after_subscribing_is_missed(services: Services, namespace: str) -> None:
    """An event published as soon as the block is entered arrives, every time."""
    await subscribe_then_publish(services, namespace, ROUNDS)


async def test_hundreds_subscribe_and_publish_at_once(services: Services, namespace: str) -> None:
    """The same with all of them at the same time, on one connection: each gets its own event."""
    await subscribe_and_publish_at_once(services, namespace, AT_ONCE)


@pytest.mark.timeout(900)
async def test_one_subscription_carries_them_all(services: Services, namespace: str) -> None:
    """Of a hundred thousand events from several publishers each comes once, those of a publisher in their order."""
    received: list[int] = []
    async with services.events.subscribe(own(namespace)) as envelopes, anyio.create_task_group() as publishing:

        async def publish_some(publisher: int) -> None:
            for number in range(publisher, EVENTS, PUBLISHERS):
                await publish(services, number)

        for publisher in range(PUBLISHERS):
            publishing.start_soon(publish_some, publisher)
        while len(received) < EVENTS:
            received += numbers(await take(envelopes))
    assert sorted(received) == list(range(EVENTS))
    for publisher in range(PUBLISHERS):
        assert [number for number in received if number % PUBLISHERS == publisher] == list(
            range(publisher, EVENTS, PUBLISHERS)
        )


@pytest.mark.timeout(600)
async def test_restarts_in_the_middle_are_gaps(own_daemon: Daemon, namespace: str) -> None:
    """The daemon is killed again and again: nothing is missing between the gaps, and each restart is one."""
    async with open_connection(own_daemon.address) as connection:
        services = Services(Rpc(connection, Scope(namespace=namespace)))
        published = 0
        async with services.events.subscribe(own(namespace)) as envelopes:
            for _ in range(RESTARTS):
                for _ in range(200):
                    await publish(services, published)
                    published += 1
                assert numbers(await take(envelopes, 200)) == list(range(published - 200, published))
                await own_daemon.kill()
                await own_daemon.restart()
                (gap,) = await take(envelopes)
                assert isinstance(gap.event, EventsGap)
            await publish(services, published)
            assert numbers(await take(envelopes)) == [published]
