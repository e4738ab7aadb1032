"""Our ends of FIFOs as anyio byte streams. Knows how Linux FIFOs behave; knows nothing of paths, folders or tasks."""

from __future__ import annotations

import array
import fcntl
import os
import select
import termios
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from anyio import (
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    ResourceGuard,
    current_time,
    notify_closing,
    sleep,
    wait_writable,
)
from anyio.abc import ByteReceiveStream, ByteSendStream
from anyio.lowlevel import checkpoint

from containerd_py.cio.arrivals import Arrivals

FIFO_CAPACITY: Final = 1 << 20  # bytes: fs.pipe-max-size, what an unprivileged process may ask for
READER_GRACE: Final = 2.0  # seconds for the shim to open stdin, which it does in the background of Create or Start

_Taken = TypeVar("_Taken", bytes, int)


class FifoReceiveStream(ByteReceiveStream):
    """The end of a FIFO that output is received from.

    The stream ends when the last writer has closed. `writer_expected`: none has opened yet, which is not an end. A
    receive that is cancelled has taken nothing. Who does not receive makes the process wait, at the latest after
    1 MiB and what its pipe and the shim hold.
    """

    def __init__(self, fd: int, *, writer_expected: bool) -> None:
        """Own the descriptor of a FIFO opened O_RDONLY | O_NONBLOCK."""
        self._fd = fd
        self._writer_expected = writer_expected
        self._ends_when_empty = False
        self._at_end = False
        self._left = b""  # what a receive that was cancelled had taken
        self._is_drained = False  # as far as the last receive knows
        self._arrivals = Arrivals(fd, gathers=_enlarge(fd))
        self._guard = ResourceGuard("receiving from")

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return what is there, at most `max_bytes`; wait where nothing is.

        Raises: EndOfStream, ClosedResourceError, BusyResourceError.
        """
        if max_bytes < 1:
            raise ValueError("max_bytes must be positive")
        with self._guard:
            await self._arrivals.let_others_run()
            if self._left and self._fd >= 0:
                taken, self._left = self._left[:max_bytes], self._left[max_bytes:]
                return taken
            data = await self._taken(lambda fd: os.read(fd, max_bytes), lambda taken: taken)
            self._is_drained = len(data) < max_bytes
            return data

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Put what is there into a buffer, at most its length, and return the number of bytes; else as `receive`."""
        if not buffer:
            raise ValueError("the buffer must have room")
        with self._guard:
            await self._arrivals.let_others_run()
            if self._left and self._fd >= 0:
                taken = min(len(buffer), len(self._left))
                memoryview(buffer).cast("B")[:taken] = self._left[:taken]
                self._left = self._left[taken:]
                return taken
            taken = await self._taken(lambda fd: os.readv(fd, [buffer]), lambda taken: bytes(buffer[:taken]))
            self._is_drained = taken < len(buffer)
            return taken

    async def aclose(self) -> None:
        """Close our end. A process that goes on writing then waits for ever: the shim keeps the FIFO open."""
        self.close()
        await checkpoint()

    def close(self) -> None:
        """Close our end at once; a waiting receive ends with ClosedResourceError."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        self._arrivals.stop()
        os.close(fd)

    def end_when_empty(self) -> None:
        """From now on take an empty FIFO for the end, whoever still has it open."""
        self._ends_when_empty = True
        self._arrivals.wake()

    def end_without_writer(self) -> None:
        """End the stream unless somebody has it open for writing: no other writer will come."""
        if self._fd < 0:
            return
        # A write end opened and closed makes the kernel report the hang-up that ends the stream. Opened by way of
        # /proc, for the path may be gone or somebody else's by now.
        os.close(os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))

    async def _taken(self, take: Callable[[int], _Taken], keep: Callable[[_Taken], bytes]) -> _Taken:
        # Nothing may be awaited between taking bytes and returning them: a cancellation there would lose them.
        while True:
            if self._fd < 0:
                raise ClosedResourceError
            if self._at_end:
                raise EndOfStream
            if self._is_drained and not self._ends_when_empty:
                self._is_drained = False  # looking would hardly bring anything, and the loop tells when it does
            else:
                try:
                    taken = take(self._fd)
                except BlockingIOError:
                    self._at_end = self._ends_when_empty
                else:
                    if taken:
                        return taken
                    self._at_end = self._ends_when_empty or not self._writer_expected or self._has_hung_up()
            if not self._at_end:
                arrived = await self._arrivals.take(take, self._keep, keep)
                if arrived:
                    return arrived

    def _keep(self, data: bytes) -> None:
        self._left = data

    def _has_hung_up(self) -> bool:
        # Reading gives b"" also before the first writer has come. poll(2) tells the difference: Linux reports a
        # hang-up to a reader only if some writer opened after it.
        return bool(_poll(self._fd) & select.POLLHUP)


class FifoSendStream(ByteSendStream):
    """The end of a FIFO that input is sent to.

    What is sent before the shim has opened its end waits in the FIFO. The container sees the end of its input only
    when our end is closed *and* `Tasks.CloseIO` was called: `aclose` does both once a task has been bound by `release`.
    """

    def __init__(self, fd: int, *, holder: int | None) -> None:
        """Own the descriptor of a FIFO opened O_WRONLY | O_NONBLOCK.

        `holder` is a second one, O_RDWR, that stands in for the reader until `release`; None: the reader is there or
        will not come.
        """
        self._fd = fd
        self._holder = -1 if holder is None else holder
        self._reader_was_here = holder is None
        self._released_at = 0.0
        self._sent = 0
        self._is_closed = False
        self._close_stdin: Callable[[], Awaitable[object]] | None = None
        self._guard = ResourceGuard("sending to")
        _enlarge(fd)

    @property
    def sent_bytes(self) -> int:
        """How many bytes the FIFO has taken, also of a send that was cancelled half-way."""
        return self._sent

    async def send(self, item: bytes | bytearray | memoryview) -> None:
        """Write everything; wait while the FIFO is full.

        Raises: BrokenResourceError where the reader has gone, ClosedResourceError, BusyResourceError.
        """
        with self._guard:
            await checkpoint()
            if self._is_closed:
                raise ClosedResourceError
            rest = memoryview(item).cast("B")
            while rest:
                rest = rest[await self._write(rest) :]

    async def release(self, close_stdin: Callable[[], Awaitable[object]] | None = None) -> None:
        """Say that the shim has opened its end or is about to, and how to close the daemon's (`Tasks.CloseIO`)."""
        self._close_stdin = close_stdin or self._close_stdin
        self._drop_holder()
        if self._is_closed:
            await self._finish_closing()

    def abandon(self) -> None:
        """Say that nobody will read: sending raises BrokenResourceError from now on."""
        self._reader_was_here = True
        self._drop_holder()
        if self._is_closed:
            self.close()

    async def aclose(self) -> None:
        """End the input: close our end and, where `release` was told how, the daemon's.

        Before `release` this only marks the end, since what was sent would be lost if nobody had the FIFO open. Where
        the daemon's end could not be closed, another call tries again.
        """
        self._is_closed = True
        if self._fd >= 0:
            notify_closing(self._fd)
        if self._holder < 0:
            await self._finish_closing()
        await checkpoint()

    def close(self) -> None:
        """Close our end at once, whatever was sent; the daemon's is left alone."""
        self._is_closed = True
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            notify_closing(fd)
            os.close(fd)
        self._drop_holder()

    async def _write(self, data: memoryview) -> int:
        while True:
            if self._is_closed:
                raise ClosedResourceError
            try:
                written = os.write(self._fd, data)
            except BlockingIOError:
                await wait_writable(self._fd)
            except BrokenPipeError:
                if not await self._reader_came():
                    raise BrokenResourceError from None
            else:
                self._sent += written
                return written

    async def _finish_closing(self) -> None:
        try:
            if self._sent:
                await self._reader_came()
        finally:
            self.close()
        if self._close_stdin is not None:
            await self._close_stdin()
            self._close_stdin = None

    async def _reader_came(self) -> bool:
        """Wait for the reader unless it was here before; tell whether one has come."""
        if self._reader_was_here:
            return False
        pause = 0.001
        while not self._sees_reader():
            if self._fd < 0 or current_time() > self._released_at + READER_GRACE:
                return False
            await sleep(pause)
            pause = min(2 * pause, 0.02)
        return True

    def _sees_reader(self) -> bool:
        if self._fd >= 0 and not self._reader_was_here:
            has_reader = not _poll(self._fd) & select.POLLERR
            self._reader_was_here = has_reader or _unread_bytes(self._fd) < self._sent
        return self._reader_was_here

    def _drop_holder(self) -> None:
        if self._holder < 0:
            return
        holder, self._holder = self._holder, -1
        os.close(holder)
        self._released_at = current_time()
        self._sees_reader()


def _enlarge(fd: int) -> bool:
    """Give a FIFO its full capacity and tell whether it has it."""
    with suppress(OSError):  # past the user's share of pipe buffers the FIFO keeps 64 KiB: slower, not wrong
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, FIFO_CAPACITY)
    return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) >= FIFO_CAPACITY


def _poll(fd: int) -> int:
    """Return the conditions poll(2) reports whether asked or not: POLLHUP, POLLERR."""
    poller = select.poll()
    poller.register(fd, 0)
    return next((condition for _, condition in poller.poll(0)), 0)


def _unread_bytes(fd: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]
