"""Clients from a pool: one connection for each daemon, closed once."""

import socket

import anyio
import pytest

from containerd_py import Client, ClientClosedError, ClientPool, SocketNotFoundError
from containerd_py._transport.connection import Connection
from containerd_py.daemon import Daemon
from containerd_py.errors import InvalidArgumentError


def connection_of(client: Client) -> Connection:
    return client.services.connection


async def test_namespaces_share_a_connection(daemon: Daemon, namespace: str):
    """Clients of one address have one channel, each its own namespace; they work, also from several tasks at once."""
    clients: list[Client] = []

    async def work(number: int) -> None:
        client = await pool.get(f"{namespace}-{number}", daemon.address)
        await client.version()
        clients.append(client)

    async with ClientPool() as pool:
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(work, number)
        assert {client.namespace for client in clients} == {f"{namespace}-{number}" for number in range(5)}
        assert len({id(connection_of(client)) for client in clients}) == 1
        again = await pool.get(namespace, f"unix://{daemon.address.removeprefix('unix://')}")
        assert connection_of(again) is connection_of(clients[0])
        assert again.supports("tasks")


async def test_clients_end_with_the_pool(daemon: Daemon, namespace: str):
    """After the block neither its clients nor the pool can be used."""
    async with ClientPool() as pool:
        client = await pool.get(namespace, daemon.address)
    with pytest.raises(ClientClosedError):
        await client.version()
    with pytest.raises(ClientClosedError):
        await pool.get(namespace, daemon.address)
    with pytest.raises(ClientClosedError):
        await ClientPool().get(namespace, daemon.address)


async def test_a_failure_to_connect_hurts_nobody_else(daemon: Daemon, namespace: str, tmp_path):
    """An address without a daemon fails whoever asked for it, is not remembered, and leaves other clients alone."""
    missing = tmp_path / "containerd.sock"
    async with ClientPool() as pool:
        client = await pool.get(namespace, daemon.address)
        for _ in range(2):
            with pytest.raises(SocketNotFoundError):
                await pool.get(namespace, missing)
        missing.symlink_to(daemon.address.removeprefix("unix://"))
        other = await pool.get(namespace, missing)
        assert connection_of(other) is not connection_of(client)
        assert (await other.version()) == (await client.version())
        with pytest.raises(InvalidArgumentError):
            await pool.get("not a namespace", daemon.address)


async def test_a_task_that_is_cancelled_does_not_take_the_connection_with_it(daemon: Daemon, namespace: str):
    """The connection is the pool's: whoever asked first may go, and another one uses it."""
    async with ClientPool() as pool:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await pool.get(namespace, daemon.address)
        assert scope.cancelled_caught
        assert await (await pool.get(namespace, daemon.address)).version()


async def test_the_block_raises_its_own_errors(daemon: Daemon, namespace: str):
    """What ends the block comes out as it is, and a cancellation ends it."""
    with pytest.raises(KeyError, match="mine"):
        async with ClientPool() as pool:
            await pool.get(namespace, daemon.address)
            raise KeyError("mine")
    with anyio.move_on_after(0.1) as scope:
        async with ClientPool() as pool:
            await pool.get(namespace, daemon.address)
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_closing_does_not_wait_for_who_does_not_answer(namespace: str, tmp_path):
    """A pool is closed at once though a daemon has not answered yet."""

    async def get(pool: ClientPool) -> None:
        with pytest.raises(ClientClosedError):
            await pool.get(namespace, tmp_path / "silent.sock")
        refused.set()

    refused = anyio.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent.sock"))
        listener.listen()
        async with anyio.create_task_group() as group:
            with anyio.fail_after(3):
                async with ClientPool() as pool:
                    group.start_soon(get, pool)
                    await anyio.sleep(0.1)
                await refused.wait()
