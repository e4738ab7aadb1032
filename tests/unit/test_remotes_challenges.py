"""Challenges: read as RFC 9110 says, the strongest chosen, hostile ones survived."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py.remotes.challenges import parse_challenges, strongest


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        ("Basic", [("basic", {})]),
        ("BASIC Realm=x", [("basic", {"realm": "x"})]),
        (
            'Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull"',
            [("bearer", {"realm": "https://auth.example/token", "service": "reg", "scope": "repository:a/b:pull"})],
        ),
        ('Bearer realm = "a" , service = "b"', [("bearer", {"realm": "a", "service": "b"})]),
        ('Bearer realm="a, b=\\"c\\" \\\\"', [("bearer", {"realm": 'a, b="c" \\'})]),
        ('Bearer realm="a",realm="b"', [("bearer", {"realm": "a"})]),
        ('Basic realm="x", Bearer realm="y"', [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Negotiate abc==, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Bearer realm="unterminated', [("bearer", {})]),
        ('Bearer realm="a" garbage', [("bearer", {"realm": "a"})]),
        ("=x", []),
        ("Bearer " + "x" * 20000, []),
    ],
)
def test_parse(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    """Schemes and parameters are read in any case and spacing; what cannot be read is left out."""
    assert [(challenge.scheme, challenge.parameters) for challenge in parse_challenges(header)] == expected


def test_strongest() -> None:
    """A token is preferred to a password, across headers; what is not spoken is passed over."""
    both = strongest(['Basic realm="x"', 'Digest realm="z", Bearer realm="y"'])
    assert both is not None
    assert both.scheme == "bearer"
    basic = strongest(["Negotiate", 'Basic realm="x"'])
    assert basic is not None
    assert basic.scheme == "basic"
    assert strongest(["Negotiate", 'Digest realm="x"']) is None
    assert strongest([]) is None


@given(st.text(alphabet='ab=," \\BasicBearer\t', max_size=200))
def test_any_text_is_read(header: str) -> None:
    """Whatever the header, reading it ends, with no error."""
    for challenge in parse_challenges(header):
        assert challenge.scheme == challenge.scheme.lower()


@pytest.mark.timeout(30)
def test_hostile_headers_hang_nothing() -> None:
    """Headers made to confuse a backtracking parser are read as any other."""
    for header in ('a="' + "\\" * 16000, "a " * 8000, 'a b="c",' * 2000, "a=" * 8000, "a b" + "=" * 16000):
        assert all(challenge.scheme in {"a", "b"} for challenge in parse_challenges(header))
