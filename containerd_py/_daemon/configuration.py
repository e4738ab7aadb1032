"""The configuration file of a private daemon. Pure text making: knows containerd's settings, touches no file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from containerd_py.errors import InvalidArgumentError

Setting: TypeAlias = "str | int | float | bool | Iterable[Setting] | Mapping[str, Setting]"

DEFAULT_SNAPSHOTTER: Final = "overlayfs"  # containerd defaults
FALLBACK_SNAPSHOTTER: Final = "native"  # copies, and so works on any file system
# Kubernetes' service: slow to start, and it watches /etc/cni. Its parts in 2.x stay: sandbox controllers need them.
CRI_PLUGIN: Final = "io.containerd.grpc.v1.cri"
TRANSFER_PLUGIN: Final = "io.containerd.transfer.v1.local"
# Go's names of machines, which containerd's platforms use, where they differ from the kernel's.
GO_ARCHITECTURES: Final = {
    "x86_64": "amd64",
    "i686": "386",
    "aarch64": "arm64",
    "armv7l": "arm/v7",
    "armv6l": "arm/v6",
    "loongarch64": "loong64",
}


@attrs.frozen(kw_only=True)
class DaemonConfiguration:
    """Where a private daemon keeps what, and how its plugins are set. Paths are absolute.

    `address` is the API's socket (the daemon adds one with the suffix `.ttrpc`), `debug_address` the one that serves
    Go's profiles. `plugins` maps a plugin's URI (such as "io.containerd.gc.v1.scheduler") to its settings; they win
    over ours.
    """

    root: Path
    state: Path
    address: str
    debug_address: str
    snapshotter: str = DEFAULT_SNAPSHOTTER
    disabled_plugins: tuple[str, ...] = (CRI_PLUGIN,)
    plugins: Mapping[str, Mapping[str, Setting]] = attrs.field(factory=dict)
    log_level: str = "info"

    def text(self) -> str:
        """Return the configuration file: version 2, which the lines 1.6, 1.7 and 2.x all read.

        Raises:
            InvalidArgumentError: A plugin setting is of a type TOML has not.
        """
        top: dict[str, Setting] = {
            "version": 2,
            "root": str(self.root),
            "state": str(self.state),
            "disabled_plugins": self.disabled_plugins,
        }
        tables: dict[str, Mapping[str, Setting]] = {
            "grpc": {"address": self.address, "uid": os.geteuid(), "gid": os.getegid()},
            "debug": {
                "address": self.debug_address,
                "uid": os.geteuid(),
                "gid": os.getegid(),
                "level": self.log_level,
            },
        }
        lines = [_line(key, value) for key, value in top.items()]
        for name, settings in tables.items():
            lines += ["", f"[{name}]", *(_line(key, value) for key, value in settings.items())]
        for uri, settings in self._all_plugins().items():
            lines += ["", f"[plugins.{_string(uri)}]", *(_line(key, value) for key, value in settings.items())]
        return "\n".join(lines) + "\n"

    def _all_plugins(self) -> dict[str, dict[str, Setting]]:
        merged: dict[str, dict[str, Setting]] = {
            # These two would reach outside: a socket in /run that two daemons fight for, and /opt/containerd.
            "io.containerd.nri.v1.nri": {"disable": True},
            "io.containerd.internal.v1.opt": {"path": str(self.root / "opt")},
            TRANSFER_PLUGIN: {"unpack_config": [*self._unpack_targets()]},
        }
        for uri, settings in self.plugins.items():
            merged[uri] = {**merged.get(uri, {}), **settings}
        return merged

    def _unpack_targets(self) -> Iterable[dict[str, Setting]]:
        # The daemon unpacks only into snapshotters listed here, and a client may name any of them.
        for snapshotter in dict.fromkeys((self.snapshotter, FALLBACK_SNAPSHOTTER)):
            yield {"platform": f"linux/{_architecture()}", "snapshotter": snapshotter}


def _architecture() -> str:
    machine = os.uname().machine
    return GO_ARCHITECTURES.get(machine, machine)


def _line(key: str, value: Setting) -> str:
    return f"{_string(key)} = {_value(value)}"


def _value(value: Setting) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case int() | float():
            return repr(value)
        case Mapping():
            return "{" + ", ".join(_line(key, item) for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(_value(item) for item in value) + "]"
        case _:
            raise InvalidArgumentError(f"a plugin setting of type {type(value).__name__} cannot be written as TOML")


def _string(text: str) -> str:
    # JSON's escapes are a subset of TOML's, but for a surrogate pair (hence no ASCII) and DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
