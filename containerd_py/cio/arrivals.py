"""Waiting for what arrives in a FIFO, at as few calls a chunk as there can be.

A shim writes 32 KiB at a time: registering with the event loop and leaving it again for every chunk costs more than
reading it. So the registration stays while somebody waits again and again, and the loop itself takes the bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

_Taken = TypeVar("_Taken", bytes, int)


class Arrivals:
    """Takes from one descriptor for one waiter at a time."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop: asyncio.AbstractEventLoop | None = None  # where the descriptor is registered
        self._waiter: asyncio.Future[bytes | int] | None = None
        self._take: Callable[[int], bytes | int] = int
        self._has_waited = False

    async def let_others_run(self) -> None:
        """Be a checkpoint; others run only if they did not while the last chunk was waited for."""
        if self._has_waited:
            self._has_waited = False
            await checkpoint_if_cancelled()
        else:
            await checkpoint()

    async def take(
        self, take: Callable[[int], _Taken], leave: Callable[[bytes], None], keep: Callable[[_Taken], bytes]
    ) -> _Taken:
        """Wait, and return what `take` takes from the descriptor as soon as there is something.

        Returns nothing where it is worth to look again: at an end, an error or after `wake`. What was taken for a
        waiter that is cancelled goes to `leave`, as `keep` makes it.
        """
        self._loop = self._loop or self._register()
        waiter: asyncio.Future[_Taken] = self._loop.create_future()
        self._waiter, self._take = waiter, take  # type: ignore[assignment]
        try:
            taken = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                leave(keep(waiter.result()))
            raise
        finally:
            self._waiter = None
        self._has_waited = True
        return taken

    def wake(self) -> None:
        """Have a waiter look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(0)

    def stop(self) -> None:
        """Have nothing more to do with the descriptor, which is about to be closed."""
        self._leave()
        self.wake()

    def _register(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._fd, self._on_readable)
        return loop

    def _on_readable(self) -> None:
        if self._waiter is None or self._waiter.done():
            self._leave()  # nobody waits: it would be called in every turn
            return
        try:
            taken = self._take(self._fd)
        except BlockingIOError:
            return
        except OSError:
            taken = 0  # whoever waits meets it when looking again
        if not taken:
            self._leave()  # an end is readable for ever
        self._waiter.set_result(taken)

    def _leave(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._fd)
            self._loop = None
