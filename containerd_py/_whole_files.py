"""Small files that others read at any time: there before or after a change, never in between. Calls block."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from containerd_py.errors import InvalidArgumentError

MAX_SIZE: Final = 1 << 20  # bytes


def write_whole(path: str | os.PathLike[str], data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Put a file in the place of another one, or of none, in one step; `durable`: it survives a power failure.

    The folder it is in is made where it is missing, for this user alone.

    Raises:
        OSError: It cannot be written.
    """
    place = Path(path)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".tmp-{place.name[:64]}-", dir=place.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        Path(temporary).replace(place)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def read_bounded(path: str | os.PathLike[str], *, limit: int = MAX_SIZE) -> bytes:
    """Read a file that somebody else has written.

    Raises:
        FileNotFoundError: It is not there.
        InvalidArgumentError: It has more than `limit` bytes.
    """
    with Path(path).open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InvalidArgumentError(f"{os.fspath(path)} has more than {limit} bytes")
    return data
