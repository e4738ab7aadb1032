"""Progress of transfers, the same whoever moves the bytes: us or the daemon."""

from __future__ import annotations

import attrs

from containerd_py.types import Descriptor


@attrs.frozen(kw_only=True)
class Progress:
    """One thing that happened during a pull, push, import or export.

    `event` is an open string in the daemon's vocabulary: waiting, downloading, complete, already exists, extracting,
    extracted, saved, and sentences such as "Resolving from …" that concern the whole operation. `name` says what it
    happened to (for content, `layer-sha256:…` and the like); `parents` names what it belongs to. `progress` and
    `total` are bytes, 0 where not known. Source: containerd.types.transfer.Progress.
    """

    event: str
    name: str = ""
    parents: tuple[str, ...] = ()
    progress: int = 0
    total: int = 0
    descriptor: Descriptor | None = None
