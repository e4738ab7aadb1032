"""A process's terminal on this program's own console. Knows a process and the console; makes neither."""

from __future__ import annotations

import enum
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Literal

import anyio
from anyio import BrokenResourceError, ClosedResourceError
from anyio.abc import ByteReceiveStream, ByteSendStream

from containerd_py._flows.together import working_together
from containerd_py.cio.inherit import write_out
from containerd_py.cio.streams import FifoReceiveStream
from containerd_py.cio.terminal import (
    DETACH_KEYS,
    Console,
    DetachFilter,
    own_console,
    parse_detach_keys,
    size_changes,
)
from containerd_py.errors import ContainerdError, FailedPreconditionError
from containerd_py.process import Process
from containerd_py.services.tasks import ExitStatus

# A child that outlives the process may hold the terminal open; after this many seconds we stop listening.
_LAST_WORDS_BOUND: Final = 2.0


class Detached(enum.Enum):
    """The type of `DETACHED`."""

    DETACHED = "detached"


DETACHED: Final = Detached.DETACHED


class _Wiring:
    """A process and the console, and what goes between them."""

    def __init__(self, process: Process, console: Console, *, detach_keys: bytes) -> None:
        self._process = process
        self._console = console
        self._filter = DetachFilter(detach_keys)
        self._output_ended = anyio.Event()
        self._ended = anyio.Event()
        self._outcome: ExitStatus | Literal[Detached.DETACHED] = DETACHED
        self._error: ContainerdError | None = None

    async def outcome(self) -> ExitStatus | Literal[Detached.DETACHED]:
        """Wait for the end and return it."""
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._outcome

    async def fit(self) -> None:
        """Give the process's terminal the size of the console. That it cannot be done hinders nothing."""
        size = self._console.size
        if size is not None:
            with suppress(ContainerdError):  # not started yet, ended, or a daemon that restarts
                await self._process.resize(*size)

    async def fit_whenever(self, changes: AsyncIterator[object]) -> None:
        """Follow the console's size."""
        async for _ in changes:
            await self.fit()

    async def show(self, stdout: ByteReceiveStream) -> None:
        """Copy output to the console."""
        await write_out(stdout, sys.stdout)
        self._output_ended.set()

    async def type(self, stdin: ByteSendStream) -> None:
        """Copy what is typed to the process until the detach keys come."""
        async for keys in self._console.typed():
            typed, detaches = self._filter.feed(keys)
            await _send(stdin, typed)
            if detaches:
                break
        else:
            await _send(stdin, self._filter.rest())
        self._ended.set()

    async def watch(self, stdout: ByteReceiveStream) -> None:
        """Wait for the end of the process, then for the end of its output."""
        try:
            status = await self._process.wait()
        except ContainerdError as error:
            self._error = error
        else:
            with anyio.move_on_after(_LAST_WORDS_BOUND):
                await self._output_ended.wait()
            if isinstance(stdout, FifoReceiveStream):
                stdout.end_when_empty()
                await self._output_ended.wait()
            if not self._ended.is_set():
                self._outcome = status
        self._ended.set()


class TerminalSession:
    """A process's terminal on this program's console. Made by `attached_terminal`."""

    def __init__(self, wiring: _Wiring) -> None:
        self._wiring = wiring

    async def wait(self) -> ExitStatus | Literal[Detached.DETACHED]:
        """Wait until the process has ended and its output is out, or the detach keys were typed.

        Return how it ended, or `DETACHED`. A console that was hung up has detached.

        Raises:
            TaskLostError: The daemon can no longer tell how it ended.
        """
        return await self._wiring.outcome()


@asynccontextmanager
async def attached_terminal(process: Process, *, detach_keys: str = DETACH_KEYS) -> AsyncIterator[TerminalSession]:
    """Put a process's terminal on this program's own console; the console is as it was afterwards, whatever happens.

    Its modes become raw: every key goes to the process, ctrl-C too. What the process writes goes to this program's
    stdout, and its terminal follows the console's size. `detach_keys` end the session and leave the process running,
    as does leaving the block; "" is none. A signal that ends this program at once leaves the console raw.

    Raises:
        FailedPreconditionError: This program's stdin is no terminal, this is not the main thread, the process has no
            terminal, or its stdin and stdout were not opened here.
        InvalidArgumentError: There are no such detach keys.
    """
    wiring = _Wiring(process, console := own_console(), detach_keys=parse_detach_keys(detach_keys))
    stdin, stdout = _ends_of(process)
    with size_changes() as changes, console.raw():
        await wiring.fit()
        async with working_together() as workers:
            workers.start_soon(wiring.fit_whenever, changes)
            workers.start_soon(wiring.show, stdout)
            workers.start_soon(wiring.type, stdin)
            workers.start_soon(wiring.watch, stdout)
            yield TerminalSession(wiring)
            await workers.end()


def _ends_of(process: Process) -> tuple[ByteSendStream, ByteReceiveStream]:
    if not process.io.terminal:
        raise FailedPreconditionError(f"{process!r} has no terminal: create it with terminal=True")
    if process.stdin is None or process.stdout is None:
        raise FailedPreconditionError(
            f"the input and output of {process!r} are not open here: lend both, by open_fifos or attach_fifos"
        )
    return process.stdin, process.stdout


async def _send(stdin: ByteSendStream, typed: bytes) -> None:
    with suppress(BrokenResourceError, ClosedResourceError):  # nobody reads it; the detach keys still count
        if typed:
            await stdin.send(typed)
