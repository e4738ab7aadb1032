"""Locks that other programs take as well: flock on files and directories, as nerdctl does. Blocking."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from containerd_py.cni.stopping import Stop
from containerd_py.errors import FailedPreconditionError, PermissionDeniedError

LOCK_BOUND: Final = 120.0  # seconds; whoever holds it longer hangs
_PAUSES: Final = (0.002, 0.005, 0.01, 0.02)  # seconds between attempts, the last one repeated


@contextmanager
def locked(path: Path, *, shared: bool = False, stop: Stop | None = None, bound: float = LOCK_BOUND) -> Iterator[None]:
    """Hold the lock of a file, which is made where it is missing, or of a directory.

    Raises:
        FailedPreconditionError: Somebody else held it for `bound` seconds.
        PermissionDeniedError: This user may not open it.
        Stopped: The caller was cancelled while it waited.
    """
    try:
        descriptor = _open(path)
    except PermissionError as error:
        raise PermissionDeniedError(f"the lock {path} may not be opened: networks are root's to make") from error
    try:
        _wait(descriptor, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, stop, time.monotonic() + bound)
        yield
    finally:
        os.close(descriptor)  # which unlocks


def _open(path: Path) -> int:
    if path.is_dir():
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _wait(descriptor: int, path: Path, kind: int, stop: Stop | None, deadline: float) -> None:
    attempt = 0
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise FailedPreconditionError(f"another program has held the lock {path} for too long") from None
        else:
            return
        pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
        attempt += 1
        if stop is None:
            time.sleep(pause)
        else:
            stop.wait(pause)
