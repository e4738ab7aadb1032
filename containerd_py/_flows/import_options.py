"""How an archive is to be imported: what of it, under which names. Values, checked when they are made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypedDict, get_args

import attrs

from containerd_py import platforms
from containerd_py._flows.defaults import chosen_platform, chosen_snapshotter
from containerd_py._flows.import_graph import GraphOptions
from containerd_py.archives.archive_names import Translate, add_base_name, filter_base_name, image_name
from containerd_py.archives.limits import DEFAULT_LIMITS, ArchiveLimits
from containerd_py.errors import ArchiveError, InvalidArgumentError
from containerd_py.labels import check_labels
from containerd_py.services.bundle import Services
from containerd_py.types import NO_LABELS, Descriptor, Platform

DigestNames = Literal["never", "unnamed", "always"]
ArchiveVia = Literal["auto", "client", "transfer"]

_DIGEST_NAMES: Final = get_args(DigestNames)
_VIAS: Final = get_args(ArchiveVia)
_MAX_NAME: Final = 1024  # characters; references have at most half of that


class ImportOptions(TypedDict, total=False):
    """The options of an import, by keyword."""

    platform: Platform | str | None
    all_platforms: bool
    unpack: bool
    snapshotter: str | None
    labels: Mapping[str, str] | None
    base_name: str | None
    translate_name: Callable[[str], str] | None
    index_name: str | None
    digest_names: DigestNames
    skip_missing: bool
    discard_unpacked_layers: bool
    compress_layers: bool
    limits: ArchiveLimits
    via: ArchiveVia


@attrs.frozen(kw_only=True)
class ImportWish:
    """An import as it was asked for. See `import_images` for the fields."""

    platform: Platform | str | None = None
    all_platforms: bool = False
    unpack: bool = True
    snapshotter: str | None = None
    labels: Mapping[str, str] | None = None
    base_name: str | None = None
    translate_name: Callable[[str], str] | None = None
    index_name: str | None = None
    digest_names: DigestNames = "never"
    skip_missing: bool = False
    discard_unpacked_layers: bool = False
    compress_layers: bool = False
    limits: ArchiveLimits = DEFAULT_LIMITS
    via: ArchiveVia = "auto"

    def __attrs_post_init__(self) -> None:
        for name, value, allowed in (("via", self.via, _VIAS), ("digest_names", self.digest_names, _DIGEST_NAMES)):
            if value not in allowed:
                raise InvalidArgumentError(f"{name}={value!r}: say one of {', '.join(allowed)}")
        if self.all_platforms and self.platform is not None:
            raise InvalidArgumentError("all_platforms leaves no platform to choose: give one or the other")
        if self.base_name is not None and self.translate_name is not None:
            raise InvalidArgumentError("base_name and translate_name both name the images: give one or the other")
        if self.discard_unpacked_layers and not self.unpack:
            raise InvalidArgumentError("discard_unpacked_layers needs unpack: what is not unpacked would be lost")
        if self.digest_names != "never" and not self.base_name:
            raise InvalidArgumentError("digest_names needs base_name: names are made of both")
        check_labels(self.labels or NO_LABELS)

    async def settle(self, services: Services) -> ImportPlan:
        """Decide what was left open, by what the daemon takes for granted."""
        return ImportPlan(
            wish=self,
            platform=await chosen_platform(services, self.platform),
            snapshotter=await chosen_snapshotter(services, self.snapshotter) if self.unpack else None,
        )


@attrs.frozen(kw_only=True)
class ImportPlan:
    """An import with everything decided; `snapshotter` None means not to unpack."""

    wish: ImportWish
    platform: Platform
    snapshotter: str | None

    @property
    def labels(self) -> Mapping[str, str]:
        """What labels the image records get."""
        return self.wish.labels or NO_LABELS

    @property
    def graph_options(self) -> GraphOptions:
        """What to keep of the images."""
        return GraphOptions(
            matcher=platforms.ALL if self.wish.all_platforms else platforms.only(self.platform),
            skip_missing=self.wish.skip_missing,
            without_layers=self.wish.discard_unpacked_layers,
        )

    def names_for(self, descriptor: Descriptor) -> list[str]:
        """Return what an image is to be called.

        Raises:
            ArchiveError: A name from the archive is none.
        """
        name = image_name(descriptor.annotations, self._translate())
        base = self.wish.base_name
        if base is not None and name and filter_base_name(base)(name) != name:
            name = ""  # a whole name that the archive gives, of another image
        if name and (len(name) > _MAX_NAME or not name.isprintable() or " " in name):
            raise ArchiveError(f"{name[:160]!a} is no name for an image")
        names = [name] if name else []
        if self.wish.digest_names == "always" or (self.wish.digest_names == "unnamed" and not name):
            names.append(f"{self.wish.base_name}@{descriptor.digest}")
        return names

    def _translate(self) -> Translate:
        if self.wish.translate_name is not None:
            return self.wish.translate_name
        if self.wish.base_name is not None:
            return filter_base_name(self.wish.base_name)
        return add_base_name(default_base_name())


def default_base_name() -> str:
    """Return what ctr calls images of which the archive says no more than a tag."""
    return time.strftime("import-%Y-%m-%d")
