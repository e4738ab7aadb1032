"""What a registry says when it wants to know who we are: the WWW-Authenticate header, read. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

MAX_CHALLENGE_LENGTH: Final = 16384

# RFC 9110 §11.6.1. A quoted string may hold escaped quotes; a token68 (Negotiate) is skipped.
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  a grammar, no token
_PARAMETER_RE: Final = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*', re.ASCII)
_SCHEME_RE: Final = re.compile(rf"\s*({_TOKEN})(?:\s+(?![\s=])|\s*(?=,|\Z))", re.ASCII)
_TOKEN68_RE: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*\s*(?=,|\Z)", re.ASCII)
_ESCAPE_RE: Final = re.compile(r"\\(.)", re.ASCII)

_STRENGTH: Final = {"bearer": 2, "basic": 1}


@attrs.frozen(kw_only=True)
class Challenge:
    """One way of authenticating that a registry offers; `scheme` and the parameters' names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def strongest(headers: Iterable[str]) -> Challenge | None:
    """Choose among the challenges of all WWW-Authenticate headers: a token before a password; None where neither is."""
    challenges = [challenge for header in headers for challenge in parse_challenges(header)]
    supported = [challenge for challenge in challenges if challenge.scheme in _STRENGTH]
    return max(supported, key=lambda challenge: _STRENGTH[challenge.scheme], default=None)


def parse_challenges(header: str) -> list[Challenge]:
    """Read the challenges of one header; what follows something unreadable is left out."""
    if len(header) > MAX_CHALLENGE_LENGTH:
        return []
    challenges: list[Challenge] = []
    position = 0
    while matched := _SCHEME_RE.match(header, position):
        parameters, position = _parameters(header, matched.end())
        challenges.append(Challenge(scheme=matched[1].lower(), parameters=parameters))
        if not header.startswith(",", position):
            break
        position += 1
    return challenges


def _parameters(header: str, position: int) -> tuple[dict[str, str], int]:
    parameters: dict[str, str] = {}
    if token68 := _TOKEN68_RE.match(header, position):
        return parameters, token68.end()
    while matched := _PARAMETER_RE.match(header, position):
        value = matched[3] if matched[3] is not None else _ESCAPE_RE.sub(r"\1", matched[2])
        parameters.setdefault(matched[1].lower(), value)
        position = matched.end()
        if not header.startswith(",", position) or not _PARAMETER_RE.match(header, position + 1):
            break
        position += 1
    return parameters, position
