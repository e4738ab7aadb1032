"""Running a process to its end and keeping what it wrote."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Final

import anyio
import attrs

from containerd_py._flows.parallel import unwrapped
from containerd_py.cio.copying import Capture, send_all
from containerd_py.cio.streams import FifoReceiveStream
from containerd_py.errors import InvalidArgumentError, ProcessExitError
from containerd_py.process import Process
from containerd_py.types import Timestamp

# A child that outlives the process may hold its output open; after this many seconds of silence we stop listening.
_SILENCE_BOUND: Final = 2.0

Input = bytes | bytearray | memoryview | AsyncIterable[bytes]


@attrs.frozen(kw_only=True)
class CompletedProcess:
    """What became of a process: its exit code, everything it wrote, and when it ended.

    `is_truncated` tells that it wrote more than the `capture_limit` it was run with.
    """

    exit_code: int
    stdout: bytes = attrs.field(repr=lambda value: f"<{len(value)} bytes>")
    stderr: bytes = attrs.field(repr=lambda value: f"<{len(value)} bytes>")
    exited_at: Timestamp | None = None
    is_truncated: bool = False

    def check(self, command: str = "process") -> None:
        """Raise if the exit code is not zero.

        Raises:
            ProcessExitError: It is not; the error has code and output.
        """
        if self.exit_code != 0:
            raise ProcessExitError(self.exit_code, stdout=self.stdout, stderr=self.stderr, command=command)


def check_capture(input: object, capture_limit: int | None) -> None:  # noqa: A002
    """Refuse what a process cannot be run with, before anything is made for it.

    Raises:
        InvalidArgumentError: The input is text, or the limit negative.
    """
    if input is not None and not isinstance(input, bytes | bytearray | memoryview | AsyncIterable):
        remedy = "encode it first" if isinstance(input, str) else "open files with anyio.open_file"
        raise InvalidArgumentError(
            f"input must be bytes or an asynchronous iterable of them, not {type(input).__name__}: {remedy}"
        )
    if capture_limit is not None and capture_limit < 0:
        raise InvalidArgumentError(f"capture_limit must not be negative: {capture_limit!r}")


async def complete(process: Process, *, input: Input | None, capture_limit: int | None) -> CompletedProcess:  # noqa: A002
    """Feed a started process, collect its output, and return both when it has ended and its output as well."""
    outputs = _Outputs(process, capture_limit)
    with unwrapped():
        async with anyio.create_task_group() as group:
            group.start_soon(outputs.collect)
            if input is not None and process.stdin is not None:
                group.start_soon(send_all, process.stdin, input)
            status = await process.wait()
            await outputs.wait()
            group.cancel_scope.cancel()  # input nobody will read any more
    return CompletedProcess(
        exit_code=status.code,
        stdout=outputs.stdout.data,
        stderr=outputs.stderr.data,
        exited_at=status.exited_at,
        is_truncated=outputs.stdout.is_truncated or outputs.stderr.is_truncated,
    )


class _Outputs:
    def __init__(self, process: Process, limit: int | None) -> None:
        self.stdout, self.stderr = Capture(limit), Capture(limit)
        pairs = ((self.stdout, process.stdout), (self.stderr, process.stderr))
        self._taken = [(capture, stream) for capture, stream in pairs if stream is not None]
        self._have_ended = anyio.Event()

    async def collect(self) -> None:
        async with anyio.create_task_group() as group:
            for capture, stream in self._taken:
                group.start_soon(capture.take, stream)
        self._have_ended.set()

    async def wait(self) -> None:
        """Wait for the end of both, or for silence where a child of the process holds them open."""
        while not self._have_ended.is_set():
            before = self._size
            with anyio.move_on_after(_SILENCE_BOUND):
                await self._have_ended.wait()
            if self._size == before:
                for _, stream in self._taken:
                    if isinstance(stream, FifoReceiveStream):
                        stream.end_when_empty()

    @property
    def _size(self) -> int:
        return self.stdout.size + self.stderr.size
