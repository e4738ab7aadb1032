"""Waiting for what arrives in a FIFO, at as few calls a chunk as there can be.

A shim writes 32 KiB at a time: registering with the event loop and leaving it again for every chunk costs more than
reading it. So the registration stays while somebody waits again and again, and the loop itself takes the bytes. Of
output that comes fast even a turn of the loop for each chunk costs more than the chunk, and so does waking the reader
for the writer: it is gathered in the FIFO, and looked at when a tick is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final, TypeVar

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from containerd_py.cio.ticks import Ticks

TICK: Final = 0.000_2  # seconds: a fifth of what the fastest writer takes to fill the FIFO
_NANOSECONDS: Final = 1_000_000_000  # in a second
_RUSH: Final = 16  # chunks that came one within a tick of the other: such output is gathered
_CHUNK: Final = 16 * 1024  # bytes; less at a time is no rush
_IDLE_TICKS: Final = 2  # ticks without anything: the rush is over

_Taken = TypeVar("_Taken", bytes, int)


class Arrivals:
    """Takes from one descriptor for one waiter at a time.

    `gathers`: whether the FIFO has room for what comes in several ticks.
    """

    def __init__(self, fd: int, *, gathers: bool) -> None:
        self._fd = fd
        self._gathers = gathers
        self._loop: asyncio.AbstractEventLoop | None = None  # where the descriptor is registered, or the ticks are
        self._waiter: asyncio.Future[bytes | int] | None = None
        self._take: Callable[[int], bytes | int] = int
        self._has_waited = False
        self._ticks: Ticks | None = None
        self._idle_ticks = 0
        self._chunks = 0  # that came in a row
        self._began = 0.0  # when the first of them did

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
        loop = self._loop or self._register()
        waiter: asyncio.Future[_Taken] = loop.create_future()
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
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._on_readable)
        self._chunks = 0
        return self._loop

    def _on_readable(self) -> None:
        if self._waiter is None or self._waiter.done():
            self._leave()  # nobody waits: it would be called in every turn
        elif self._is_rushing(self._look(self._waiter)) and self._gathers:
            self._gather()

    def _on_tick(self, ticks: Ticks) -> None:
        ticks.note()
        if self._waiter is None or self._waiter.done():
            self._leave()  # whoever receives is slower than a tick: then the FIFO gathers by itself
        elif self._look(self._waiter) is not None:
            self._idle_ticks = 0
        else:
            self._idle_ticks += 1
            if self._idle_ticks == _IDLE_TICKS:
                self._leave()
                self._register()

    def _look(self, waiter: asyncio.Future[bytes | int]) -> int | None:
        """Take what is there for the waiter and return its length; None where nothing is there yet."""
        try:
            taken = self._take(self._fd)
        except BlockingIOError:
            return None
        except OSError:
            taken = 0  # whoever waits meets it when looking again
        if not taken:
            self._leave()  # an end is readable for ever
        waiter.set_result(taken)
        return len(taken) if isinstance(taken, bytes) else taken

    def _is_rushing(self, size: int | None) -> bool:
        if size is None or size < _CHUNK:
            self._chunks = 0
            return False
        if self._chunks == 0:
            self._began = monotonic()
        self._chunks += 1
        if self._chunks <= _RUSH:
            return False
        self._chunks = 0
        return monotonic() - self._began < _RUSH * TICK

    def _gather(self) -> None:
        """Look at the descriptor at every tick, instead of whenever something arrives."""
        assert self._loop is not None
        try:
            ticks = Ticks(int(TICK * _NANOSECONDS))
        except OSError:
            self._gathers = False
            return
        self._loop.remove_reader(self._fd)
        self._loop.add_reader(ticks.fd, self._on_tick, ticks)
        self._ticks, self._idle_ticks = ticks, 0

    def _leave(self) -> None:
        if self._loop is None:
            return
        if self._ticks is None:
            self._loop.remove_reader(self._fd)
        else:
            self._loop.remove_reader(self._ticks.fd)
            self._ticks.close()
        self._loop = self._ticks = None
