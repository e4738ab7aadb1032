"""Read JSON that strangers wrote. Knows JSON and how Go's decoder differs from Python's; knows no image format.

`json.loads` accepts documents that containerd reads differently: Go folds the case of field names, takes other bytes
than UTF-8 apart differently and knows no NaN. What two parsers could understand differently is refused here, with the
path to it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator
from typing import Final

from containerd_py.errors import InvalidArgumentError

MAX_DEPTH: Final = 64  # nested arrays and objects; honest images stay below 10
MIN_INTEGER: Final = -(2**63)
MAX_INTEGER: Final = 2**64 - 1  # what some Go integer can hold

_TYPE_NAMES: Final = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}

_INTEGER_DIGITS: Final = 20  # 2**64 has that many; longer ones are not even converted
_MAX_NUMBER_LENGTH: Final = 64
_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class _Rejected:
    """Stands in the parsed tree for something that must not be there, so that its path can be told."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class _CaseClash(dict[str, object]):
    """An object with keys that differ in case only: fine where keys are data, refused where they are field names."""


def load_object(
    data: bytes,
    *,
    what: str,
    max_size: int,
    max_depth: int = MAX_DEPTH,
    maps: Collection[str] = (),
    fold_case: bool = True,
) -> dict[str, object]:
    """Parse one JSON object out of hostile bytes.

    `what` names the document in errors; `max_size` is in bytes; `maps` names the members whose keys are data and not
    field names, where keys may differ in case only (labels, annotations); `fold_case=False` allows that everywhere.

    Raises:
        InvalidArgumentError: The document is too large, too deep, not strict UTF-8 JSON, or ambiguous.
    """
    if len(data) > max_size:
        raise InvalidArgumentError(f"{what}: {len(data)} bytes are more than the {max_size} allowed")
    text = _decode(data, what)
    _check_depth(data, max_depth, what)
    parsed, suspect = _parse(text, what, fold_case=fold_case)
    if suspect or _SURROGATE_ESCAPE.search(text):
        for path, reason in _objections(parsed, "", maps):
            raise InvalidArgumentError(f"{what}: {path or 'document'}: {reason}")
    if not isinstance(parsed, dict):
        raise InvalidArgumentError(f"{what}: expected an object, found {name_of(parsed)}")
    return parsed


def name_of(value: object) -> str:
    """Say what kind of JSON value this is, for error messages."""
    return _TYPE_NAMES.get(type(value), "a number")


def member_path(path: str, key: str) -> str:
    """Extend a path by an object member; keys that are no plain names are quoted and shortened."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", key):
        return f"{path}.{key}" if path else key
    shown = json.dumps(key[:64] + ("…" if len(key) > 64 else ""))  # ASCII only: the key may hold anything
    return f"{path}[{shown}]"


def _decode(data: bytes, what: str) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise InvalidArgumentError(f"{what}: starts with a byte order mark")
    try:
        return data.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{what}: not UTF-8 at byte {error.start}") from error


def _check_depth(data: bytes, max_depth: int, what: str) -> None:
    # Counted before parsing: the parser recurses, and how deep it may depends on who calls it.
    if data.count(b"{") + data.count(b"[") <= max_depth:
        return
    depth = 0
    for token in _NESTING.finditer(data):
        match token[0][:1]:
            case b"{" | b"[":
                depth += 1
                if depth > max_depth:
                    raise InvalidArgumentError(f"{what}: nested deeper than {max_depth} levels at byte {token.start()}")
            case b"}" | b"]":
                depth -= 1


def _parse(text: str, what: str, *, fold_case: bool) -> tuple[object, bool]:
    """Parse, leaving a `_Rejected` or `_CaseClash` wherever something is wrong; the flag says whether there is one."""
    suspect = False

    def reject(reason: str) -> _Rejected:
        nonlocal suspect
        suspect = True
        return _Rejected(reason)

    def make_object(pairs: list[tuple[str, object]]) -> object:
        nonlocal suspect
        made = dict(pairs)
        if len(made) != len(pairs):
            return reject(f"key {_first_repeated(key for key, _ in pairs)!a} appears twice")
        # Go compares field names with case folded, so one of two such keys wins there and another one here.
        if fold_case and len(made) > 1 and len({key.casefold() for key in made}) != len(made):
            suspect = True
            return _CaseClash(made)
        return made

    def make_integer(digits: str) -> object:
        if len(digits) > _INTEGER_DIGITS or not MIN_INTEGER <= int(digits) <= MAX_INTEGER:
            return reject("integer does not fit in 64 bits")
        return int(digits)

    def make_float(digits: str) -> object:
        if len(digits) > _MAX_NUMBER_LENGTH:
            return reject("number is too long")
        number = float(digits)
        return number if math.isfinite(number) else reject("number does not fit in a float")

    try:
        parsed: object = json.loads(
            text,
            object_pairs_hook=make_object,
            parse_int=make_integer,
            parse_float=make_float,
            parse_constant=lambda name: reject(f"{name} is not JSON"),
        )
    except json.JSONDecodeError as error:
        raise InvalidArgumentError(f"{what}: line {error.lineno} column {error.colno}: {error.msg}") from error
    return parsed, suspect


def _first_repeated(keys: Iterator[str]) -> str:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            return key[:64]
        seen.add(key)
    return ""


def _objections(value: object, path: str, maps: Collection[str], key: str = "") -> Iterator[tuple[str, str]]:
    """Walk the tree and say what is wrong where; depth is bounded already."""
    match value:
        case _Rejected():
            yield path, value.reason
        case str() if _SURROGATE.search(value):
            yield path, "half of a surrogate pair"
        case list():
            for index, item in enumerate(value):
                yield from _objections(item, f"{path}[{index}]", maps)
        case dict():
            if isinstance(value, _CaseClash) and key not in maps:
                yield path, f"keys {_case_variants(value)} differ in case only"
            for name, item in value.items():
                if _SURROGATE.search(name):
                    yield path, "a key holds half of a surrogate pair"
                yield from _objections(item, member_path(path, name), maps, name)


def _case_variants(members: dict[str, object]) -> str:
    seen: dict[str, str] = {}
    for key in members:
        first = seen.setdefault(key.casefold(), key)
        if first != key:
            return f"{first[:64]!a} and {key[:64]!a}"
    return ""
