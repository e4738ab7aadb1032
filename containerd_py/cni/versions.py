"""Versions of the CNI specification: which are spoken here, and which one a network is spoken to in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from containerd_py.errors import CNIVersionError, InvalidArgumentError

# Older ones answer with another kind of result, which no plugin of this decade is limited to.
SUPPORTED: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST: Final = frozenset(SUPPORTED)
WRITTEN: Final = "1.0.0"  # of networks made here, as nerdctl's


def check_version(version: str, *, what: str) -> str:
    """Return the version.

    Raises:
        InvalidArgumentError: It is none that is spoken here.
    """
    if version not in SUPPORTED:
        raise InvalidArgumentError(f"{what}: CNI version {version[:32]!a} is not supported: {', '.join(SUPPORTED)} are")
    return version


def newest_of(offered: Iterable[str], known: Iterable[str]) -> str | None:
    """Return the newest version that is offered, known, and spoken here; None where there is none."""
    common = set(offered) & set(known) & set(SUPPORTED)
    return max(common, key=SUPPORTED.index, default=None)


def is_at_least(version: str, wanted: str) -> bool:
    """Tell whether a supported version is another one or later."""
    return SUPPORTED.index(version) >= SUPPORTED.index(wanted)


def refuse(plugin: str, version: str, known: Iterable[str]) -> CNIVersionError:
    """Make the error of a plugin that does not know the network's version."""
    return CNIVersionError(
        f"plugin {plugin} knows the CNI versions {', '.join(known)}, not {version} of the network's configuration: "
        "update the plugin, or write another cniVersion",
        plugin=plugin,
        code=1,
    )
