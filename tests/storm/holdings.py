"""What this process holds at a moment: descriptors, threads, memory."""

from __future__ import annotations

import ctypes
import gc
import threading
from pathlib import Path

import attrs


@attrs.frozen(kw_only=True)
class Holdings:
    """Counts of what a long run must not pile up; memory in KiB."""

    descriptors: int
    threads: int
    memory: int


def holdings() -> Holdings:
    """Count what this process holds now, garbage not included, nor what the allocator keeps for later.

    The latter swings by 20 MiB with how many buffers there were at once: a real leak would drown in it.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return Holdings(
        descriptors=len([*Path("/proc/self/fd").iterdir()]),
        threads=threading.active_count(),
        memory=memory_of("self"),
    )


def memory_of(process: int | str) -> int:
    """Return the resident memory of a process, in KiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
