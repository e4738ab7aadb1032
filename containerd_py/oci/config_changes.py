"""What an image made from another one says differently about running it. Pure: a value and how it is laid over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from containerd_py.errors import InvalidArgumentError
from containerd_py.labels import check_labels
from containerd_py.oci.image_spec import reserved_label
from containerd_py.oci.signals import parse_signal
from containerd_py.oci.users import parse_user
from containerd_py.types import FrozenMap

_PORT: Final = re.compile(r"[0-9]{1,5}(?:-[0-9]{1,5})?(?:/(?:tcp|udp|sctp))?", re.ASCII)
_MAX_PORT: Final = 65535
_NOTHING: Final[Mapping[str, str | None]] = FrozenMap()


def _frozen(items: Mapping[str, str | None]) -> Mapping[str, str | None]:
    return FrozenMap(items) if items else _NOTHING


def _optional_tuple(items: Iterable[str] | None) -> tuple[str, ...] | None:
    if isinstance(items, str):
        raise InvalidArgumentError(f"a command must be a list of strings, not the string {items!r}")
    return None if items is None else tuple(items)


def _tuple(items: Iterable[str]) -> tuple[str, ...]:
    return (items,) if isinstance(items, str) else tuple(items)


@attrs.frozen(kw_only=True)
class ConfigChanges:
    """Changes to an image's configuration; what is None or not named stays as it is.

    `env` and `labels` are laid over those that are there, None removing one. `cmd` and `entrypoint` replace; a new
    `entrypoint` without a `cmd` drops the old arguments, which were another program's. `exposed_ports` ("80/tcp") and
    `volumes` (paths) are added. An empty `user`, `workdir` or `stop_signal` removes it.
    Source: OCI image specification, "image configuration".
    """

    env: Mapping[str, str | None] = attrs.field(default=_NOTHING, converter=_frozen, hash=False)
    cmd: tuple[str, ...] | None = attrs.field(default=None, converter=_optional_tuple)
    entrypoint: tuple[str, ...] | None = attrs.field(default=None, converter=_optional_tuple)
    user: str | None = None
    workdir: str | None = None
    labels: Mapping[str, str | None] = attrs.field(default=_NOTHING, converter=_frozen, hash=False)
    exposed_ports: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    volumes: tuple[str, ...] = attrs.field(default=(), converter=_tuple)
    stop_signal: str | None = None

    def __attrs_post_init__(self) -> None:
        _check_env(self.env)
        _check_labels(self.labels)
        _check_texts([*(self.cmd or ()), *(self.entrypoint or ()), self.user or ""])
        parse_user(self.user or "")
        if self.stop_signal:
            parse_signal(self.stop_signal)
        for path in (*self.volumes, *([self.workdir] if self.workdir else [])):
            _check_path(path)
        for port in self.exposed_ports:
            _check_port(port)

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return self == NO_CHANGES


def apply_changes(section: Mapping[str, object], changes: ConfigChanges) -> dict[str, object]:
    """Return the `config` object of an image configuration with the changes; members not known here stay."""
    changed = dict(section)
    _put(changed, "Env", _merged_env(_strings(section.get("Env")), changes.env))
    _put(changed, "Labels", _merged(_mapping(section.get("Labels")), changes.labels))
    for key, added in (("ExposedPorts", map(_full_port, changes.exposed_ports)), ("Volumes", iter(changes.volumes))):
        _put(changed, key, _mapping(section.get(key)) | {name: {} for name in added})
    if changes.entrypoint is not None:
        _put(changed, "Entrypoint", list(changes.entrypoint))
        _put(changed, "Cmd", [])
        changed.pop("ArgsEscaped", None)
    if changes.cmd is not None:
        _put(changed, "Cmd", list(changes.cmd))
        changed.pop("ArgsEscaped", None)
    for key, value in (("User", changes.user), ("WorkingDir", changes.workdir), ("StopSignal", changes.stop_signal)):
        if value is not None:
            _put(changed, key, value)
    return changed


def _put(section: dict[str, object], key: str, value: object) -> None:
    if value:
        section[key] = value
    else:
        section.pop(key, None)


def _merged_env(present: list[str], changes: Mapping[str, str | None]) -> list[str]:
    """Lay variables over others: those that are there keep their place, new ones follow in the order given."""
    values = {entry.partition("=")[0]: entry for entry in present}
    for name, value in changes.items():
        if value is None:
            values.pop(name, None)
        else:
            values[name] = f"{name}={value}"
    return [*values.values()]


def _merged(present: dict[str, object], changes: Mapping[str, str | None]) -> dict[str, object]:
    merged = present | dict(changes)
    return {key: value for key, value in merged.items() if value is not None}


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _mapping(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, dict) else {}


def _full_port(port: str) -> str:
    return port if "/" in port else f"{port}/tcp"


def _check_env(env: Mapping[str, str | None]) -> None:
    for name, value in env.items():
        if not name or "=" in name:
            raise InvalidArgumentError(f"env: {name[:160]!a} is no name of a variable")
        _check_texts([name, value or ""])


def _check_labels(labels: Mapping[str, str | None]) -> None:
    given = {key: value or "" for key, value in labels.items()}
    check_labels(given)  # containerd could make no container of the image
    for key in given:
        if reserved_label(key):
            raise InvalidArgumentError(f"labels: {key[:160]!a} is reserved: containerd would act on it")
    _check_texts([*given, *given.values()])


def _check_texts(texts: Iterable[str]) -> None:
    for text in texts:
        if "\0" in text:
            raise InvalidArgumentError(f"{text[:160]!a} holds a NUL character")


def _check_path(path: str) -> None:
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgumentError(f"{path[:160]!a} is not an absolute path inside the image")


def _check_port(port: str) -> None:
    numbers = [int(number) for number in port.partition("/")[0].split("-")] if _PORT.fullmatch(port) else []
    if not numbers or not 0 < numbers[0] <= numbers[-1] <= _MAX_PORT:
        raise InvalidArgumentError(f"exposed_ports: {port[:64]!a} is no port such as 80, 80/tcp or 8000-8010/udp")


NO_CHANGES: Final = ConfigChanges()
