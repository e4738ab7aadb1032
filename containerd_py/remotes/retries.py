"""What is tried again, and after how long. Pure, but for the dice."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from containerd_py.remotes.limits import RegistryLimits

_JITTER: Final = 0.1  # of a pause, both ways: clients that failed together come back apart
_SECONDS_RE: Final = re.compile(r"[0-9]{1,12}", re.ASCII)

# The server asks for another try: too slow, too early, too many. All other 4xx stay what they are.
ASKED_TO_RETRY: Final = frozenset({408, 425, 429})
# The server, or what stands before it, broke down.
BROKEN: Final = frozenset({500, 502, 503, 504, 520, 521, 522, 523, 524})


def is_worth_retrying(status: int, *, last_host: bool) -> bool:
    """Tell whether to ask the same host again: a broken mirror is left for the next host at once."""
    return status in ASKED_TO_RETRY or (last_host and status in BROKEN)


def backoff(failures: int, limits: RegistryLimits) -> float:
    """Seconds to wait after that many failures in a row."""
    pause = min(limits.first_backoff * 2.0 ** min(failures - 1, 30), limits.max_backoff)
    return pause * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  no secret


def parse_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Read a Retry-After header: seconds or a date; None where it says nothing usable."""
    value = (value or "").strip()
    if _SECONDS_RE.fullmatch(value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError, IndexError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - (now or datetime.now(UTC))).total_seconds(), 0.0)
