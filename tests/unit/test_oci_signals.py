"""Signals are found by number and by any of their usual names."""

import signal

import pytest

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.signals import parse_signal


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("15", 15),
        ("1", 1),
        ("64", 64),
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigterm", 15),
        ("SIGKILL", 9),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMIN+30", 64),
        ("RTMAX", 64),
        ("SIGRTMAX-14", 50),
        ("SIGWINCH", 28),
    ],
)
def test_signals(text: str, number: int):
    """Images write STOPSIGNAL in all of these ways."""
    assert parse_signal(text) == number


@pytest.mark.parametrize("member", [name for name in signal.Signals.__members__ if not name.startswith("SIGRT")])
def test_every_name_of_this_system(member: str):
    """All of the system's names are known, with and without SIG."""
    assert parse_signal(member) == parse_signal(member[3:].lower()) == signal.Signals[member]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "65",
        "999",
        "-9",
        "+9",
        " 9",
        "9\n",
        "\u0669",
        "SIG",
        "SIGFOO",
        "RTMIN-1",
        "RTMIN+31",
        "RTMAX+1",
        "TERM\0",
    ],
)
def test_no_signals(text: str):
    """What is no signal is refused before anything is killed with it."""
    with pytest.raises(InvalidArgumentError, match="signal: "):
        parse_signal(text)
