"""What a namespace and a daemon take when nobody says otherwise: snapshotter and platform."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from containerd_py import platforms
from containerd_py.errors import NotFoundError
from containerd_py.labels import DEFAULT_SNAPSHOTTER as SNAPSHOTTER_LABEL
from containerd_py.services.bundle import Services
from containerd_py.types import NO_LABELS, Platform

DEFAULT_SNAPSHOTTER: Final = "overlayfs"  # containerd, defaults, on Linux
_SNAPSHOTTER_PLUGINS: Final = "io.containerd.snapshotter.v1"


async def namespace_labels(services: Services) -> Mapping[str, str]:
    """Return the namespace's labels, which name its defaults."""
    try:
        return (await services.namespaces.get(services.namespace)).labels
    except NotFoundError:  # a namespace exists from its first object on
        return NO_LABELS


def snapshotter_of(labels: Mapping[str, str]) -> str:
    """Return the snapshotter that a namespace's labels name, else containerd's default."""
    return labels.get(SNAPSHOTTER_LABEL) or DEFAULT_SNAPSHOTTER


async def default_snapshotter(services: Services) -> str:
    """Return the snapshotter that the namespace's label names, else containerd's default."""
    return snapshotter_of(await namespace_labels(services))


async def chosen_snapshotter(services: Services, snapshotter: str | None) -> str:
    """Return the snapshotter that was asked for, else the namespace's."""
    return snapshotter or await default_snapshotter(services)


async def default_platform(services: Services) -> Platform:
    """Return the platform the daemon runs: what its snapshotter says, else this host's."""
    name = await default_snapshotter(services)
    found = await services.introspection.plugins([f"type=={_SNAPSHOTTER_PLUGINS},id=={name}"])
    for plugin in found:
        if plugin.is_working and plugin.platforms:
            return platforms.normalize(plugin.platforms[0])
    return platforms.default()


async def chosen_platform(services: Services, platform: Platform | str | None) -> Platform:
    """Return the platform that was asked for, else the daemon's.

    Raises:
        InvalidArgumentError: The text is no platform.
    """
    if platform is None:
        return await default_platform(services)
    return platforms.parse(platform) if isinstance(platform, str) else platforms.normalize(platform)
