"""Typed access to the members of a strictly parsed JSON object. Knows types and paths; knows no document format.

Every accessor says what is wrong and where; `null` counts as absent, as in Go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Self

import attrs

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.strict_json import member_path, name_of

MAX_INT64: Final = 2**63 - 1


@attrs.frozen(kw_only=True)
class Fields:
    """One JSON object: its members, the names its format knows, and where in which document it stands."""

    members: Mapping[str, object]
    known: frozenset[str]
    what: str
    path: str = ""

    def __attrs_post_init__(self) -> None:
        # Go would take "Digest" for "digest"; we would not see it. Neither reading may win.
        folded = {name.casefold(): name for name in self.known}
        for key in self.members:
            name = folded.get(key.casefold(), key)
            if name != key:
                raise self.error(key, f"spelled differently from the field {name!r}")

    def error(self, key: str, reason: str) -> InvalidArgumentError:
        """Make the error that says what is wrong with a member."""
        return InvalidArgumentError(f"{self.what}: {member_path(self.path, key)}: {reason}")

    def has(self, key: str) -> bool:
        """Tell whether the member is there at all, even as null."""
        return key in self.members

    def string(self, key: str, default: str = "") -> str:
        """Return a string, or `default` where there is none."""
        value = self.members.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._mistyped(key, value, "a string")
        return value

    def optional_string(self, key: str) -> str | None:
        """Return a string, or None where there is none or an empty one."""
        return self.string(key) or None

    def boolean(self, key: str) -> bool:
        """Return a boolean, or False where there is none."""
        value = self.members.get(key)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self._mistyped(key, value, "a boolean")
        return value

    def integer(self, key: str) -> int | None:
        """Return an integer that fits in 64 signed bits; neither 1.0 nor true is one."""
        value = self.members.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._mistyped(key, value, "an integer")
        if not -MAX_INT64 - 1 <= value <= MAX_INT64:
            raise self.error(key, f"{value} does not fit in 64 signed bits")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        """Return an array of strings; empty where there is none."""
        items: list[str] = []
        for index, item in enumerate(self._array(key)):
            if not isinstance(item, str):
                raise self.error(key, f"item {index} is {name_of(item)}, expected a string")
            items.append(item)
        return tuple(items)

    def string_map(self, key: str) -> dict[str, str]:
        """Return an object whose values are strings, null standing for ""; empty where there is none."""
        found: dict[str, str] = {}
        for name, value in self._object(key).items():
            if value is not None and not isinstance(value, str):
                raise self.error(key, f"member {name[:64]!a} is {name_of(value)}, expected a string")
            found[name] = value or ""
        return found

    def keys(self, key: str) -> tuple[str, ...]:
        """Return the keys of an object that serves as a set; empty where there is none."""
        return tuple(self._object(key))

    def nested(self, key: str, known: frozenset[str]) -> Self | None:
        """Return a member that is an object itself, or None where there is none."""
        if self.members.get(key) is None:
            return None
        return self._child(self._object(key), known, member_path(self.path, key))

    def nested_array(self, key: str, known: frozenset[str]) -> list[Self]:
        """Return an array of objects; empty where there is none."""
        children: list[Self] = []
        for index, item in enumerate(self._array(key)):
            if not isinstance(item, dict):
                raise self.error(key, f"item {index} is {name_of(item)}, expected an object")
            children.append(self._child(item, known, f"{member_path(self.path, key)}[{index}]"))
        return children

    def _child(self, members: Mapping[str, object], known: frozenset[str], path: str) -> Self:
        return type(self)(members=members, known=known, what=self.what, path=path)

    def _array(self, key: str) -> list[object]:
        value = self.members.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._mistyped(key, value, "an array")
        return value

    def _object(self, key: str) -> Mapping[str, object]:
        value = self.members.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._mistyped(key, value, "an object")
        return value

    def _mistyped(self, key: str, value: object, expected: str) -> InvalidArgumentError:
        return self.error(key, f"is {name_of(value)}, expected {expected}")
