"""Where networks, plugins and what they leave are kept on this host. Knows the places nerdctl and libcni use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import attrs

from containerd_py.cni.cache import ResultCache
from containerd_py.cni.chain import Chain
from containerd_py.cni.programs import PLUGIN_BOUND
from containerd_py.errors import InvalidArgumentError

CONCURRENCY_LOCK: Final = ".cni-concurrency.lock"  # nerdctl's, around plugins: iptables and they do not bear company
_CONFIG: Final = "cni/net.d"
_PLUGIN_FOLDERS: Final = (  # nerdctl's order
    "/opt/cni/bin", "/usr/local/libexec/cni", "/usr/local/lib/cni", "/usr/libexec/cni", "/usr/lib/cni"
)  # fmt: skip
_ROOTLESS_FOLDERS: Final = ("~/opt/cni/bin", "~/.local/libexec/cni", "~/.local/lib/cni")


def _absolute(value: str | os.PathLike[str]) -> Path:
    path = Path(value)
    if not path.is_absolute() or "\0" in str(path):
        raise InvalidArgumentError(f"{str(path)[:160]!a} is no absolute path")
    return path


def _absolute_or_none(value: str | os.PathLike[str] | None) -> Path | None:
    return None if value is None else _absolute(value)


def _folders(value: tuple[str | os.PathLike[str], ...]) -> tuple[Path, ...]:
    return tuple(_absolute(folder) for folder in value)


@attrs.frozen(kw_only=True)
class NetworkSettings:
    """Where this host keeps networks; the defaults are nerdctl's, so that each sees the other's.

    Attributes:
        conf_dir: Where the networks' files are; `$NETCONFPATH`, else /etc/cni/net.d.
        plugin_dirs: Where plugins are looked for, the first that has one wins; `$CNI_PATH`, else the usual places.
        cache_dir: Where results are kept from ADD to DEL.
        lease_dir: Where host-local keeps its addresses, written into networks that are created; None is its own place.
        netns_dir: Where the containers' network namespaces are mounted.
        host_netns: The network namespace that is the host's for networks; None is the one this program is in.
        plugin_bound: Seconds a plugin may take.
    """

    conf_dir: Path = attrs.field(converter=_absolute, factory=lambda: default_conf_dir())
    plugin_dirs: tuple[Path, ...] = attrs.field(converter=_folders, factory=lambda: default_plugin_dirs())
    cache_dir: Path = attrs.field(converter=_absolute, default=Path("/var/lib/cni/results"))
    lease_dir: Path | None = attrs.field(converter=_absolute_or_none, default=None)
    netns_dir: Path = attrs.field(converter=_absolute, default=Path("/run/containerd-py/netns"))
    host_netns: Path | None = attrs.field(converter=_absolute_or_none, factory=lambda: default_host_netns())
    plugin_bound: float = PLUGIN_BOUND

    @property
    def chain(self) -> Chain:
        """What calls the plugins."""
        return Chain(self.plugin_dirs, ResultCache(self.cache_dir), self.host_netns, self.plugin_bound)

    @property
    def leases(self) -> Path:
        """Where host-local's addresses are, by network."""
        return self.lease_dir or Path("/var/lib/cni/networks")  # the plugin's own default


def default_conf_dir() -> Path:
    """Return where networks are kept, as nerdctl decides."""
    if given := os.environ.get("NETCONFPATH"):
        return _absolute(given)
    if not _is_rootless():
        return Path("/etc", _CONFIG)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser(), _CONFIG)


def default_plugin_dirs() -> tuple[Path, ...]:
    """Return where plugins are looked for, as nerdctl decides."""
    if given := os.environ.get("CNI_PATH"):
        return tuple(Path(folder) for folder in given.split(":") if folder.startswith("/"))
    rootless = (Path(folder).expanduser() for folder in _ROOTLESS_FOLDERS) if _is_rootless() else ()
    return (*rootless, *map(Path, _PLUGIN_FOLDERS))


def default_host_netns() -> Path | None:
    """Return the namespace that rootless containers are connected to where it is detached from RootlessKit's own."""
    state = os.environ.get("ROOTLESSKIT_STATE_DIR")
    netns = Path(state or "", "netns")
    return netns if netns.is_absolute() and netns.exists() else None


def _is_rootless() -> bool:
    return os.geteuid() != 0 or "ROOTLESSKIT_STATE_DIR" in os.environ
