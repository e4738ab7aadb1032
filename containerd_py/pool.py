"""Clients of several daemons and namespaces, one connection for each daemon. Knows nothing of what they do with it."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from containerd_py._flows.connecting import open_services, resolve_namespace
from containerd_py._flows.parallel import unwrapped
from containerd_py._transport.address import resolve_address
from containerd_py.client import Client
from containerd_py.cni.settings import NetworkSettings
from containerd_py.errors import ClientClosedError
from containerd_py.services.bundle import Services


class ClientPool:
    """Lends clients that share one connection for each address, all closed at the block's end.

    For example::

    async with ClientPool() as pool:
        client = await pool.get("default")
    """

    def __init__(
        self, *, data_root: str | os.PathLike[str] | None = None, networks: NetworkSettings | None = None
    ) -> None:
        """Connect to nothing yet; `data_root` and `networks` are those of `connect`, for all clients."""
        self._data_root = data_root
        self._networks = networks
        self._group: TaskGroup | None = None
        self._members: dict[str, _Member] = {}

    async def get(self, namespace: str | None = None, address: str | os.PathLike[str] | None = None) -> Client:
        """Return a client of a namespace; the first one for an address connects, from whichever task.

        The arguments' defaults are those of `connect`. A failure to connect is not remembered: the next call tries
        again.

        Raises:
            DaemonConnectError: There is no containerd at the address; its subclasses say why.
            InvalidArgumentError: The address or the namespace cannot be one.
            ClientClosedError: The pool is closed, or not open yet.
        """
        group = self._group
        if group is None:
            raise ClientClosedError("the pool of clients is not open: get clients inside `async with ClientPool()`")
        place, name = resolve_address(address), resolve_namespace(namespace)
        member = self._members.get(place)
        if member is None:
            member = self._members[place] = _Member(place, self._data_root, self._networks)
            group.start_soon(self._hold, member)
        services = await member.services()
        return Client(services.in_scope(namespace=name))

    async def _hold(self, member: _Member) -> None:
        try:
            await member.hold()
        finally:
            if self._members.get(member.address) is member:
                del self._members[member.address]

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise RuntimeError("the pool is open already")
        group = anyio.create_task_group()
        await group.__aenter__()
        self._group = group
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        group, self._group = self._group, None
        assert group is not None
        for member in [*self._members.values()]:
            member.release()
        with unwrapped():
            if isinstance(exc_val, Exception):  # goes on as it is: a task group would wrap it
                await group.__aexit__(None, None, None)
            else:
                await group.__aexit__(exc_type, exc_val, exc_tb)


class _Member:
    """A connection, held in a task of its own: scopes are left where they were entered."""

    def __init__(
        self, address: str, data_root: str | os.PathLike[str] | None, networks: NetworkSettings | None
    ) -> None:
        self.address = address
        self._data_root = data_root
        self._networks = networks
        self._services: Services | None = None
        self._failure: Exception | None = None
        self._settled = anyio.Event()
        self._released = anyio.Event()
        self._connecting = anyio.CancelScope()

    async def hold(self) -> None:
        """Connect, and hold the connection until it is released."""
        try:
            with self._connecting:
                await self._hold()
        finally:
            self._settled.set()

    async def _hold(self) -> None:
        try:
            async with open_services(self.address, data_root=self._data_root, networks=self._networks) as services:
                self._services = services
                self._settled.set()
                await self._released.wait()
        except Exception as error:
            if self._services is not None:
                raise
            self._failure = error

    async def services(self) -> Services:
        """Wait for the connection."""
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure
        if self._services is None or self._released.is_set():
            raise ClientClosedError(f"the pool was closed while it connected to {self.address}")
        return self._services

    def release(self) -> None:
        """Let the connection be closed; one that is not there yet is given up."""
        self._released.set()
        if not self._settled.is_set():
            self._connecting.cancel()
