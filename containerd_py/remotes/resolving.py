"""Names to addresses, with the near ones left out. Knows the HTTP client's resolver interface; knows no HTTP."""

from __future__ import annotations

import socket

import anyio
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from containerd_py.remotes.origins import Origin, Reach, literal, reach_of


class TooNearError(OSError):
    """A name from a stranger leads to an address nearer than the stranger is."""


class GuardedResolver(AbstractResolver):
    """Resolves names that strangers gave us, to addresses no nearer than `limit`.

    Checking here, and not before, leaves no time to change the name's address between check and use.
    """

    def __init__(self, limit: Reach) -> None:
        self._limit = limit
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolve a name.

        Raises:
            TooNearError: All its addresses are too near.
        """
        found = await self._resolver.resolve(host, port, family)
        allowed = [result for result in found if is_allowed(result["host"], self._limit)]
        if found and not allowed:
            raise TooNearError(f"{host} leads to an address nearer than the registry's")
        return allowed

    async def close(self) -> None:
        """Close nothing: there is nothing open."""
        await self._resolver.close()


def is_allowed(host: str, limit: Reach) -> bool:
    """Tell whether an address may be asked; names are for the resolver to judge."""
    address = literal(host.partition("%")[0])
    return address is None or reach_of(address) <= limit


async def reach_of_origin(origin: Origin) -> Reach:
    """Tell how near a registry is: as near as the farthest of its addresses; public when it cannot be told."""
    address = literal(origin.host)
    if address is not None:
        return reach_of(address)
    try:
        found = await anyio.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except OSError:
        return Reach.PUBLIC
    addresses = [literal(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found]
    return min((reach_of(address) for address in addresses if address is not None), default=Reach.PUBLIC)
