"""A clock finer than an event loop's own, which sleeps whole milliseconds: a timerfd. Knows nothing of FIFOs."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_COUNTER_BYTES: Final = 8
_SECOND: Final = 1_000_000_000  # nanoseconds
_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Times(ctypes.Structure):  # struct itimerspec
    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("first_seconds", ctypes.c_long),
        ("first_nanoseconds", ctypes.c_long),
    )


class Ticks:
    """Makes its descriptor readable again and again. Python has this as `os.timerfd_create`, from 3.13 on."""

    def __init__(self, interval: int) -> None:
        """Begin; `interval` in nanoseconds.

        Raises: OSError where there is no descriptor left, or no timerfd.
        """
        self.fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        times = _Times(*divmod(interval, _SECOND), *divmod(interval, _SECOND))
        _libc.timerfd_settime(self.fd, 0, ctypes.byref(times), None)

    def note(self) -> None:
        """Take note of a tick, so that the descriptor is not readable until the next one."""
        os.read(self.fd, _COUNTER_BYTES)

    def close(self) -> None:
        """End."""
        os.close(self.fd)
