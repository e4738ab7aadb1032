"""How much an image archive may ask of its reader. A value; whoever trusts an archive may raise any of it."""

from __future__ import annotations

from typing import Final

import attrs

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_GIB: Final = 1024 * _MIB


@attrs.frozen(kw_only=True)
class ArchiveLimits:
    """Bounds on an archive; sizes in bytes. What exceeds one is refused with ArchiveError.

    `members` counts everything with a header, extended headers too. `metadata` bounds one extended header, `name` one
    path, `names` all paths together. `json` bounds each document of the archive itself, as in containerd's reader.
    `ratio` is how many times larger an archive may get when it is decompressed, beyond its first 16 MiB; `size` bounds
    the decompressed archive.
    """

    members: int = 100_000
    metadata: int = _MIB
    name: int = 4 * _KIB
    names: int = 16 * _MIB
    json: int = 20 * _MIB
    ratio: int = 1000
    size: int = 256 * _GIB


DEFAULT_LIMITS: Final = ArchiveLimits()
