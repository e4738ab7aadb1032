"""Files written so that a crash leaves the old or the new one, and removed without complaint. Blocking."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Put a file in the place of another one, or of none, in one step; `durable`: it survives a power failure."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".tmp-{path.name[:64]}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that has nothing in it; leave any other."""
    with suppress(OSError):
        folder.rmdir()
