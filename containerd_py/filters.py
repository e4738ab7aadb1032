"""containerd's filter language: made without quoting by hand, and checked before it is sent. Asks no daemon.

A filter is a text such as `name~="^docker.io/",labels."a.b/c"==x`: fields, dotted, each compared with a value or looked
at for its presence; all parts of one filter must hold. Calls that take several filters return what matches any of them.
Source: containerd, pkg/filters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

import attrs

from containerd_py.errors import InvalidArgumentError

_PLAIN_FIELD: Final = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_OPERATOR_CHARACTERS: Final = re.compile(r"[=!~]*")
_OPERATORS: Final = ("==", "!=", "~=")
_SPACES: Final = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*")  # Go's, not Python's
_QUOTES: Final = '"/|'
_UNSCANNABLE: Final = "\0\ufffd"  # the daemon takes the one for an error, the other for damaged UTF-8
_ESCAPE: Final = re.compile(
    r"[abfnrtv\\]|(?P<octal>[0-7]{3})|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U(?P<long>[0-9A-Fa-f]{8})", re.ASCII
)
_LAST_CODE_POINT: Final = 0x10FFFF
_QUOTED_AS: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\0": r"\x00", "\ufffd": r"\ufffd"})


class Filter(str):
    """A filter's text. It goes wherever a plain string does; `&` demands another filter as well."""

    __slots__ = ()

    def __and__(self, other: str) -> Filter:
        """Return the filter that matches what both match."""
        return Filter(f"{self},{other}")


@attrs.frozen
class Field:
    """A field that a filter looks at. Made by `where`."""

    path: tuple[str, ...]

    def equals(self, value: str) -> Filter:
        """Match what has this value in the field."""
        return self._compared("==", value)

    def differs(self, value: str) -> Filter:
        """Match what has another value in the field, or none."""
        return self._compared("!=", value)

    def matches(self, pattern: str) -> Filter:
        """Match what has a value in which the regular expression is found, in Go's syntax (RE2).

        The daemon logs a pattern that is wrong, and lets it match nothing.
        """
        return self._compared("~=", pattern)

    def exists(self) -> Filter:
        """Match what has the field at all; a label, say."""
        return Filter(self._text)

    def _compared(self, operator: str, value: str) -> Filter:
        return Filter(f"{self._text}{operator}{_quoted(value)}")

    @property
    def _text(self) -> str:
        return ".".join(part if _PLAIN_FIELD.fullmatch(part) else _quoted(part) for part in self.path)


def where(name: str, *path: str) -> Field:
    """Name a field to filter by: `where("labels", "app.example/tier").equals("web")`.

    Which fields there are is told by the call that takes the filter.
    """
    return Field((name, *path))


def check_filter(text: str) -> str:
    """Return the filter if a daemon can read it; an empty one matches everything.

    Raises:
        InvalidArgumentError: Its syntax is wrong; the message shows where.
    """
    if text:
        _Reader(text).read()
    return text


def checked_filters(filters: Iterable[str]) -> list[str]:
    """Return the filters if a daemon can read them all.

    Raises:
        InvalidArgumentError: The syntax of one is wrong, or a text stands where a list of texts belongs.
    """
    if isinstance(filters, str):
        raise InvalidArgumentError(f"several filters are a list: use [{filters!r}]")
    return [check_filter(text) for text in filters]


def _quoted(value: str) -> str:
    return f'"{value.translate(_QUOTED_AS)}"'


def _is_part_of_value(character: str) -> bool:
    is_space = _SPACES.fullmatch(character)
    return character != "," and not is_space and unicodedata.category(character)[0] in "LMNPS"


class _Reader:
    """Goes over a filter's text as the daemon does, and stops where the daemon would."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> None:
        self._read_selector()
        while self._at < len(self._text):
            if self._next != ",":
                raise self._error("here a comma or the end is expected; quote a value with blanks or commas")
            self._at += 1
            self._read_selector()

    @property
    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _error(self, what: str) -> InvalidArgumentError:
        before, after = self._text[: self._at], self._text[self._at :]
        return InvalidArgumentError(f"a filter's syntax is wrong at {before!r} → {after!r}: {what}")

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        skipped = found[0] if found else ""
        self._at += len(skipped)
        return skipped

    def _read_selector(self) -> None:
        self._read_field()
        while self._next == ".":
            self._at += 1
            self._read_field()
        if self._next not in {",", ""}:
            self._read_operator()
            self._read_value(is_pattern=self._text[self._at - 2] == "~")

    def _read_field(self) -> None:
        self._skip(_SPACES)
        if self._next == '"':
            self._read_quoted()
        elif not self._skip(_PLAIN_FIELD):
            raise self._error('here a field is expected: letters, digits and "_", or quoted with "')

    def _read_operator(self) -> None:
        self._skip(_SPACES)
        start = self._at
        if self._skip(_OPERATOR_CHARACTERS) not in _OPERATORS:
            self._at = start
            raise self._error("here one of == != ~= is expected; quote a field that is more than letters and digits")

    def _read_value(self, *, is_pattern: bool) -> None:
        self._skip(_SPACES)
        if self._next and self._next in _QUOTES:
            if self._next != '"' and not is_pattern:
                raise self._error(f'only a pattern (~=) may be quoted with {self._next}: use "')
            self._read_quoted()
        elif not self._next or self._next in ",.=!~" + _UNSCANNABLE:
            raise self._error("here a value is expected")
        else:
            self._at += 1
            while self._next and self._next not in _UNSCANNABLE and _is_part_of_value(self._next):
                self._at += 1

    def _read_quoted(self) -> None:
        quote = self._next
        self._at += 1
        while self._next != quote:
            if not self._next or self._next in "\n" + _UNSCANNABLE:
                raise self._error(f"the closing {quote} is missing, or an escape such as \\n")
            if self._next == "\\":
                self._read_escape(quote)
            else:
                self._at += 1
        self._at += 1

    def _read_escape(self, quote: str) -> None:
        self._at += 1
        if self._next == quote:
            self._at += 1
            return
        found = _ESCAPE.match(self._text, self._at)
        is_too_large = found is not None and (
            int(found["octal"] or "0", 8) > 0xFF or int(found["long"] or "0", 16) > _LAST_CODE_POINT
        )
        if found is None or is_too_large:
            raise self._error("no such escape; a backslash itself is written twice")
        self._at = found.end()
