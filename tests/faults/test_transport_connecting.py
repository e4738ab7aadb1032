"""Connecting finds out who answers, happens once for all calls, and happens again by itself."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, connect
from containerd_py._flows import connecting
from containerd_py._transport import http2
from containerd_py._transport.connection import Rpc, open_connection
from containerd_py._transport.scope import Scope
from containerd_py.daemon import Daemon
from containerd_py.errors import (
    ConnectionLostError,
    DaemonConnectError,
    DaemonNotRespondingError,
)
from containerd_py.services.version import VersionService
from tests.faults.proxied import (
    ask_once,
    part,
    proxied,
    proxy,
)
from tests.harness.socket_proxy import Accept, SocketProxy
from tests.harness.unix_stream import UnixStream, serve_unix

__all__ = ["proxied", "proxy"]

ONE_LINE = pytest.mark.lines("2.1")  # what is tested does not depend on the daemon


# ── somebody else answers, or nobody ────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def listener(answer: bytes | None, *, name: str = "containerd.sock") -> AsyncIterator[str]:
    """Listen, read what comes, send an answer once, and wait; None closes every connection at once."""

    async def handle(stream: UnixStream) -> None:
        async with stream:
            if answer is None:
                return
            await stream.receive(1024)
            await stream.send(answer)
            with suppress(anyio.EndOfStream):
                while True:
                    await stream.receive(1024)

    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        path = Path(folder, name)
        async with anyio.create_task_group() as group:
            await group.start(partial(serve_unix, path, handle, group=group))
            yield str(path)
            group.cancel_scope.cancel()


async def failure(address: str) -> DaemonConnectError:
    with pytest.raises(DaemonConnectError) as raised:
        async with connect(address):
            pytest.fail("connected")
    return raised.value


@ONE_LINE
async def test_a_peer_that_never_answers_is_given_up(
    proxy: SocketProxy, namespace: str, monkeypatch: pytest.MonkeyPatch
):
    """Whoever accepts and stays silent makes `connect` fail after its bound (10 s), not hang; later it connects."""
    assert connecting.ANSWER_BOUND == 10.0
    monkeypatch.setattr(connecting, "ANSWER_BOUND", 0.2)
    proxy.accept = Accept.SILENT
    began = anyio.current_time()
    error = await failure(proxy.address)
    assert type(error) is DaemonNotRespondingError
    assert error.address == str(proxy.path)
    assert "did not answer within 0.2 s: is the daemon stuck?" in str(error)
    assert anyio.current_time() - began >= 0.2
    assert len(proxy.connections) == 1
    proxy.accept = Accept.FORWARD
    monkeypatch.undo()
    async with connect(proxy.address, namespace=namespace) as client:
        assert await client.version()


@ONE_LINE
async def test_the_callers_own_limit_comes_first(proxy: SocketProxy):
    """A shorter limit around `connect` is the caller's, and raises as theirs."""
    proxy.accept = Accept.SILENT
    with pytest.raises(TimeoutError) as raised, anyio.fail_after(0.1):
        async with connect(proxy.address):
            pytest.fail("connected")
    assert not isinstance(raised.value, DaemonConnectError)


async def test_a_full_backlog_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    """A daemon too busy to accept is waited for within the bound; asyncio would take the refusal for a connection."""
    monkeypatch.setattr(connecting, "ANSWER_BOUND", 1.2)  # longer than reads are repeated
    with tempfile.TemporaryDirectory(prefix="peer-") as folder, socket.socket(socket.AF_UNIX) as full:
        path = f"{folder}/s"
        full.bind(path)
        full.listen(0)
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            first.connect(path)
            second.setblocking(False)
            with pytest.raises(BlockingIOError):
                second.connect(path)
            error = await failure(path)
            assert type(error) is DaemonNotRespondingError
            assert "did not answer within 1.2 s" in str(error)


async def test_a_peer_that_hangs_up_is_no_daemon():
    """Whoever closes every connection is told apart from nobody listening."""
    async with listener(None) as address:
        assert type(await failure(address)) is DaemonNotRespondingError


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"\xff" * 100,
        b"220 mail ready\r\n",
    ],
    ids=["HTTP/1", "SSH", "TLS alert", "ones", "SMTP"],
)
async def test_another_protocol_is_found_out_at_once(answer: bytes):
    """A peer that speaks something else is recognised by its first bytes, long before the bound."""
    async with listener(answer) as address:
        with anyio.fail_after(3):
            error = await failure(address)
    assert type(error) is DaemonNotRespondingError
    assert "does not speak containerd's API" in str(error)


async def test_dockers_own_socket_is_named():
    """Docker's API socket, taken for containerd's, is explained."""
    async with listener(b"HTTP/1.1 400 Bad Request\r\n\r\n", name="docker.sock") as address:
        assert "this is Docker's own socket; containerd's is usually /run/containerd/containerd.sock" in str(
            await failure(address)
        )


async def test_the_ttrpc_socket_is_named(daemon: Daemon, namespace: str, monkeypatch: pytest.MonkeyPatch):
    """The daemon's ttrpc socket, taken for the other, is explained with the right address, however it answers."""
    monkeypatch.setattr(connecting, "ANSWER_BOUND", 0.5)
    error = await failure(f"{daemon.address}.ttrpc")
    assert type(error) is DaemonNotRespondingError
    assert f"this is its ttrpc socket; use {daemon.address}" in str(error)


# ── one connection, made when needed ────────────────────────────────────────────────────────────────────────────────


async def test_a_thousand_first_calls_make_one_connection(proxy: SocketProxy, daemon: Daemon, namespace: str):
    """Concurrent first calls on a cold client share one connection."""
    async with open_connection(str(proxy.path)) as connection:
        version = VersionService(Rpc(connection, Scope(namespace=namespace)))
        assert proxy.connections == []
        async with anyio.create_task_group() as group:
            for _ in range(1000):
                group.start_soon(version.version)
    assert len(proxy.connections) == 1


@ONE_LINE
async def test_a_connection_that_goes_at_once_is_a_typed_error(proxy: SocketProxy, namespace: str):
    """A connection that is accepted and closed before its first call is one that was lost, and nothing else."""
    async with connect(proxy.address, namespace=namespace) as client:
        for _ in range(20):
            proxy.accept = Accept.CLOSE
            await part(proxy, client)
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(expect_lost, client)
            proxy.accept = Accept.FORWARD
            assert await client.version()


async def expect_lost(client: Client) -> None:
    with pytest.raises(ConnectionLostError):
        await ask_once(client)


@ONE_LINE
async def test_a_connection_is_replaced_before_its_stream_ids_run_out(
    proxied: Client, proxy: SocketProxy, monkeypatch: pytest.MonkeyPatch
):
    """Long before stream ids run out the next call makes a new connection; calls under way finish on the old one."""
    channel = proxied.services.connection.channel
    monkeypatch.setattr(http2, "LAST_FRESH_STREAM", 101)
    async with proxied.events.subscribe() as envelopes:
        for _ in range(60):
            await ask_once(proxied)
        assert len(proxy.connections) >= 2
        assert not proxy.connections[0].closed, "the subscription is still on it"
        await proxied.images.list()
        with anyio.move_on_after(0.05):
            await anext(envelopes)
    await ask_once(proxied)
    with anyio.fail_after(2):
        while len(proxy.live) > 1:
            await anyio.sleep(0.01)
    assert proxy.connections[0].closed
    assert channel._connected
