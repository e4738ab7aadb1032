"""The rest of a large body, received straight into two buffers that are used in turn: no copy, few calls a megabyte.

Knows sockets and sizes; knows no HTTP. The HTTP client handed its connection over, which is closed afterwards.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import anyio

BUFFER_SIZE: Final = 1020 * 1024  # bytes; what one message to the daemon holds
BUFFERS: Final = 2  # one is received into while the other is being used


class Body(asyncio.BufferedProtocol):
    """The `rest` bytes that a body still has. `take` lends them as they come.

    `former` is who the transport reported to before; it learns of the connection's end.
    """

    def __init__(self, transport: asyncio.Transport, rest: int) -> None:
        self._transport = transport
        self._former = transport.get_protocol()
        self._rest = rest  # bytes that are still to be received
        self._free = [memoryview(bytearray(BUFFER_SIZE)) for _ in range(BUFFERS)]
        self._filling = self._free.pop()
        self._filled = 0  # bytes of it
        self._full: deque[memoryview] = deque()
        self._lent: memoryview | None = None
        self._has_ended = False  # nothing more will come, `_failure` telling why if something is missing
        self._failure: Exception | None = None
        self._change = anyio.Event()
        transport.set_protocol(self)

    async def take(self) -> memoryview:
        """Wait for the next bytes, which are valid until the next call; none are left where it returns none.

        Raises:
            EOFError: The connection ended before the body.
            OSError: It broke.
        """
        self._take_back()
        while True:
            if self._full:
                self._lent = self._full.popleft()
                return self._lent[:]
            if self._filled:
                self._lent = self._filling
                taken, self._filled = self._filling[: self._filled], 0
                self._filling = self._free.pop()
                return taken
            if not self._rest:
                return memoryview(b"")
            if self._has_ended:
                raise self._failure or EOFError("the connection ended before the body")
            self._change = anyio.Event()
            await self._change.wait()

    def give_back(self) -> None:
        """Return the connection to whoever had it."""
        self._transport.set_protocol(self._former)

    def _take_back(self) -> None:
        if self._lent is None:
            return
        self._free.append(self._lent)
        self._lent = None
        if self._filled == BUFFER_SIZE:
            self._swap()
            self._transport.resume_reading()

    def _swap(self) -> None:
        self._full.append(self._filling)
        self._filling, self._filled = self._free.pop(), 0

    # ── what the transport calls ────────────────────────────────────────────────────────────────────────────────────

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # as much as there is room for
        """Say where to receive to."""
        return self._filling[self._filled : self._filled + max(1, self._rest)]

    def buffer_updated(self, nbytes: int) -> None:
        """Note what was received."""
        self._filled += nbytes
        self._rest -= nbytes
        if self._rest <= 0:
            self._transport.pause_reading()  # what comes after the body is nobody's
        elif self._filled == BUFFER_SIZE:
            if self._free:
                self._swap()
            else:
                self._transport.pause_reading()
        self._change.set()

    def eof_received(self) -> bool | None:
        """Note that nothing more will come."""
        self._has_ended = True
        self._change.set()
        return self._former.eof_received() if isinstance(self._former, asyncio.Protocol) else None

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection has gone."""
        self._has_ended, self._failure = True, exc
        self._change.set()
        self._former.connection_lost(exc)
