"""Layers for images whose faults are in how they travel, or in what is inside."""

from __future__ import annotations

import io
import random
import tarfile


def tar_layer(name: str, size: int = 1000, *, seed: int = 0) -> bytes:
    """Make a layer with one file of that many reproducible random bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = size
        archive.addfile(info, io.BytesIO(random.Random(seed).randbytes(size)))
    return buffer.getvalue()
