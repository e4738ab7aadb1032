"""Times as images write them. Knows RFC 3339 as Go's decoder reads it; knows no clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from containerd_py.errors import InvalidArgumentError
from containerd_py.types import Timestamp

_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)
_GO_ZERO: Final = datetime(1, 1, 1, tzinfo=UTC)
_MAX_LENGTH: Final = 64


def parse_time(text: str) -> Timestamp | None:
    """Read an RFC 3339 time; Go's zero time (year 1) means that there is none.

    Raises:
        InvalidArgumentError: The text is not such a time.
    """
    match = _RFC3339.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        raise InvalidArgumentError(f"{text[:_MAX_LENGTH]!a} is not an RFC 3339 time")
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
        if sign:
            offset = timedelta(hours=_bounded(offset_hours, 23), minutes=_bounded(offset_minutes, 59))
            moment += -offset if sign == "+" else offset
    except (ValueError, OverflowError) as error:
        raise InvalidArgumentError(f"{text!a} is not an RFC 3339 time") from error
    nanos = int((fraction or "").ljust(9, "0")[:9])
    if moment == _GO_ZERO and nanos == 0:
        return None
    seconds, _ = Timestamp.from_datetime(moment).parts
    return Timestamp.from_parts(seconds, nanos)


def _bounded(digits: str, maximum: int) -> int:
    value = int(digits)
    if value > maximum:
        raise ValueError(digits)
    return value
