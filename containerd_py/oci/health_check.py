"""How to find out whether what runs in a container does its work: Docker's HEALTHCHECK. Runs nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import attrs

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.json_fields import Fields
from containerd_py.oci.strict_json import load_object

HEALTH_CHECK_FIELDS: Final = frozenset({"Test", "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"})
_NANOSECONDS: Final = 1_000_000_000
_SHORTEST: Final = 0.001  # seconds; Docker's shortest
_LONGEST: Final = 365 * 86400.0  # seconds; longer ones are mistakes
_MAX_SIZE: Final = 1 << 16  # bytes


def _command(command: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(command, str):
        return ("/bin/sh", "-c", command) if command else ()
    return tuple(command)


@attrs.frozen(kw_only=True)
class HealthCheck:
    """A command that ends with 0 in a healthy container; a string is run by its /bin/sh. Times are in seconds.

    It runs every `interval`, and is given up after `bound`, which is a failure. In the first `start_period` it runs
    every `start_interval`, and failures do not count; after it, `retries` of them in a row make the container
    unhealthy. The defaults are Docker's.
    """

    command: tuple[str, ...] = attrs.field(converter=_command)
    interval: float = 30.0
    bound: float = 30.0
    start_period: float = 0.0
    start_interval: float = 5.0
    retries: int = 3

    def __attrs_post_init__(self) -> None:
        if not self.command or not all(part and "\0" not in part for part in self.command[:1]):
            raise InvalidArgumentError("a health check needs a command to run")
        for name in ("interval", "bound", "start_interval"):
            if not _SHORTEST <= getattr(self, name) <= _LONGEST:
                raise InvalidArgumentError(f"{name}={getattr(self, name)}: give {_SHORTEST} seconds at least")
        if not 0 <= self.start_period <= _LONGEST or self.retries < 1:
            raise InvalidArgumentError("a health check has no negative start_period, and 1 at least of retries")


def read_health_check(fields: Fields) -> HealthCheck | None:
    """Read Docker's JSON; None where it says that there is no check. What is 0 or makes no sense is the default.

    Raises:
        InvalidArgumentError: A field is of the wrong type; the message has its path.
    """
    match fields.strings("Test"):
        case ["CMD", *command] if command and command[0]:
            chosen: str | list[str] = command
        case ["CMD-SHELL", text] if text:
            chosen = text
        case _:
            return None
    retries = fields.integer("Retries") or 0
    return HealthCheck(
        command=chosen,
        interval=_seconds(fields, "Interval", 30.0),
        bound=_seconds(fields, "Timeout", 30.0),
        start_period=_seconds(fields, "StartPeriod", 0.0),
        start_interval=_seconds(fields, "StartInterval", 5.0),
        retries=retries if retries > 0 else 3,
    )


def _seconds(fields: Fields, key: str, otherwise: float) -> float:
    found = (fields.integer(key) or 0) / _NANOSECONDS
    return found if _SHORTEST <= found <= _LONGEST else otherwise


def load_health_check(text: str) -> HealthCheck | None:
    """Read Docker's JSON out of a label; None where it says that there is no check.

    Raises:
        InvalidArgumentError: It is none.
    """
    what = "health check"
    members = load_object(text.encode("utf-8", "surrogatepass"), what=what, max_size=_MAX_SIZE)
    return read_health_check(Fields(members=members, known=HEALTH_CHECK_FIELDS, what=what))


def dump_health_check(check: HealthCheck) -> str:
    """Write Docker's JSON."""
    times = {
        "Interval": check.interval,
        "Timeout": check.bound,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
    }
    nanoseconds = {key: round(seconds * _NANOSECONDS) for key, seconds in times.items()}
    return json.dumps({"Test": ["CMD", *check.command], **nanoseconds, "Retries": check.retries}, separators=(",", ":"))
