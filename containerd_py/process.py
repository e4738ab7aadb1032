"""A process in a container: a task's own first one, or another by exec. A handle: identity, services, lent I/O."""

from __future__ import annotations

import signal as signals
from contextlib import suppress
from functools import partial
from typing import Final

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream

from containerd_py._flows.criu_errors import raise_explained
from containerd_py._flows.exits import ExitWatch, wait_for_exit, watch_exit
from containerd_py._flows.killed import KILL_BOUND, dies, sends
from containerd_py._flows.parallel import unwrapped
from containerd_py._flows.undoing import settled
from containerd_py.cio.config import NULL_IO, IOConfig
from containerd_py.cio.unread import take_unread
from containerd_py.errors import (
    FailedPreconditionError,
    NotFoundError,
    StopTimeoutError,
    TaskLostError,
    UnknownError,
)
from containerd_py.oci.signals import parse_signal
from containerd_py.services.bundle import Services
from containerd_py.services.tasks import ExitStatus, ProcessStatus, TaskState

_ALIVE: Final = frozenset({TaskState.RUNNING, TaskState.PAUSED, TaskState.PAUSING})


class Process:
    """A process the daemon runs in a container. Made by `Task.open_exec` and its like; `Task` is one as well."""

    def __init__(
        self, services: Services, container_id: str, *, exec_id: str = "", pid: int = 0, io: IOConfig = NULL_IO
    ) -> None:
        self._services = services
        self._container_id = container_id
        self._exec_id = exec_id
        self._pid = pid
        self._io = io
        self._watch: ExitWatch | None = None

    @property
    def id(self) -> str:
        """The exec's ID; a task's is its container's."""
        return self._exec_id or self._container_id

    @property
    def pid(self) -> int:
        """The process ID on the daemon's host; 0 before an exec is started."""
        return self._pid

    @property
    def stdin(self) -> ByteSendStream | None:
        """Our end of its input, where FIFOs were opened for it."""
        return None if self._io.lent is None else self._io.lent.stdin

    @property
    def stdout(self) -> ByteReceiveStream | None:
        """Our end of its output, where FIFOs were opened for it."""
        return None if self._io.lent is None else self._io.lent.stdout

    @property
    def stderr(self) -> ByteReceiveStream | None:
        """Our end of its error output, where FIFOs were opened for it."""
        return None if self._io.lent is None else self._io.lent.stderr

    async def start(self) -> None:
        """Start it (Tasks.Start). The wait for its end is begun before, so that no exit is missed.

        Raises:
            ContainerdError: The runtime could not start it; the message has the runtime's words.
            CheckpointError: It could not be brought back from a checkpoint.
        """
        watch = await watch_exit(self._services, self._container_id, self._exec_id)
        try:
            self._pid = await settled(lambda: self._services.tasks.start(self._container_id, exec_id=self._exec_id))
        except BaseException as error:
            watch.abandon()
            if self._io.lent is not None:
                self._io.lent.abandon()
            await raise_explained(error, f"start of {self!r}")
            raise
        self._watch = watch
        if self._io.lent is not None:
            await self._io.lent.release(self._close_io)

    async def wait(self) -> ExitStatus:
        """Wait until it has ended and return how. Any number may wait; a daemon's restart meanwhile does no harm.

        Raises:
            TaskLostError: The daemon can no longer tell how it ended.
        """
        if self._watch is not None:
            return await self._watch.wait()
        return await wait_for_exit(self._services, self._container_id, self._exec_id)

    async def kill(self, signal: int | str = signals.SIGTERM, *, all: bool = False) -> None:  # noqa: A002
        """Send it a signal, by number or name; `all` sends it to every process of the container (Tasks.Kill).

        Raises:
            NotFoundError: It has ended.
            InvalidArgumentError: There is no such signal.
        """
        number = parse_signal(str(int(signal)) if isinstance(signal, int) else signal)
        await self._services.tasks.kill(self._container_id, number, exec_id=self._exec_id, all=all)

    async def resize(self, width: int, height: int) -> None:
        """Set its terminal's size in characters (Tasks.ResizePty)."""
        await self._services.tasks.resize_pty(self._container_id, exec_id=self._exec_id, width=width, height=height)

    async def close_stdin(self) -> None:
        """End its input: what was sent before still arrives (Tasks.CloseIO)."""
        if self.stdin is not None:
            await self.stdin.aclose()  # calls CloseIO once everything is under way
        else:
            await self._close_io()

    async def _close_io(self) -> None:
        try:
            await self._services.tasks.close_io(self._container_id, exec_id=self._exec_id)
        except (NotFoundError, FailedPreconditionError):
            return  # it has ended: its input has, too

    async def status(self) -> ProcessStatus:
        """Return what the daemon says of it now (Tasks.Get).

        Raises:
            NotFoundError: It was deleted.
        """
        return await self._services.tasks.get(self._container_id, exec_id=self._exec_id)

    async def delete(self, *, force: bool = False) -> ExitStatus:
        """Delete it and return how it ended; `force` kills it first.

        Output that was not yet read stays readable; with `force`, what is more than a FIFO holds is dropped where
        nobody reads it, since the daemon waits for it.

        Raises:
            FailedPreconditionError: It runs and `force` is False.
            NotFoundError: It was deleted already.
        """
        if force:
            await self._end_by_force()
        try:
            return await settled(self._delete_though_unread if force else self._delete_and_settle)
        except (UnknownError, FailedPreconditionError) as error:
            if (state := (await self.status()).state) in _ALIVE:
                raise FailedPreconditionError(f"{self!r} is {state}: stop it first, or use force=True") from error
            raise

    async def _delete_and_settle(self) -> ExitStatus:
        status = await self._delete()
        if self._watch is not None:
            self._watch.settle(status)
        return status

    async def _delete_though_unread(self) -> ExitStatus:
        """Delete it, and let output that nobody reads not hold that up."""
        with unwrapped():
            async with anyio.create_task_group() as group:
                group.start_soon(take_unread, (self._io.stdout, self._io.stderr))
                status = await self._delete_and_settle()
                group.cancel_scope.cancel()
        return status

    async def _delete(self) -> ExitStatus:
        return await self._services.tasks.delete_process(self._container_id, exec_id=self._exec_id)

    async def _end_by_force(self) -> None:
        if self._watch is not None and self._watch.has_ended:
            return
        try:
            kill = partial(self.kill, signals.SIGKILL, all=not self._exec_id)
            await sends(self._services, self._container_id, kill)
        except NotFoundError:  # it has ended by itself, or never was: the wait tells
            with suppress(NotFoundError):
                if (await self.status()).state is TaskState.CREATED:
                    return  # waits for its restore from a checkpoint, which nobody started or which failed
        except FailedPreconditionError:
            return  # created and never started: deleting is enough
        has_ended = True
        with suppress(TaskLostError):
            has_ended = await dies(self._services, self._container_id, self.wait)
        if not has_ended:
            raise StopTimeoutError(f"{self!r} survived SIGKILL for {KILL_BOUND:g} s: it hangs in the kernel")

    async def attach(self) -> None:
        """Bind lent I/O of a process that runs already, so that closing its input reaches the process."""
        if self._io.lent is not None:
            await self._io.lent.release(self._close_io)

    @property
    def io(self) -> IOConfig:
        """The I/O it was created with: paths and URIs, and our open ends where we hold them."""
        return self._io

    def __repr__(self) -> str:
        namespace = self._services.namespace
        return f"<Process {self.id} of {self._container_id} pid={self._pid} namespace={namespace}>"
