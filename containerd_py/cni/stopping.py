"""How a cancelled caller tells a worker thread to come to an end."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Self


class Stopped(Exception):  # noqa: N818  # no error: somebody wanted it
    """The caller was cancelled; what runs here gives up. Never reaches a user."""


class Stop:
    """A request to stop, set from anywhere and seen by a thread that waits on descriptors."""

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._flag = threading.Event()
        self._lock = threading.Lock()
        self._closed = False

    def set(self) -> None:
        """Ask to stop; may be called any number of times."""
        with self._lock:
            self._flag.set()
            if not self._closed:
                os.eventfd_write(self._event, 1)

    @property
    def is_set(self) -> bool:
        """Whether it was asked for."""
        return self._flag.is_set()

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._event

    def wait(self, seconds: float) -> None:
        """Wait so long.

        Raises:
            Stopped: It was asked for.
        """
        if self._flag.wait(seconds):
            raise Stopped

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            os.close(self._event)
