"""A client that talks to its daemon through the fault proxy, and what the transport's fault tests do with it.

A test module imports the fixtures by name.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from containerd_py import Client, connect
from containerd_py._generated.containerd.services.leases.v1 import CreateRequest, LeasesStub
from containerd_py._generated.containerd.services.version.v1 import VersionStub
from containerd_py.daemon import Daemon
from containerd_py.errors import ContainerdError
from tests.harness.h2frames import Frame, Kind
from tests.harness.socket_proxy import Direction, SocketProxy, open_proxy

TO_CLIENT, TO_DAEMON = Direction.TO_CLIENT, Direction.TO_DAEMON
MIB = 2**20


@pytest.fixture
async def proxy(daemon: Daemon) -> AsyncIterator[SocketProxy]:
    """Lend a proxy in front of the line's daemon."""
    async with open_proxy(daemon.address) as made:
        yield made


@pytest.fixture
async def proxied(proxy: SocketProxy, namespace: str) -> AsyncIterator[Client]:
    """Lend a client that talks through the proxy."""
    async with connect(proxy.address, namespace=namespace) as client:
        yield quiet(client)


@asynccontextmanager
async def proxied_client(daemon: Daemon, namespace: str) -> AsyncIterator[tuple[SocketProxy, Client]]:
    """Lend a proxy in front of any daemon and a client behind it."""
    async with open_proxy(daemon.address) as proxy, connect(proxy.address, namespace=namespace) as client:
        yield proxy, quiet(client)


def quiet(client: Client) -> Client:
    """Have the client ask nothing of its own after it reconnects, so that requests can be counted."""
    client.services.connection.channel.on_connected = None
    return client


async def part(proxy: SocketProxy, client: Client) -> None:
    """Cut the connection and let the client notice, so that its next call makes a new one."""
    proxy.disconnect()
    with anyio.fail_after(2):
        while client.services.connection.channel._connected:
            await anyio.sleep(0)


async def ask_once(client: Client) -> str:
    """Call Version without the repetition that reads get."""
    return (await client.services.stub(VersionStub).version()).version


async def create_lease(client: Client) -> None:
    """Make a call that changes something, and so is sent once only."""
    await client.services.stub(LeasesStub).create(CreateRequest(id=f"probe-{uuid.uuid4().hex}"))


async def drop_leases(client: Client) -> None:
    """Remove what `create_lease` made."""
    for lease in await client.leases.list():
        if lease.id.startswith("probe-"):
            await client.leases.delete(lease.id)


async def drop_ingests(client: Client) -> None:
    """Abort every ingest of the namespace, once their writers have let go."""
    while statuses := await client.content.list_statuses():
        for status in statuses:
            try:
                await client.content.abort(status.ref)
            except ContainerdError:
                await anyio.sleep(0.01)


async def store(client: Client, size: int) -> tuple[str, bytes]:
    """Put random bytes into the content store, under the client's lease; return their digest and them."""
    data = os.urandom(size)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    async with client.content.open_writer(f"store-{digest}", total=size, expected=digest) as writer:
        await writer.write(data)
        await writer.commit()
    return digest, data


async def outcome(call: Callable[[], Awaitable[object]], *, limit: float = 30.0) -> ContainerdError | None:
    """Return the typed error that the call ended with, None for success; anything else, or a hang, fails the test."""
    try:
        with anyio.fail_after(limit):
            await call()
    except ContainerdError as error:
        return error
    return None


def is_unasked_ping(frame: Frame) -> bool:
    """Tell a PING of the sender's own from the answer to one."""
    return frame.kind == Kind.PING and not frame.flags & 1


def record_edges(proxy: SocketProxy, direction: Direction) -> list[int]:
    """Return a list that grows by the size of each frame in the direction; no frame is changed."""
    sizes: list[int] = []

    def note(frame: Frame) -> bool:
        sizes.append(len(frame.encode()))
        return False

    proxy.replace(lambda frame: frame.encode(), direction, match=note, times=None)
    return sizes
