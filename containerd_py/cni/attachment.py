"""What plugins are told of one container on one network, as values that are checked where they are made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from containerd_py.errors import InvalidArgumentError

_CONTAINER_RE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
_INTERFACE_RE: Final = re.compile(r"[^/:\s]{1,15}")
_ARGUMENT_RE: Final = re.compile(r"[^=;\s]+")
_MAX_CONTAINER: Final = 253  # bytes: it becomes part of file names


def _check_container(_: object, __: object, value: str) -> None:
    if not _CONTAINER_RE.fullmatch(value) or len(value) > _MAX_CONTAINER:
        raise InvalidArgumentError(f"{value[:64]!a} is no container ID for plugins")


def check_interface(name: str) -> str:
    """Return the name of a network interface.

    Raises:
        InvalidArgumentError: Linux has no such names.
    """
    if name in {".", ".."} or not _INTERFACE_RE.fullmatch(name) or not name.isprintable():
        raise InvalidArgumentError(
            f"{name[:64]!a} is no interface name: 1 to 15 characters without '/', ':' and blanks"
        )
    return name


def _check_interface(_: object, __: object, value: str) -> None:
    check_interface(value)


def _check_arguments(_: object, __: object, value: Mapping[str, str]) -> None:
    for key, text in value.items():
        if not _ARGUMENT_RE.fullmatch(key) or not _ARGUMENT_RE.fullmatch(text):
            raise InvalidArgumentError(
                f"{key[:64]!a}={text[:64]!a} cannot be a plugin's argument: no '=', ';' or blank"
            )


@attrs.frozen(kw_only=True)
class Attachment:
    """A container on a network: what ADD, CHECK and DEL are called with.

    `arguments` are CNI_ARGS; `capabilities` are offered to each plugin that asks for them.
    """

    container_id: str = attrs.field(validator=_check_container)
    netns: Path
    interface: str = attrs.field(validator=_check_interface)
    arguments: Mapping[str, str] = attrs.field(factory=dict, validator=_check_arguments)
    capabilities: Mapping[str, object] = attrs.field(factory=dict)

    def variables(self, *, netns: str) -> dict[str, str]:
        """Return the plugin's environment for this attachment; `netns` is "" where the namespace has gone."""
        return {
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": netns,
            "CNI_IFNAME": self.interface,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in self.arguments.items()),
        }
