"""Names to addresses, with the near ones left out. Knows the HTTP client's resolver interface; knows no HTTP.

Imported, as the HTTP client is, when the first registry is talked to.
"""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from containerd_py.remotes.origins import Reach
from containerd_py.remotes.resolving import TooNearError, is_allowed


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
