"""What is to be pulled, decided once for both ways of pulling. A value."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from containerd_py.references import Reference
from containerd_py.remotes.registry import Registry
from containerd_py.types import NO_LABELS, Platform, frozen_map


@attrs.frozen(kw_only=True)
class PullRequest:
    """An image to pull: all platforms of it, or one; `snapshotter` None means not to unpack it."""

    reference: Reference
    platform: Platform
    registry: Registry
    all_platforms: bool = False
    snapshotter: str | None = None
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)

    @property
    def name(self) -> str:
        """The name of the image record."""
        return str(self.reference)

    @property
    def source(self) -> str:
        """The source in the daemon's words."""
        return f"OCI Registry ({self.name})"
