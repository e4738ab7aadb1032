"""This program's own console: raw mode and back, its size, its keys. Knows nothing of FIFOs or tasks."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import anyio

from containerd_py.errors import FailedPreconditionError, InvalidArgumentError

DETACH_KEYS: Final = "ctrl-p,ctrl-q"  # Docker's and nerdctl's

_CONTROL_KEY: Final = re.compile(r"ctrl-([a-z@\[\\\]^_])")
_CHUNK: Final = 4096  # bytes: what a terminal's line discipline holds


def parse_detach_keys(keys: str) -> bytes:
    r"""Return the bytes of keys as Docker writes them: `ctrl-p,ctrl-q`, `~,.`; "" is none.

    A key is one ASCII character, or `ctrl-` and one of a-z @ [ \ ] ^ _.

    Raises:
        InvalidArgumentError: There is no such key.
    """
    return b"".join(_key(key, keys) for key in keys.split(",")) if keys else b""


def _key(key: str, keys: str) -> bytes:
    control = _CONTROL_KEY.fullmatch(key)
    if control is not None:
        return bytes([ord(control[1].upper()) & 0x1F])
    if len(key) == 1 and key.isascii():
        return key.encode()
    raise InvalidArgumentError(
        f"detach keys {keys!r}: {key!r} is no key; write single characters or ctrl-X, parted by commas"
    )


class DetachFilter:
    """Finds the detach keys in what is typed, in chunks cut anywhere, and lets everything else through.

    Keys that may be the beginning of the detach keys are held back until the next one tells.
    """

    def __init__(self, keys: bytes) -> None:
        """Look for these bytes; none are never found."""
        self._keys = keys
        self._held = b""

    def feed(self, chunk: bytes) -> tuple[bytes, bool]:
        """Return what is to be passed on, and whether the detach keys came; what was typed after them is dropped."""
        typed = self._held + chunk
        if not self._keys:
            return typed, False
        before, found, _ = typed.partition(self._keys)
        if found:
            self._held = b""
            return before, True
        self._held = self._beginning_at_end_of(typed)
        return typed[: len(typed) - len(self._held)], False

    def rest(self) -> bytes:
        """Return what is held back, and forget it."""
        held, self._held = self._held, b""
        return held

    def _beginning_at_end_of(self, typed: bytes) -> bytes:
        for length in range(min(len(self._keys) - 1, len(typed)), 0, -1):
            if typed.endswith(self._keys[:length]):
                return self._keys[:length]
        return b""


class Console:
    """The terminal that this program's stdin is."""

    def __init__(self, fd: int) -> None:
        """Use the descriptor of a terminal; it stays the caller's."""
        self._fd = fd

    @property
    def size(self) -> tuple[int, int] | None:
        """Its width and height in characters; None where it does not know, as on a serial line."""
        with suppress(OSError):
            width, height = os.get_terminal_size(self._fd)
            if width > 0 and height > 0:
                return width, height
        return None

    @contextmanager
    def raw(self) -> Iterator[None]:
        """Pass every key on as it is typed, unechoed; put the modes back on the way out, whatever happened."""
        modes = termios.tcgetattr(self._fd)
        try:
            tty.setraw(self._fd, termios.TCSANOW)
            unblocking = termios.tcgetattr(self._fd)
            # A read then returns at once with nothing. O_NONBLOCK would do it, too, to the shell we were started from.
            unblocking[6][termios.VMIN], unblocking[6][termios.VTIME] = 0, 0
            termios.tcsetattr(self._fd, termios.TCSANOW, unblocking)
            yield
        finally:
            with suppress(termios.error):  # it was hung up: there are no modes any more
                # Without waiting for output to drain: nobody may be reading it.
                termios.tcsetattr(self._fd, termios.TCSANOW, modes)

    async def typed(self) -> AsyncIterator[bytes]:
        """Yield what is typed until the terminal is hung up; for use in raw mode."""
        while True:
            await anyio.wait_readable(self._fd)
            try:
                typed = os.read(self._fd, _CHUNK)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                return
            if typed:
                yield typed
            elif self._has_hung_up():
                return

    def _has_hung_up(self) -> bool:
        poller = select.poll()
        poller.register(self._fd, 0)
        return bool(poller.poll(0))


def own_console() -> Console:
    """Return the terminal that this program's stdin is.

    Raises:
        FailedPreconditionError: It is none.
    """
    with suppress(ValueError, OSError):  # closed, or replaced by what has no descriptor
        if sys.stdin is not None and os.isatty(fd := sys.stdin.fileno()):
            return Console(fd)
    raise FailedPreconditionError(
        "this program's stdin is not a terminal: start it in one, or copy the streams instead"
    )


@contextmanager
def size_changes() -> Iterator[AsyncIterator[object]]:
    """Lend an iterator that gives something whenever the terminal's size changes; SIGWINCH is as before afterwards.

    Raises:
        FailedPreconditionError: This is not the main thread, where alone Python receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise FailedPreconditionError("a terminal is attached in the main thread only: signals come there")
    former = signal.getsignal(signal.SIGWINCH)
    try:
        with anyio.open_signal_receiver(signal.SIGWINCH) as changes:
            yield changes
    finally:
        signal.signal(signal.SIGWINCH, former or signal.SIG_DFL)
