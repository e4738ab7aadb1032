"""How near an address may be that somebody else names. Knows addresses and names; knows no HTTP."""

from __future__ import annotations

import socket

import anyio

from containerd_py.remotes.origins import Origin, Reach, literal, reach_of


class TooNearError(OSError):
    """A name from a stranger leads to an address nearer than the stranger is."""


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
