"""Small files that others read at any time: there before or after a change, never in between."""

from __future__ import annotations

import os
from pathlib import Path

from containerd_py.errors import InvalidArgumentError

MAX_SIZE = 1 << 20  # bytes


def write_whole(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file beside its place and rename it there. Blocks. The caller keeps others from writing it, too.

    Raises:
        OSError: It cannot be written.
    """
    place = Path(path)
    temporary = place.with_name(f".tmp-{place.name}")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with open(fd, "wb") as file:  # noqa: PTH123  # of a descriptor
            file.write(data)
            file.flush()
            os.fsync(fd)
        temporary.rename(place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_bounded(path: str, *, limit: int = MAX_SIZE) -> bytes:
    """Read a file that somebody else has written. Blocks.

    Raises:
        FileNotFoundError: It is not there.
        InvalidArgumentError: It has more than `limit` bytes.
    """
    with Path(path).open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InvalidArgumentError(f"{path} has more than {limit} bytes")
    return data
