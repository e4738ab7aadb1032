"""What every spec option is made of. Knows how to change a spec without anybody noticing; knows no option.

An option is a pure function `Spec -> Spec`. It is written as an edit of a private copy, so that neither the spec it is
given, nor the values it was made with, nor two of its results ever share anything that can change.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from typing import TypeAlias

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.runtime_spec import Linux, Process, Resources, Root, Spec
from containerd_py.oci.spec_json import clone

SpecOption: TypeAlias = Callable[[Spec], Spec]


def spec_option(edit: Callable[[Spec], None]) -> SpecOption:
    """Make a pure option of a function that edits a spec in place."""

    def apply(spec: Spec) -> Spec:
        edited = clone(spec)
        edit(edited)
        return edited

    apply.__qualname__ = edit.__qualname__.partition(".")[0]  # the option's name, for whoever prints it
    return apply


def compose(*options: SpecOption) -> SpecOption:
    """Make one option of several, applied from left to right.

    Raises:
        InvalidArgumentError: One cannot be called, or, when applied, one returns no spec.
    """
    for option in options:
        if not callable(option):
            raise InvalidArgumentError(f"spec option {option!r} is no function: name one of oci.spec_options")

    def apply(spec: Spec) -> Spec:
        edited = clone(spec)
        for option in options:
            edited = option(edited)
            if not isinstance(edited, dict):
                raise InvalidArgumentError(f"spec option {option!r} must return the spec, not {edited!r}")
        return edited

    return apply


def process_of(spec: Spec) -> Process:
    """Return the process section, made if it is not there."""
    return spec.setdefault("process", {"cwd": "/", "user": {"uid": 0, "gid": 0}})


def root_of(spec: Spec) -> Root:
    """Return the root section, made if it is not there."""
    return spec.setdefault("root", {"path": ""})


def linux_of(spec: Spec) -> Linux:
    """Return the Linux section, made if it is not there."""
    return spec.setdefault("linux", {})


def resources_of(spec: Spec) -> Resources:
    """Return the Linux resources section, made if it is not there."""
    return linux_of(spec).setdefault("resources", {})


def strings(values: Iterable[str | Iterable[str]], *, what: str) -> list[str]:
    """Flatten arguments that are strings or iterables of them.

    Raises:
        InvalidArgumentError: Something is not a string, or holds a NUL, which no Linux interface can take.
    """
    flat: list[str] = []
    for value in values:
        flat.extend([value] if isinstance(value, str) else value)
    for item in flat:
        check_string(item, what=what)
    return flat


def check_string(value: object, *, what: str) -> str:
    """Return the value if it is a string without NUL.

    Raises:
        InvalidArgumentError: It is not.
    """
    if not isinstance(value, str) or "\0" in value:
        raise InvalidArgumentError(f"{what}: {ascii(value)[:160]} must be a string without NUL characters")
    return value


def check_integer(value: object, *, what: str, minimum: int, maximum: int) -> int:
    """Return the value if it is an integer within bounds.

    Raises:
        InvalidArgumentError: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise InvalidArgumentError(f"{what}: {ascii(value)[:80]} must be an integer from {minimum} to {maximum}")
    return value


def clean_path(path: str) -> str:
    """Normalise a path inside a container, as Go's `filepath.Clean` does."""
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("//") else cleaned
