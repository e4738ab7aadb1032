"""Output that nobody reads any more, taken from its FIFOs so that the shim need not wait. Knows FIFOs by their paths.

A shim waits at a process's deletion until all output is in the FIFOs, for 10 seconds, and while one is full it is not.
"""

from __future__ import annotations

import array
import fcntl
import os
import termios
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Final

import anyio
from anyio import to_thread

from containerd_py.cio.fifo_folder import open_fifo
from containerd_py.errors import ContainerdError

_PAUSE: Final = 0.25  # seconds between two looks: who takes nothing for so long does not read
_CHUNK: Final = 1 << 20


async def take_unread(paths: Iterable[str]) -> None:
    """Read and drop what is in the FIFOs whenever nobody took anything for a while; goes on until it is cancelled.

    A reader that is merely slow keeps what is its own. What cannot be opened here is left alone.
    """
    await anyio.sleep(_PAUSE)  # most often all is over by then
    with ExitStack() as stack:
        fifos = await to_thread.run_sync(_open_all, [*paths], stack)
        before = dict.fromkeys(fifos, 0)
        while fifos:
            for fd in fifos:
                unread = _unread_bytes(fd)
                if unread and unread == before[fd]:
                    _drop(fd)
                before[fd] = _unread_bytes(fd)
            await anyio.sleep(_PAUSE)


def _open_all(paths: list[str], stack: ExitStack) -> list[int]:
    fifos = []
    for path in paths:
        try:
            fd = open_fifo(path, os.O_RDONLY)
        except (ContainerdError, OSError):
            continue  # no FIFO, gone, or somebody else's
        stack.callback(os.close, fd)
        fifos.append(fd)
    return fifos


def _drop(fd: int) -> None:
    try:
        while os.read(fd, _CHUNK):
            pass
    except BlockingIOError:
        return


def _unread_bytes(fd: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]
