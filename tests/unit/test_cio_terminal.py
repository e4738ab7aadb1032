"""Detach keys, and a console's modes and size."""

import io
import os
import termios
from contextlib import suppress
from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py.cio.terminal import Console, DetachFilter, own_console, parse_detach_keys
from containerd_py.errors import FailedPreconditionError, InvalidArgumentError

KEYS = b"\x10\x11"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("ctrl-p,ctrl-q", KEYS),
        ("ctrl-a", b"\x01"),
        ("ctrl-z,a,~", b"\x1aa~"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("", b""),
    ],
)
def test_keys_are_written_as_docker_writes_them(keys: str, expected: bytes):
    """Single characters and ctrl-X, parted by commas; nothing is no keys."""
    assert parse_detach_keys(keys) == expected


@pytest.mark.parametrize("keys", ["ctrl-", "ctrl-P", "ctrl-1", "ab", "a,", ",", "é", "ctrl-p, ctrl-q", "ctrl-p\n"])
def test_other_keys_are_refused(keys: str):
    """What is no key is named."""
    with pytest.raises(InvalidArgumentError, match="no key"):
        parse_detach_keys(keys)


def test_a_beginning_is_held_back_until_the_next_key_tells():
    """The first detach key alone goes nowhere; with another one after it, both go in."""
    keys = DetachFilter(KEYS)
    assert keys.feed(b"a\x10") == (b"a", False)
    assert keys.feed(b"b") == (b"\x10b", False)
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"\x11rest") == (b"", True)


def test_a_beginning_can_be_the_end_of_a_failed_one():
    """The first key twice and then the second is the sequence, after one key for the process."""
    keys = DetachFilter(KEYS)
    assert [keys.feed(bytes([key])) for key in b"\x10\x10\x11"] == [(b"", False), (b"\x10", False), (b"", True)]


def test_what_is_held_back_at_the_end_can_be_had():
    """An input that ends within the detach keys loses nothing."""
    keys = DetachFilter(KEYS)
    keys.feed(b"\x10")
    assert (keys.rest(), keys.rest()) == (b"\x10", b"")


def test_without_keys_nothing_is_held_back():
    """No detach keys let everything through."""
    assert DetachFilter(b"").feed(KEYS) == (KEYS, False)


@given(
    keys=st.binary(max_size=4).map(lambda data: bytes(byte % 3 for byte in data)),
    typed=st.binary(max_size=40).map(lambda data: bytes(byte % 3 for byte in data)),
    cuts=st.lists(st.integers(0, 40)),
)
def test_cuts_change_nothing(keys: bytes, typed: bytes, cuts: list[int]):
    """However it is cut, what comes before the keys goes in, all of it, and the keys are found at their first place."""
    detaching, passed, was_found = DetachFilter(keys), b"", False
    bounds = [0, *sorted(cut for cut in cuts if cut < len(typed)), len(typed)]
    for start, end in pairwise(bounds):
        chunk, was_found = detaching.feed(typed[start:end])
        passed += chunk
        if was_found:
            break
    else:
        passed += detaching.rest()
    assert was_found == bool(keys and keys in typed)
    assert passed == (typed.partition(keys)[0] if was_found else typed)


@pytest.fixture
def pair():
    master, slave = os.openpty()
    yield master, slave
    for fd in (master, slave):
        with suppress(OSError):
            os.close(fd)


async def test_raw_keys_come_as_typed_and_modes_come_back(pair):
    """In raw mode ctrl-C is a key and nothing is echoed; afterwards all modes are as before, after an error too."""
    master, slave = pair
    before = termios.tcgetattr(slave)
    with pytest.raises(ZeroDivisionError), Console(slave).raw():
        assert termios.tcgetattr(slave) != before
        os.write(master, b"\x03x")
        async for typed in Console(slave).typed():
            assert typed == b"\x03x"
            break
        raise ZeroDivisionError
    assert termios.tcgetattr(slave) == before
    assert os.get_blocking(slave)


async def test_keys_end_with_the_terminal(pair):
    """A terminal that is hung up has no more keys, and no modes to be put back."""
    master, slave = pair
    with anyio.fail_after(5), Console(slave).raw():
        os.close(master)
        assert [typed async for typed in Console(slave).typed()] == []


def test_a_console_may_not_know_its_size(pair):
    """A size of nothing is none."""
    _, slave = pair
    assert Console(slave).size is None
    termios.tcsetwinsize(slave, (33, 101))
    assert Console(slave).size == (101, 33)


@pytest.mark.parametrize("replacement", [None, io.StringIO()], ids=["none", "no-terminal"])
def test_a_stdin_that_is_no_terminal_is_refused(monkeypatch, replacement):
    """Said in so many words."""
    monkeypatch.setattr("sys.stdin", replacement)
    with pytest.raises(FailedPreconditionError, match="stdin is not a terminal"):
        own_console()
