"""A client outlives its daemon's restarts, owes what it could not undo, and is used where it belongs only."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import anyio
import anyio.abc
import pytest
from anyio import to_thread

from containerd_py import Client, connect
from containerd_py._generated.containerd.services.events.v1 import EventsStub, SubscribeRequest
from containerd_py.daemon import Daemon
from containerd_py.errors import (
    ClientClosedError,
    ConnectionLostError,
    DaemonNotListeningError,
)
from containerd_py.services.version import Version
from tests.faults.proxied import (
    TO_DAEMON,
    ask_once,
    create_lease,
    drop_leases,
    outcome,
    part,
    proxied,
    proxied_client,
    proxy,
)
from tests.harness.h2frames import Kind
from tests.harness.socket_proxy import SocketProxy

__all__ = ["proxied", "proxy"]

ONE_LINE = pytest.mark.lines("2.1")  # what is tested does not depend on the daemon


# ── a daemon that goes and comes ────────────────────────────────────────────────────────────────────────────────────


def requests(proxy: SocketProxy) -> int:
    return proxy.counters(TO_DAEMON).kinds[Kind.HEADERS]


@ONE_LINE
async def test_reads_are_repeated_and_nothing_else_is(proxied: Client, proxy: SocketProxy):
    """A read whose connection is lost is sent again; a call that changes something is sent once and raises."""
    await part(proxy, proxied)
    before, fault = requests(proxy), proxy.cut(TO_DAEMON, after_frames=1, kind=Kind.HEADERS)
    assert await proxied.version()
    assert fault.fired == 1
    assert requests(proxy) - before == 2
    await part(proxy, proxied)
    before, fault = requests(proxy), proxy.cut(TO_DAEMON, after_frames=1, kind=Kind.HEADERS)
    assert type(await outcome(lambda: proxied.leases.create("once"))) is ConnectionLostError
    assert fault.fired == 1
    assert requests(proxy) - before == 1
    assert await proxied.leases.create("once")
    await proxied.leases.delete("once")


@ONE_LINE
async def test_reads_give_up_when_the_connection_is_lost_every_time(proxied: Client, proxy: SocketProxy):
    """Repetition is bounded and ends with the typed error."""
    await part(proxy, proxied)
    fault = proxy.cut(TO_DAEMON, after_frames=1, kind=Kind.HEADERS, times=None)
    assert type(await outcome(proxied.version)) is ConnectionLostError
    assert 2 <= fault.fired <= 10
    proxy.clear()
    assert await proxied.version()


async def test_reads_outlast_a_restart_of_the_daemon(own_daemon: Daemon, namespace: str):
    """A read under way when the daemon is restarted returns from the new daemon; a create raises, sent once."""
    async with proxied_client(own_daemon, namespace) as (proxy, client):
        before, found = requests(proxy), list[object]()

        async def read() -> None:
            found.append(await client.version())

        async def create() -> None:
            found.append(await outcome(lambda: create_lease(client)))

        async with anyio.create_task_group() as group:
            os.kill(own_daemon.pid, signal.SIGSTOP)
            try:
                group.start_soon(read)
                group.start_soon(create)
                while requests(proxy) - before < 2:
                    await anyio.sleep(0.01)
            finally:
                await own_daemon.kill()
            await own_daemon.restart()
        assert {type(each) for each in found} == {Version, ConnectionLostError}
        with anyio.fail_after(5):  # a frame is counted when it has been forwarded, which an answer may precede
            while requests(proxy) - before < 3:
                await anyio.sleep(0.01)
        assert await client.leases.list() == []


async def test_a_killed_daemon_is_a_typed_error(own_daemon: Daemon, namespace: str):
    """SIGKILL wakes every call and stream; while down, calls say so; once back, the same client works."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(stay_subscribed, client)
                await anyio.sleep(0.3)
                await own_daemon.kill()
        down = await outcome(client.version)
        assert type(down) is DaemonNotListeningError
        assert "start it again" in str(down)
        await own_daemon.restart()
        for _ in range(3):
            assert await ask_once(client)


async def stay_subscribed(client: Client) -> None:
    stub = client.services.stub(EventsStub)
    with pytest.raises(ConnectionLostError):
        async with client.services.rpc.stream(stub.subscribe, SubscribeRequest()) as envelopes:
            async for _ in envelopes:
                pass


@ONE_LINE
async def test_a_stopped_daemon_is_waited_for(own_daemon: Daemon, namespace: str):
    """SIGSTOP is no fault: calls and streams go on where they were after SIGCONT, and nothing is done twice."""
    async with proxied_client(own_daemon, namespace) as (proxy, client):
        before = requests(proxy)
        os.kill(own_daemon.pid, signal.SIGSTOP)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(create_lease, client)
                await anyio.sleep(1)
                os.kill(own_daemon.pid, signal.SIGCONT)
        finally:
            os.kill(own_daemon.pid, signal.SIGCONT)
        assert requests(proxy) - before == 1
        assert len(proxy.connections) == 1
        await drop_leases(client)


@pytest.mark.parametrize("how", ["next lease", "leaving"])
async def test_a_lease_owed_is_deleted_when_the_daemon_is_back(own_daemon: Daemon, namespace: str, how: str):
    """A lease whose daemon died before it could be deleted goes with the next one, or when the client is left."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        with pytest.raises(RuntimeError, match="the flow"):
            async with client.hold_lease() as leased:
                held = leased.services.lease
                await own_daemon.kill()
                raise RuntimeError("the flow failed")
        assert [debt.what for debt in client.services.connection.debts] == [f"deleting lease {held}"]
        await own_daemon.restart()
        assert [lease.id for lease in await client.leases.list()] == [held]
        if how == "next lease":
            async with client.hold_lease() as leased:
                assert [lease.id for lease in await client.leases.list()] == [leased.services.lease]
            assert client.services.connection.debts == []
    async with connect(own_daemon.address, namespace=namespace) as client:
        assert await client.leases.list() == []


@ONE_LINE
async def test_debts_do_not_hold_up_leaving(own_daemon: Daemon, namespace: str):
    """A client whose daemon stays down is left, whatever it owes."""
    with anyio.fail_after(30):
        async with connect(own_daemon.address, namespace=namespace) as client, client.hold_lease():
            await own_daemon.kill()
    await own_daemon.restart()
    async with connect(own_daemon.address, namespace=namespace) as client:
        for lease in await client.leases.list():
            await client.leases.delete(lease.id)


# ── where a client belongs ──────────────────────────────────────────────────────────────────────────────────────────


@ONE_LINE
async def test_after_its_block_a_client_is_closed(daemon: Daemon, namespace: str):
    """A client used after its block raises, and connects no more."""
    async with connect(daemon.address, namespace=namespace) as client:
        pass
    for call in (client.version, client.images.list, lambda: ask_once(client)):
        with pytest.raises(ClientClosedError, match="inside its `async with connect"):
            await call()
    with pytest.raises(ClientClosedError):
        async with client.content.open_writer("late"):
            pytest.fail("opened")


@ONE_LINE
async def test_calls_under_way_end_with_the_client(daemon: Daemon, namespace: str):
    """A call that goes on when the block is left raises, instead of waiting for ever."""
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group, connect(daemon.address, namespace=namespace) as client:
            group.start_soon(stay_subscribed, client)
            await anyio.sleep(0.1)


@ONE_LINE
async def test_another_loop_cannot_use_it(client: Client):
    """A client used in another thread's event loop raises at once, instead of waiting for a loop that does not run."""

    async def use() -> None:
        with pytest.raises(ClientClosedError, match="another event loop"):
            await client.version()

    await to_thread.run_sync(asyncio.run, use())
    assert await client.version()


FORKED = """
import gc, os, sys, anyio
from containerd_py import connect
from containerd_py.errors import ClientClosedError

async def child(client):
    try:
        await client.version()
    except ClientClosedError as error:
        return "parent process" in str(error)

async def main():
    async with connect(sys.argv[1], namespace="fork") as client:
        await client.version()
        pid = os.fork()
        if pid == 0:
            refused = anyio.run(child, client)
            client.services.connection.channel.close()
            del client
            gc.collect()
            os._exit(0 if refused else 1)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        for _ in range(10):
            await client.version()
    print("went on")

anyio.run(main)
"""


@ONE_LINE
def test_after_a_fork_the_parent_keeps_it(daemon: Daemon):
    """A forked child is refused the client and does no harm to the parent's connection, also when it closes it."""
    command = [sys.executable, "-W", "error", "-c", FORKED, daemon.address]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout, done.stderr, done.returncode) == ("went on\n", "", 0)
