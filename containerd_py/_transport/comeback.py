"""The return of a daemon that is away, tried for by one of those who wait for it, whatever their number."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import uniform
from typing import Final

import anyio

from containerd_py.errors import DaemonConnectError

_FIRST_PAUSE: Final = 0.05  # seconds between two attempts
_LONGEST_PAUSE: Final = 1.0


class Comeback:
    """Waits for a daemon on behalf of everybody: hundreds of waiters make no more attempts to connect than one does."""

    def __init__(self, connect: Callable[[], Awaitable[object]]) -> None:
        self._connect = connect
        self._attempts: anyio.Event | None = None  # set when whoever makes them has stopped
        self._count = 0
        self._failure: DaemonConnectError | None = None

    async def wait(self, patience: float) -> None:
        """Wait until the daemon can be connected, for at most `patience` seconds.

        Raises:
            DaemonConnectError: It was away all the time; this is why the last attempt failed.
        """
        before = self._count
        with anyio.move_on_after(patience):
            while self._count == before:
                if self._attempts is None:
                    await self._try_until_it_is_back()
                else:
                    await self._attempts.wait()  # who made them may have been cancelled: then it is another's turn
            return
        if self._failure is None:
            raise DaemonConnectError(f"the daemon did not take a connection within {patience:g} seconds")
        raise type(self._failure)(str(self._failure), address=self._failure.address) from self._failure

    async def _try_until_it_is_back(self) -> None:
        pause = _FIRST_PAUSE
        self._attempts = anyio.Event()
        try:
            while True:
                await anyio.sleep(uniform(pause / 2, pause))  # noqa: S311  # spreading programs, no secret
                try:
                    await self._connect()
                except DaemonConnectError as error:
                    self._failure = error
                else:
                    self._count += 1
                    return
                pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            self._attempts.set()
            self._attempts = None
