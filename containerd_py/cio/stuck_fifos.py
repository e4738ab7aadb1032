"""Shims that wait for a program which was killed to read from its FIFOs. Blocking calls; knows /proc.

A program may die between asking for a process and its start: the shim then waits for a reader of the process's output
for ever, and with it for the end of the whole task. Whoever opens the FIFO for a moment sets it free.
"""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_PROCESSES: Final = Path("/proc")
_SHIM: Final = b"containerd-shim"
_MOMENT: Final = 0.05  # seconds for the shim to go on


def release_writers(address: str, namespace: str, container_id: str) -> int:
    """Open the FIFOs that the container's shim has, to read nothing from them; return how many there were.

    What others read is not taken from them. Where the shim cannot be seen, nothing is done.
    """
    readers: dict[tuple[int, int], int] = {}
    try:
        known = -1
        while len(readers) > known:  # behind each one that is released the shim may wait at the next
            known = len(readers)
            for fifo in _fifos(address, namespace, container_id):
                with suppress(OSError):
                    _open_reader(fifo, readers)
            time.sleep(_MOMENT)
        return len(readers)
    finally:
        for reader in readers.values():
            os.close(reader)


def _open_reader(fifo: Path, readers: dict[tuple[int, int], int]) -> None:
    status = fifo.stat()
    if (status.st_dev, status.st_ino) not in readers:
        readers[status.st_dev, status.st_ino] = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _fifos(address: str, namespace: str, container_id: str) -> Iterator[Path]:
    for process in _PROCESSES.iterdir():
        if process.name.isdecimal() and _is_shim_of(process, address, namespace, container_id):
            with suppress(OSError):
                yield from (fd for fd in (process / "fd").iterdir() if _is_named_fifo(fd))


def _is_shim_of(process: Path, address: str, namespace: str, container_id: str) -> bool:
    try:
        arguments = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    wanted = {b"-namespace": namespace, b"-id": container_id, b"-address": address}
    given = dict(itertools.pairwise(arguments))
    return os.path.basename(arguments[0]).startswith(_SHIM) and all(  # noqa: PTH119  # bytes
        given.get(option) == os.fsencode(value) for option, value in wanted.items()
    )


def _is_named_fifo(fd: Path) -> bool:
    with suppress(OSError):
        return os.readlink(fd).startswith("/") and stat.S_ISFIFO(fd.stat().st_mode)  # noqa: PTH115
    return False
