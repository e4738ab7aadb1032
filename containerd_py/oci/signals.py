"""Signals as images and people write them. Knows Linux's names and numbers; sends nothing."""

from __future__ import annotations

import re
import signal
from typing import Final

from containerd_py.errors import InvalidArgumentError

MAX_SIGNAL: Final = 64
_RTMIN: Final = 34  # the first two real-time signals belong to the C library
_NAMES: Final = {name.removeprefix("SIG"): int(number) for name, number in signal.Signals.__members__.items()}
_REAL_TIME: Final = re.compile(r"RTM(IN|AX)(?:([+-])([0-9]{1,2}))?", re.ASCII)


def parse_signal(text: str) -> int:
    """Return the number of a signal given as number or name: "15", "TERM", "SIGTERM", "RTMIN+3".

    Raises:
        InvalidArgumentError: There is no such signal.
    """
    name = text.upper().removeprefix("SIG")
    number = _NAMES.get(name, 0)
    if match := _REAL_TIME.fullmatch(name):
        number = _real_time(*match.groups())
    elif re.fullmatch(r"[0-9]{1,3}", text, re.ASCII):
        number = int(text)
    if not 1 <= number <= MAX_SIGNAL:
        raise InvalidArgumentError(f"signal: {text[:64]!a} is neither a signal's name nor a number from 1 to 64")
    return number


def _real_time(end: str, sign: str | None, distance: str | None) -> int:
    steps = int(distance or 0)
    if end == "IN" and sign != "-":
        number = _RTMIN + steps
    elif end == "AX" and sign != "+":
        number = MAX_SIGNAL - steps
    else:
        return 0
    return number if _RTMIN <= number <= MAX_SIGNAL else 0
