"""hosts.toml, read as containerd reads it. Opens no file: it is given the bytes, and the folder paths are relative to.

Source: containerd's core/remotes/docker/config.
"""

from __future__ import annotations

import logging
import posixpath
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from containerd_py.remotes.host_config import Capability, HostConfig, RootConfig
from containerd_py.remotes.origins import origin_of
from containerd_py.remotes.secret import Secret
from containerd_py.remotes.tls import TLSFiles

_CAPABILITIES: Final = {
    "pull": Capability.PULL,
    "resolve": Capability.RESOLVE,
    "push": Capability.PUSH,
    "referrers": Capability.REFERRERS,
}
_KEYS: Final = frozenset({"capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"})
_ROOT_KEYS: Final = _KEYS | {"server", "host"}

_DURATION_RE: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_HEADER_NAME_RE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_HEADER_VALUE_RE: Final = re.compile(r"[\t -~]*", re.ASCII)

T = TypeVar("T")

_log = logging.getLogger(__name__)


def parse_hosts_toml(data: bytes, directory: Path) -> tuple[list[HostConfig], RootConfig]:
    """Read the mirrors, in the file's order, and what is said of the registry itself.

    Raises:
        ValueError: It is no TOML, or a value has another type than containerd expects.
    """
    document = tomllib.loads(data.decode())
    _warn_of_unknown(document, _ROOT_KEYS, directory)
    tables = _table(document, "host")
    mirrors = []
    for url, table in tables.items():
        options = _typed(table, dict, f'host."{url}"')
        _warn_of_unknown(options, _KEYS, directory)
        mirrors.append(_parse_host(url, options, directory))
    server = _typed(document.get("server", ""), str, "server")
    _capabilities(document)  # checked even where no server is named that could have them
    own = _parse_host(server, document, directory) if server else None
    return mirrors, RootConfig(server=own, **_options(document, directory))


def parse_duration(text: str) -> float:
    """Read a Go duration ("1m30s", "500ms") into seconds.

    Raises:
        ValueError: It is none, or negative.
    """
    if text == "0":
        return 0.0
    seconds = position = 0.0
    position = 0
    while matched := _DURATION_RE.match(text, position):
        seconds += float(matched[1]) * _UNITS[matched[2]]
        position = matched.end()
    if not text or position != len(text):
        raise ValueError(f"{text[:64]!r} is no duration")
    return seconds


def _parse_host(url: str, table: Mapping[str, Any], directory: Path) -> HostConfig:
    url = url if url.startswith("http") else f"https://{url}"
    try:
        origin = origin_of(url)
    except ValueError as error:
        raise ValueError(f"the host {url[:256]!r} cannot be used: {error}") from None
    override = _typed(table.get("override_path", False), bool, "override_path")
    path = urlsplit(url).path
    path = posixpath.normpath(path).rstrip("/") if path else ""
    if not override and not path.endswith("/v2"):
        path += "/v2"
    return HostConfig(
        origin=origin, path="/" + path.strip("/"), capabilities=_capabilities(table), **_options(table, directory)
    )


def _options(table: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Read what mirrors and the registry itself have in common."""
    skip_verify, timeout = table.get("skip_verify"), _typed(table.get("dial_timeout", ""), str, "dial_timeout")
    authorities, pairs = _paths(table.get("ca"), "ca", directory), _client_pairs(table.get("client"), directory)
    return {
        "tls": TLSFiles(ca=authorities, client=pairs),
        "skip_verify": None if skip_verify is None else _typed(skip_verify, bool, "skip_verify"),
        "headers": _headers(table),
        "dial_timeout": parse_duration(timeout) if timeout else None,
    }


def _capabilities(table: Mapping[str, Any]) -> Capability:
    found = Capability(0)
    for name in _typed(table.get("capabilities", []), list, "capabilities"):
        if not isinstance(name, str) or name.lower() not in _CAPABILITIES:
            raise ValueError(f"unknown capability {name!r}")
        found |= _CAPABILITIES[name.lower()]
    return found or Capability.ALL


def _paths(value: object, key: str, directory: Path) -> tuple[Path, ...]:
    values = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(path, str) for path in values):
        raise ValueError(f"{key} is neither a path nor a list of paths")
    return tuple(directory / path for path in values)


def _client_pairs(value: object, directory: Path) -> tuple[tuple[Path, Path | None], ...]:
    """Read client certificates: one file, a list of files, or a list of [certificate, key]."""
    if value is None or isinstance(value, str):
        return tuple((path, None) for path in _paths(value, "client", directory))
    pairs: list[tuple[Path, Path | None]] = []
    for entry in _typed(value, list, "client"):
        paths = _paths(entry, "client", directory)
        if isinstance(entry, str):
            pairs.append((paths[0], None))
        elif len(paths) == 2:
            pairs.append((paths[0], paths[1]))
        else:
            raise ValueError("client has a list that is no pair of certificate and key")
    return tuple(pairs)


def _headers(table: Mapping[str, Any]) -> tuple[tuple[str, Secret], ...]:
    headers: list[tuple[str, Secret]] = []
    for name, value in _table(table, "header").items():
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
            raise ValueError(f"header {name!r} is neither a string nor a list of strings")
        if not _HEADER_NAME_RE.fullmatch(name) or not all(_HEADER_VALUE_RE.fullmatch(text) for text in values):
            raise ValueError(f"header {name!r} cannot be sent")
        headers += [(name, Secret(text)) for text in values]
    return tuple(headers)


def _table(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    return _typed(table.get(key, {}), dict, key)


def _typed(value: object, kind: type[T], what: str) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"{what} is no {kind.__name__}")  # noqa: TRY004  one class for whatever is wrong with the file
    return value


def _warn_of_unknown(table: Mapping[str, Any], known: frozenset[str], directory: Path) -> None:
    if unknown := sorted(set(table) - known):
        _log.warning("%s: ignored what containerd does not know: %s", directory / "hosts.toml", ", ".join(unknown))
