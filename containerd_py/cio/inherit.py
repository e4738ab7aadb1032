"""A process's I/O copied from and to this program's own stdin, stdout and stderr. Knows nothing of terminal modes."""

from __future__ import annotations

import codecs
import os
import select
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import BinaryIO, Final, TextIO

from anyio import BrokenResourceError, create_task_group, to_thread, wait_readable
from anyio.abc import ByteReceiveStream, ByteSendStream

from containerd_py.cio.copying import discard
from containerd_py.cio.fifos import FifoIO, open_fifos

_CHUNK: Final = 1 << 16  # bytes


@asynccontextmanager
async def open_inherited(
    *, stdin: bool = False, terminal: bool = False, directory: str | os.PathLike[str] | None = None
) -> AsyncIterator[FifoIO]:
    """Open FIFOs as `open_fifos` does and copy: output to this program's stdout and stderr, its stdin to the process.

    The copying has the streams of what is yielded; leave them to it. Leaving the block writes what output is there,
    so wait for the process and delete the task inside. The end of this program's stdin is the process's too.

    Raises: as `open_fifos`; BrokenResourceError, in an exception group, where nobody reads this program's stdout or
        stderr any more (as in `program | head`).
    """
    failure: Exception | None = None
    async with (
        open_fifos(stdin=stdin, terminal=terminal, directory=directory) as io,
        create_task_group() as outputs,
        create_task_group() as inputs,
    ):
        if io.stdin is not None:
            inputs.start_soon(_forward, sys.stdin, io.stdin)
        for stream, own in ((io.stdout, sys.stdout), (io.stderr, sys.stderr)):
            if stream is not None:
                outputs.start_soon(write_out, stream, own)
        try:
            yield io
        except Exception as error:  # noqa: BLE001 - raised below, when the output that may explain it is out
            failure = error
        inputs.cancel_scope.cancel()
        _let_outputs_end(io)
    if failure is not None:
        raise failure


def _let_outputs_end(io: FifoIO) -> None:
    if not io.is_settled:
        io.abandon()
    for output in (io.stdout, io.stderr):
        if output is not None:
            output.end_when_empty()


async def _forward(own: TextIO | None, stdin: ByteSendStream) -> None:
    """Send this program's input until it ends or nobody reads it."""
    while own is not None and (chunk := await _read(own.fileno())):
        try:
            await stdin.send(chunk)
        except BrokenResourceError:
            break
    await stdin.aclose()


async def _read(fd: int) -> bytes:
    while True:
        with suppress(PermissionError):  # epoll takes no regular file, which is always readable
            await wait_readable(fd)
        try:
            return await to_thread.run_sync(os.read, fd, _CHUNK, abandon_on_cancel=True)
        except BlockingIOError:  # non-blocking, and somebody else took what was there
            continue


async def write_out(stream: ByteReceiveStream, own: TextIO | None) -> None:
    """Write output in a worker thread: a file's disk or a slow pager must not hold up the event loop."""
    if own is None:
        await discard(stream)
        return
    write = _writer(own)
    async for chunk in stream:
        try:
            await to_thread.run_sync(write, chunk, abandon_on_cancel=True)
        except BrokenPipeError:
            raise BrokenResourceError from None


def _writer(own: TextIO) -> Callable[[bytes], None]:
    binary: BinaryIO | None = getattr(own, "buffer", None)
    if binary is not None:
        return partial(_write_bytes, binary)
    # A replaced stdout, as in a notebook, may take text only.
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return lambda chunk: _write_text(own, decoder.decode(chunk))


def _write_text(own: TextIO, text: str) -> None:
    own.write(text)
    own.flush()


def _write_bytes(binary: BinaryIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        try:
            rest = rest[binary.write(rest) :]
        except BlockingIOError as error:  # somebody made the terminal or pipe non-blocking for all who have it
            rest = rest[error.characters_written :]
            select.select([], [binary], [])
    while True:
        try:
            binary.flush()
        except BlockingIOError:
            select.select([], [binary], [])
        else:
            return
