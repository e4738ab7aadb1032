"""Specs to and from JSON, and copies of them. Knows that a spec is a JSON object; does not look into it."""

from __future__ import annotations

import json
from typing import Final, TypeVar, cast

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.runtime_spec import Spec
from containerd_py.oci.strict_json import load_object

MAX_SPEC_SIZE: Final = 16 * 1024 * 1024  # bytes; containerd takes no larger message

_T = TypeVar("_T")


def spec_from_json(data: bytes) -> Spec:
    """Read a spec; members nobody here knows are kept.

    Raises:
        InvalidArgumentError: It is not one JSON object, or larger than 16 MiB.
    """
    return cast("Spec", load_object(data, what="runtime spec", max_size=MAX_SPEC_SIZE, fold_case=False))


def spec_to_json(spec: Spec) -> bytes:
    """Write a spec as containerd stores it: UTF-8 JSON.

    Raises:
        InvalidArgumentError: It holds something JSON has no word for, or text that is not Unicode.
    """
    try:
        return json.dumps(spec, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:  # ValueError: NaN, circles, lone surrogates
        raise InvalidArgumentError(f"runtime spec cannot be written as JSON: {error}") from error


def clone(value: _T) -> _T:
    """Copy JSON-like data so that nothing is shared; tuples become arrays."""
    if isinstance(value, dict):
        return cast("_T", {key: clone(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return cast("_T", [clone(item) for item in value])
    return value
