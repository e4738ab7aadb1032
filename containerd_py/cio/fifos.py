"""FIFOs for the I/O of one process, lent to a task by their paths. Knows nothing of the daemon."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs

from containerd_py._completion import run_to_completion
from containerd_py.cio.config import NULL_IO, IOConfig
from containerd_py.cio.fifo_folder import FifoFolder, open_fifo
from containerd_py.cio.streams import FifoReceiveStream, FifoSendStream
from containerd_py.errors import InvalidArgumentError

DEV_NULL: Final = "/dev/null"


class FifoIO:
    """Our ends of a process's FIFOs; `config` is what the daemon is told of them.

    The caller owns them and a task borrows them. Whoever starts the process tells how that went: `release` or
    `abandon`. Without either, the end of `stdout` is still seen, but no reader that leaves `stdin`.
    """

    def __init__(self) -> None:
        """Have nothing open."""
        self.config: IOConfig = NULL_IO
        self.stdin: FifoSendStream | None = None
        self.stdout: FifoReceiveStream | None = None
        self.stderr: FifoReceiveStream | None = None
        self.is_settled: bool = False
        self.is_kept: bool = False

    def keep(self) -> None:
        """Leave the FIFOs where they are on the way out, for `attach_fifos` of this program or another one.

        The process goes on, until a FIFO is full. Whoever attaches last removes them: `attach_fifos(…, remove=True)`.
        """
        self.is_kept = True

    async def release(self, close_stdin: Callable[[], Awaitable[object]] | None = None) -> None:
        """Say that the shim has opened its ends: `Tasks.Start` has returned, of the task or of the exec.

        `close_stdin` is to call `Tasks.CloseIO`; from now on closing `stdin` does so, at once if it was closed before.
        """
        self.is_settled = True
        for output in self._outputs():
            output.end_without_writer()
        if self.stdin is not None:
            await self.stdin.release(close_stdin)

    def abandon(self) -> None:
        """Say that no process came of it: outputs end after what they hold, sending raises BrokenResourceError."""
        self.is_settled = True
        for output in self._outputs():
            output.end_without_writer()
        if self.stdin is not None:
            self.stdin.abandon()

    def close(self) -> None:
        """Close all our ends at once; leave the FIFOs and the process alone."""
        for stream in (self.stdin, *self._outputs()):
            if stream is not None:
                stream.close()

    def _outputs(self) -> list[FifoReceiveStream]:
        return [output for output in (self.stdout, self.stderr) if output is not None]


@asynccontextmanager
async def open_fifos(
    *,
    stdin: bool = True,
    stdout: bool = True,
    stderr: bool = True,
    terminal: bool = False,
    directory: str | os.PathLike[str] | None = None,
) -> AsyncIterator[FifoIO]:
    """Make FIFOs for one process and open our ends; close and, without `keep`, remove them on the way out.

    A terminal has no stderr. An output that is not wanted goes to /dev/null, without passing through this process.
    `directory` is for the FIFOs' folder and must be seen by the daemon's host under the same path; default:
    /run/containerd/fifo for root, else $XDG_RUNTIME_DIR/containerd/fifo.

    Raises: as `FifoFolder.create`.
    """
    io = FifoIO()
    folder = FifoFolder(directory)
    try:
        if terminal or stdin or stdout or stderr:
            await run_to_completion(
                partial(_make_ends, io, folder, stdin=stdin, stdout=stdout, stderr=stderr, terminal=terminal)
            )
        yield io
    finally:
        io.close()
        if not io.is_kept:
            await run_to_completion(folder.remove)


@asynccontextmanager
async def attach_fifos(
    config: IOConfig, *, stdin: bool = True, stdout: bool = True, stderr: bool = True, remove: bool = False
) -> AsyncIterator[FifoIO]:
    """Open our ends of FIFOs that a running process has already, by their paths as `Tasks.Get` tells them.

    Of two readers of an output each gets a part: see that the former one has gone. What is no FIFO (a log URI,
    /dev/null) is not opened. The FIFOs stay, unless they are ours, made by `open_fifos`, and `remove` is True: then
    they are removed on the way out, if the block was entered and nobody called `keep`.

    Raises: NotFoundError, PermissionDeniedError, InvalidArgumentError, ResourceExhaustedError, as `open_fifo`.
    """
    io = FifoIO()
    io.is_kept = not remove
    folder = FifoFolder()
    try:
        await run_to_completion(partial(_open_ends, io, config, stdin=stdin, stdout=stdout, stderr=stderr))
        await run_to_completion(partial(folder.adopt, [config.stdin, config.stdout, config.stderr]))
        yield io
    finally:
        io.close()
        if not io.is_kept:
            await run_to_completion(folder.remove)


def _make_ends(io: FifoIO, folder: FifoFolder, *, stdin: bool, stdout: bool, stderr: bool, terminal: bool) -> None:
    folder.create()
    config = IOConfig(
        terminal=terminal,
        stdin=folder.make_fifo(f"{os.getpid()}-stdin") if stdin else "",
        # The shim opens both outputs whenever it opens any stream: 1.6 to 2.1 fail on "" (`opening file ""`).
        stdout=folder.make_fifo(f"{os.getpid()}-stdout") if stdout else DEV_NULL,
        stderr="" if terminal else folder.make_fifo(f"{os.getpid()}-stderr") if stderr else DEV_NULL,
    )
    io.config = attrs.evolve(config, lent=io)
    if stdin:
        io.stdin = _open_sender(config.stdin, awaits_reader=True)
    if stdout:
        io.stdout = _open_receiver(config.stdout, awaits_writer=True)
    if stderr and not terminal:
        io.stderr = _open_receiver(config.stderr, awaits_writer=True)


def _open_ends(io: FifoIO, config: IOConfig, *, stdin: bool, stdout: bool, stderr: bool) -> None:
    io.config = attrs.evolve(config, lent=io)
    io.is_settled = True
    if stdin and _names_fifo(config.stdin):
        io.stdin = _open_sender(config.stdin, awaits_reader=False)
    if stdout and _names_fifo(config.stdout):
        io.stdout = _open_receiver(config.stdout, awaits_writer=False)
    if stderr and not config.terminal and _names_fifo(config.stderr):
        io.stderr = _open_receiver(config.stderr, awaits_writer=False)


def _names_fifo(path: str) -> bool:
    if path in ("", DEV_NULL) or "://" in path:
        return False
    if not path.startswith("/"):
        raise InvalidArgumentError(f"{path!r} is neither an absolute path nor a URI")
    return True


def _open_receiver(path: str, *, awaits_writer: bool) -> FifoReceiveStream:
    return FifoReceiveStream(open_fifo(path, os.O_RDONLY), writer_expected=awaits_writer)


def _open_sender(path: str, *, awaits_reader: bool) -> FifoSendStream:
    # Without a reader O_WRONLY fails (ENXIO); O_RDWR never does and stands in for it.
    holder = open_fifo(path, os.O_RDWR)
    try:
        fd = open_fifo(path, os.O_WRONLY)
    except BaseException:
        os.close(holder)
        raise
    if awaits_reader:
        return FifoSendStream(fd, holder=holder)
    os.close(holder)
    return FifoSendStream(fd, holder=None)
