"""Retries: which statuses, which pauses, and what Retry-After says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from containerd_py.remotes.limits import RegistryLimits
from containerd_py.remotes.retries import backoff, is_worth_retrying, parse_retry_after

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 410, 413, 416, 418, 451, 501, 505, 200, 301])
def test_final_statuses(status: int) -> None:
    """Refusals are final: only 408, 425 and 429 among the 4xx ask for another try."""
    assert not is_worth_retrying(status, last_host=True)


@pytest.mark.parametrize("status", [408, 425, 429])
def test_asked_to_retry(status: int) -> None:
    """A host that asks for patience gets it, be it a mirror or not."""
    assert is_worth_retrying(status, last_host=True)
    assert is_worth_retrying(status, last_host=False)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 524])
def test_broken_servers(status: int) -> None:
    """A broken host is asked again only when there is no other one."""
    assert is_worth_retrying(status, last_host=True)
    assert not is_worth_retrying(status, last_host=False)


def test_backoff_grows_to_its_bound() -> None:
    """Pauses double from a quarter of a second to ten, each a tenth off at most."""
    limits = RegistryLimits()
    for failures, pause in ((1, 0.25), (2, 0.5), (3, 1.0), (6, 8.0), (7, 10.0), (1000, 10.0)):
        assert pause * 0.9 <= backoff(failures, limits) <= pause * 1.1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("", None), ("0", 0.0), ("7", 7.0), (" 7 ", 7.0), ("1000000000", 1e9), ("-1", None),
        ("1.5", None), ("soon", None), ("7 seconds", None), ("\u0667", None), ("9" * 30, None),
        ("Fri, 02 Jan 2026 03:04:35 GMT", 30.0), ("Fri, 02 Jan 2026 03:04:05 GMT", 0.0),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0.0), ("Fri, 99 Jan 2026 03:04:35 GMT", None),
    ],
)  # fmt: skip
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """Retry-After is seconds or a date, a past date means now, and nonsense means nothing."""
    assert parse_retry_after(value, NOW) == seconds
