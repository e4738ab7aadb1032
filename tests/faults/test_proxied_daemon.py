"""A connection that fails in every way a proxy can arrange: typed errors, no hang, and the next call succeeds."""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest

from containerd_py._flows import undoing
from containerd_py.client import Client, connect
from containerd_py.daemon import Daemon
from containerd_py.errors import ContainerdError
from tests.harness import h2frames
from tests.harness.cancel import Mode, Tally, cancel_at, count_suspensions, sweep
from tests.harness.h2frames import ErrorCode
from tests.harness.leaks import LeakOracle, assert_namespace_empty
from tests.harness.registry_content import digest_of
from tests.harness.socket_proxy import Accept, Direction, Fault, Kind, SocketProxy, open_proxy

pytestmark = [pytest.mark.anyio, pytest.mark.lines("2.1")]
TO_CLIENT, TO_DAEMON = Direction.TO_CLIENT, Direction.TO_DAEMON
LIMIT = 10.0  # seconds any one attempt may take
BLOB = bytes(range(256)) * 1024


@asynccontextmanager
async def proxied(daemon: Daemon, namespace: str) -> AsyncIterator[tuple[SocketProxy, Client]]:
    async with open_proxy(daemon.address) as proxy, connect(proxy.address, namespace=namespace) as client:
        client.services.connection.channel.on_connected = None  # what is learned anew would count as the flow's own
        yield proxy, client


async def write_and_forget(client: Client) -> None:
    """Write a blob that only a lease holds, read it back, and let go of it: several calls of every kind."""
    data = uuid.uuid4().bytes + BLOB
    async with client.hold_lease(expires_in=timedelta(hours=1)) as leased:
        async with leased.content.open_writer(f"write-{digest_of(data)}", total=len(data)) as writer:
            await writer.write(data)
            await writer.commit()
        assert await leased.content.read(digest_of(data)) == data


async def ends_typed(attempt: Callable[[], object]) -> ContainerdError | None:
    """Run an attempt; it succeeds, or fails with an error of ours, in time."""
    with anyio.fail_after(LIMIT):
        try:
            await attempt()  # type: ignore[misc]
        except ContainerdError as error:
            return error
    return None


async def test_the_proxy_speaks_the_daemons_http2(daemon: Daemon, namespace: str) -> None:
    """Every frame of a real daemon is understood: nothing is held back, streams are all accounted for."""
    async with proxied(daemon, namespace) as (proxy, client):
        await write_and_forget(client)
        up, down = proxy.counters(TO_DAEMON), proxy.counters(TO_CLIENT)
        assert up.bytes > len(BLOB) < down.bytes
        assert set(up.kinds) | set(down.kinds) <= set(Kind)
        assert up.kinds[Kind.HEADERS] >= 6
        assert proxy.streams_in_flight == 0


async def test_connecting_is_cut_after_every_byte(daemon: Daemon, namespace: str) -> None:
    """connect(), cut anywhere in the daemon's first answers, fails typed, or retries and succeeds."""
    async with open_proxy(daemon.address) as proxy:

        async def attempt() -> None:
            async with connect(proxy.address, namespace=namespace) as client:
                await client.version()

        await attempt()
        total = proxy.counters(TO_CLIENT).bytes
        for after in range(0, total, 7):
            fault = proxy.cut(TO_CLIENT, after_bytes=after)
            await ends_typed(attempt)
            assert fault.fired == 1
        await attempt()


@pytest.mark.parametrize("direction", list(Direction), ids=lambda direction: direction.value)
async def test_calls_are_cut_at_every_frame(daemon: Daemon, namespace: str, direction: Direction) -> None:
    """A flow whose connection is cut after any frame ends typed or succeeds; the same client then does it again."""
    async with proxied(daemon, namespace) as (proxy, client):
        before = proxy.counters(direction).frames
        await write_and_forget(client)
        total = proxy.counters(direction).frames - before
        for after in range(1, total + 1, max(1, total // 25)):
            fault = proxy.cut(direction, after_frames=after)
            await ends_typed(lambda: write_and_forget(client))
            await anyio.sleep(0.05)  # the last frames may pass, and the cut be noticed, when the flow has ended
            if not fault.fired:  # window updates come as they like, so one run has fewer frames than another
                proxy.clear()
                assert after > total // 2
            with anyio.fail_after(LIMIT):
                await write_and_forget(client)
    await assert_namespace_empty(daemon, namespace)


@pytest.mark.parametrize("code", list(ErrorCode), ids=lambda code: code.name)
async def test_streams_reset_with_every_code(daemon: Daemon, namespace: str, code: ErrorCode) -> None:
    """RST_STREAM and GOAWAY of any code end in a typed error or a retry that succeeds."""
    async with proxied(daemon, namespace) as (proxy, client):
        for arm in (proxy.reset_stream, proxy.goaway):
            fault = arm(code)
            await ends_typed(client.version)
            assert fault.fired == 1
            with anyio.fail_after(LIMIT):
                await client.version()


def _garbage(proxy: SocketProxy) -> Fault:
    return proxy.inject(b"\xff" * 64, TO_DAEMON, into=TO_CLIENT, after_frames=1, kind=Kind.HEADERS)


def _http1(proxy: SocketProxy) -> Fault:
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    return proxy.inject(answer, TO_DAEMON, into=TO_CLIENT, after_frames=1, kind=Kind.HEADERS)


def _huge_message(proxy: SocketProxy) -> Fault:
    lie = h2frames.grpc_message(b"x", length=2**31 - 1)
    return proxy.replace(lambda frame: h2frames.data(frame.stream, lie), kind=Kind.DATA)


def _no_status(proxy: SocketProxy) -> Fault:
    return proxy.replace(
        lambda frame: h2frames.headers(frame.stream, [("x-nothing", "here")], end_stream=True),
        kind=Kind.HEADERS,
        match=lambda frame: frame.ends_stream,
    )


@pytest.mark.parametrize("arm", [_garbage, _http1, _huge_message, _no_status])
async def test_answers_that_are_none(daemon: Daemon, namespace: str, arm: Callable[[SocketProxy], Fault]) -> None:
    """Bytes that are no answer end in a typed error or a retry that succeeds; the client lives on."""
    async with proxied(daemon, namespace) as (proxy, client):
        fault = arm(proxy)
        await ends_typed(client.version)
        assert fault.fired == 1
        with anyio.fail_after(LIMIT):
            await client.version()


async def test_slow_and_shredded_connections_work(daemon: Daemon, namespace: str) -> None:
    """Latency and one byte at a time change nothing but the pace."""
    async with proxied(daemon, namespace) as (proxy, client):
        proxy.shape(latency=0.02)
        await write_and_forget(client)
        proxy.shape(TO_CLIENT, slice_size=1)
        assert (await client.version()).version.startswith(daemon.version)
        assert await client.images.list() == []


async def test_a_silent_daemon_is_left_by_cancellation(daemon: Daemon, namespace: str) -> None:
    """A call that is never answered ends when its caller gives up, and not before; the next one works."""
    async with proxied(daemon, namespace) as (proxy, client):
        fault = proxy.blackhole(TO_DAEMON, after_frames=0, kind=Kind.HEADERS)
        with anyio.move_on_after(0.3) as scope:
            await client.version()
        assert scope.cancelled_caught
        assert fault.fired == 1
        proxy.disconnect()
        with anyio.fail_after(LIMIT):
            await client.version()


async def test_a_silent_daemon_does_not_hold_a_flow(
    daemon: Daemon, namespace: str, no_leaks: LeakOracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flow cancelled in a call that takes effect at the daemon waits for the answer, but not for ever."""
    bound = 0.5  # seconds, instead of ten
    monkeypatch.setattr(undoing, "CLEANUP_BOUND", bound)
    no_leaks.expect("lease", "containerd-py-")  # whose making, and whose deletion, nobody answered
    async with proxied(daemon, namespace) as (proxy, client):
        fault = proxy.blackhole(TO_CLIENT, both=False, after_frames=0, kind=Kind.HEADERS)
        with anyio.fail_after(2 * bound + LIMIT / 2), anyio.move_on_after(0.3) as scope:
            async with client.hold_lease():
                pass
        assert scope.cancelled_caught
        assert fault.fired == 1
        proxy.disconnect()


@pytest.mark.parametrize("accept", [Accept.SILENT, Accept.CLOSE], ids=lambda accept: accept.value)
async def test_connect_does_not_hang(daemon: Daemon, namespace: str, accept: Accept) -> None:
    """A socket that accepts and never answers, or hangs up, is a typed error of connect()."""
    async with open_proxy(daemon.address) as proxy:
        proxy.accept = accept

        async def attempt() -> None:
            async with connect(proxy.address, namespace=namespace):
                pass

        with anyio.fail_after(60):
            with pytest.raises(ContainerdError):
                await attempt()
        assert proxy.connections or accept is Accept.CLOSE


@pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.value)
async def test_a_flow_cancelled_anywhere_leaves_nothing(daemon: Daemon, namespace: str, mode: Mode) -> None:
    """Lease, ingest and blob are gone wherever the flow is cancelled, and the connection serves the next call."""
    tally = Tally()
    async with proxied(daemon, namespace) as (_, client):

        async def flow() -> None:
            async with client.hold_lease() as leased:
                await leased.leases.list()

        total = await count_suspensions(flow)
        async for outcome in sweep(flow, modes=[mode], every=max(1, total // 12)):
            outcome.check()
            tally.add(outcome)
            await assert_namespace_empty(daemon, namespace)
        await flow()
    assert tally.delivered, tally
    assert tally.latency() < LIMIT, tally


async def test_cancelling_and_losing_the_connection_at_once(daemon: Daemon, namespace: str) -> None:
    """A cancellation that meets a lost connection in the same loop turn is never swallowed."""
    async with proxied(daemon, namespace) as (proxy, client):

        async def flow() -> None:
            fault = proxy.blackhole(TO_CLIENT, after_frames=0, kind=Kind.HEADERS)
            async with anyio.create_task_group() as group:

                async def cut() -> None:
                    await fault.wait_fired()
                    proxy.disconnect()

                group.start_soon(cut)
                await client.version()

        for mode in Mode:
            total = await count_suspensions(flow)
            for point in range(1, total + 1):
                outcome = await cancel_at(flow, point, mode=mode)
                outcome.check(raises=(ContainerdError,) if not outcome.delivered else ())
                proxy.clear()
                proxy.disconnect()
