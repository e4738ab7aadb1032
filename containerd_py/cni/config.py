"""Network configurations, read with suspicion. Knows the CNI specification's documents; runs nothing.

Source: CNI specification 1.1, section 1 "Network configuration format".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from containerd_py.cni.versions import NEWEST, check_version, newest_of
from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.oci.json_fields import Fields
from containerd_py.oci.strict_json import load_object

MAX_CONFIG_SIZE: Final = 1024 * 1024  # bytes of one file
SUFFIXES: Final = (".conf", ".conflist", ".json")  # as libcni and nerdctl
_MAPS: Final = ("nerdctlLabels", "sysctl", "args", "labels")  # whose keys are data
_NAME_RE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
_TYPE_RE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
_MAX_NAME: Final = 128  # bytes; the name becomes part of file names
_LIST_FIELDS: Final = frozenset(
    ["cniVersion", "cniVersions", "name", "disableCheck", "disableGC", "loadOnlyInlinedPlugins", "plugins"]
)
_PLUGIN_FIELDS: Final = frozenset(["type", "capabilities", "ipam"])


@attrs.frozen(kw_only=True)
class PluginConfig:
    """One plugin's part of a network: which program, and everything it is told."""

    type: str
    capabilities: frozenset[str] = frozenset()
    document: Mapping[str, object] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class NetworkConfig:
    """A list of plugins that make one network. `document` is the whole of it, with members unknown here."""

    name: str
    cni_version: str
    cni_versions: tuple[str, ...] = ()
    disable_check: bool = False
    disable_gc: bool = False
    plugins: tuple[PluginConfig, ...]
    document: Mapping[str, object] = attrs.field(repr=False)
    path: Path | None = None

    def request(self, plugin: PluginConfig, additions: Mapping[str, object]) -> dict[str, object]:
        """Return what a plugin reads from its standard input (specification, section 3)."""
        base = {key: value for key, value in plugin.document.items() if key != "capabilities"}
        return {**base, "name": self.name, "cniVersion": self.cni_version, **additions}


def load_network(path: Path) -> NetworkConfig:
    """Read a network from its file, `.conflist` or `.conf`. Blocks.

    Raises:
        NotFoundError: There is no such file.
        InvalidArgumentError: It is no network configuration.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_SIZE + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no network configuration {path}") from error
    config = parse_network(data, what=str(path))
    if "type" not in config.document and not config.document.get("loadOnlyInlinedPlugins"):
        plugins = (*config.plugins, *_folder_plugins(path, config.name))
        # Inlined, so that whoever reads the document later needs no other file.
        document = {**config.document, "plugins": [p.document for p in plugins], "loadOnlyInlinedPlugins": True}
        if len(plugins) > len(config.plugins):
            config = attrs.evolve(config, plugins=plugins, document=document)
    if not config.plugins:
        raise InvalidArgumentError(f"{path}: the network has no plugins")
    return attrs.evolve(config, path=path)


def parse_network(data: bytes, *, what: str = "network configuration") -> NetworkConfig:
    """Read a configuration list, or a single plugin's configuration as a list of one.

    Raises:
        InvalidArgumentError: It is neither; the message says what is wrong where.
    """
    document = load_object(data, what=what, max_size=MAX_CONFIG_SIZE, maps=_MAPS)
    return network_from(document, what=what)


def network_from(document: Mapping[str, object], *, what: str = "network configuration") -> NetworkConfig:
    """Read a configuration list from a parsed document.

    Raises:
        InvalidArgumentError: It is none.
    """
    fields = Fields(members=document, known=_LIST_FIELDS, what=what)
    name = check_network_name(fields.string("name"), what=what)
    version, versions = _versions(fields)
    if fields.has("plugins"):
        plugins = tuple(_plugin(child) for child in fields.nested_array("plugins", _PLUGIN_FIELDS))
    elif fields.has("type"):
        plugins = (_plugin(Fields(members=document, known=_PLUGIN_FIELDS, what=what)),)
    else:
        plugins = ()
    if not plugins and fields.boolean("loadOnlyInlinedPlugins"):
        raise fields.error("plugins", "the network has no plugins")
    return NetworkConfig(
        name=name,
        cni_version=version,
        cni_versions=versions,
        disable_check=_flag(fields, "disableCheck"),
        disable_gc=_flag(fields, "disableGC"),
        plugins=plugins,
        document=document,
    )


def check_network_name(name: str, *, what: str = "network name") -> str:
    """Return the name.

    Raises:
        InvalidArgumentError: The specification has no such name, or it is too long for a file's.
    """
    if not _NAME_RE.fullmatch(name) or len(name) > _MAX_NAME:
        raise InvalidArgumentError(
            f"{what}: {name[:64]!a} is no network name: use letters, digits, '_', '.' and '-', a letter or digit first"
        )
    return name


def _versions(fields: Fields) -> tuple[str, tuple[str, ...]]:
    version = fields.string("cniVersion", "0.2.0")  # a document without one is of the time before they had (libcni)
    versions = fields.strings("cniVersions")
    best = newest_of((version, *versions), NEWEST)
    if best is None:
        check_version(version, what=fields.what)
        best = version
    return best, versions


def _plugin(fields: Fields) -> PluginConfig:
    kind = fields.string("type")
    if not _TYPE_RE.fullmatch(kind):
        raise fields.error("type", f"{kind[:64]!a} is no plugin's name")
    wanted = fields.nested("capabilities", frozenset())
    capabilities = frozenset(() if wanted is None else (key for key in wanted.members if wanted.boolean(key)))
    return PluginConfig(type=kind, capabilities=capabilities, document=fields.members)


def _folder_plugins(path: Path, name: str) -> list[PluginConfig]:
    """Read the plugins of a network that has them in files of their own, `NAME/*.conf` beside it (1.1)."""
    found = []
    for file in sorted((path.parent / name).glob("*.conf")):
        with file.open("rb") as opened:
            document = load_object(
                opened.read(MAX_CONFIG_SIZE + 1), what=str(file), max_size=MAX_CONFIG_SIZE, maps=_MAPS
            )
        found.append(_plugin(Fields(members=document, known=_PLUGIN_FIELDS, what=str(file))))
    return found


def _flag(fields: Fields, key: str) -> bool:
    """Return a boolean that may also be written as a string (specification: "disableCheck")."""
    value = fields.members.get(key)
    if isinstance(value, str):
        if value.casefold() not in {"true", "false"}:
            raise fields.error(key, f"{value[:64]!a} is neither true nor false")
        return value.casefold() == "true"
    return fields.boolean(key)
