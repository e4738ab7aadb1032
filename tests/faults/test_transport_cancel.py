"""Cancelled at any point, in any way, connecting and writing leave nothing behind, here or in the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection

import anyio
import pytest

from containerd_py import Client, connect
from containerd_py.daemon import Daemon
from containerd_py.errors import ContainerdError, UnavailableError
from containerd_py.typeurl import TypedValue
from tests.faults.proxied import MIB, TO_CLIENT, TO_DAEMON, ask_once, drop_ingests, part, proxied, proxy, store
from tests.harness.cancel import Mode, Tally, sweep
from tests.harness.h2frames import Kind
from tests.harness.socket_proxy import SocketProxy

__all__ = ["proxied", "proxy"]

Flow = Callable[[Client], Awaitable[None]]


async def connecting(client: Client) -> None:
    """Connect anew and ask."""
    async with connect(client.services.connection.address, namespace=client.namespace) as other:
        await other.version()


async def leasing(client: Client) -> None:
    """Hold a lease and write, commit and read under it."""
    async with client.hold_lease() as leased:
        digest, data = await store(leased, 3 * MIB)
        assert await leased.content.read(digest) == data


async def subscribing(client: Client) -> None:
    """Subscribe to events and cause one."""
    async with client.events.subscribe('topic=="/transport/test"') as envelopes, anyio.create_task_group() as group:
        group.start_soon(client.events.publish, "/transport/test", TypedValue(type_url="demo", value=b""))
        await anext(envelopes)


FLOWS: dict[str, Flow] = {"connect": connecting, "lease and content": leasing, "events": subscribing}


@pytest.fixture
async def witness(daemon: Daemon, namespace: str) -> AsyncIterator[Client]:
    """Lend a client of its own, to look at what the flow left."""
    async with connect(daemon.address, namespace=namespace) as client:
        yield client


@pytest.fixture
def modes(request: pytest.FixtureRequest) -> Collection[Mode]:
    """Choose the ways of cancelling: anyio's and asyncio's; in a storm the others too."""
    return tuple(Mode) if request.config.getoption("--storm") else (Mode.SCOPE, Mode.TASK)


async def left(witness: Client) -> list[str]:
    """Name leases and ingests that are still there once what is under way has ended."""
    names: list[str] = []
    for _ in range(40):
        names = [lease.id for lease in await witness.leases.list()]
        if not names:
            break
        await anyio.sleep(0.01)
    return names


@pytest.mark.timeout(600)
@pytest.mark.lines("2.1")
@pytest.mark.parametrize(
    ("name", "again"),
    [
        *((name, ()) for name in FLOWS),
        # Not events: TaskGroup.start of anyio 4.16 miscounts a second, native cancellation.
        *((name, (1,)) for name in ("connect", "lease and content")),
    ],
)
async def test_cancelled_anywhere(
    client: Client, witness: Client, name: str, again: Collection[int], modes: Collection[Mode]
):
    """At every suspension point: cancelled and balanced, no task, lease or stream left; the client works on."""
    await check(client, witness, FLOWS[name], modes, again)


@pytest.mark.timeout(1200)
@pytest.mark.lines("1.6", "1.7")
@pytest.mark.parametrize("name", ["connect", "lease and content"])
async def test_cancelled_here_and_there(client: Client, witness: Client, name: str, request: pytest.FixtureRequest):
    """The same on the older lines, at every seventh point."""
    every = 1 if request.config.getoption("--storm") else 7
    await check(client, witness, FLOWS[name], (Mode.SCOPE, Mode.TASK), (), every=every)


async def check(
    client: Client, witness: Client, flow: Flow, modes: Collection[Mode], again: Collection[int], *, every: int = 1
) -> None:
    processor = client.services.connection.channel._protocol.processor
    tally = Tally()
    async for outcome in sweep(lambda: flow(client), modes=modes, again=again, every=every):
        outcome.check()
        tally.add(outcome)
        assert await left(witness) == [], outcome.where
        assert processor.streams == {}, outcome.where
        assert client.services.connection.debts == []
    assert tally.delivered > 0, str(tally)
    assert client.services.connection.channel._protocol.processor is processor, "the connection was lost"
    await flow(client)
    await drop_ingests(witness)


@pytest.mark.lines("2.1")
@pytest.mark.parametrize("when", ["request", "response"])
async def test_cancelled_while_the_connection_goes(
    proxied: Client, proxy: SocketProxy, when: str, modes: Collection[Mode]
):
    """A connection that is lost while the caller is cancelled: cancelled or the typed error, counts balanced (F3)."""
    direction = TO_DAEMON if when == "request" else TO_CLIENT
    tally = Tally()
    fired = 0

    async def flow() -> None:
        with pytest.raises(UnavailableError):
            await ask_once(proxied)

    async def prepared() -> None:
        await part(proxy, proxied)
        nonlocal fired
        cut = proxy.cut(direction, after_frames=1, kind=Kind.HEADERS)
        try:
            await flow()
        finally:
            fired += cut.fired
            proxy.clear()

    async for outcome in sweep(prepared, modes=modes):
        outcome.check()
        tally.add(outcome)
        with anyio.fail_after(5):
            assert await proxied.version()
    assert tally.delivered > 0
    assert fired > 0


@pytest.mark.lines("2.1")
async def test_cancelled_connecting_to_nobody(daemon: Daemon, modes: Collection[Mode]):
    """Connecting in vain is cancelled like anything else."""

    async def flow() -> None:
        with pytest.raises(ContainerdError):
            async with connect(f"{daemon.address}.none"):
                pytest.fail("connected")

    async def suspending() -> None:
        await anyio.sleep(0)
        await flow()

    async for outcome in sweep(suspending, modes=modes):
        outcome.check()
