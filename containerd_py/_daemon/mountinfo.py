"""What is mounted where, as the kernel tells this process. Names of mount points are anybody's: nothing splits them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")  # proc(5): blank, tab, line end and backslash, nothing else


def mount_points() -> list[str]:
    """Return every mount point that this process sees, in the order in which they were mounted. Blocks."""
    return parse_mount_points(Path("/proc/self/mountinfo").read_bytes())


def parse_mount_points(mountinfo: bytes) -> list[str]:
    """Return the mount points in the text of /proc/PID/mountinfo."""
    # Not splitlines() nor split(), which take a carriage return or a form feed in a name for the end of it.
    points = [line.split(b" ")[4] for line in mountinfo.split(b"\n") if line]
    return [os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), point)) for point in points]
