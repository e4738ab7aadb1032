"""Tokens: what a token service's answer is worth, and for how long."""

from __future__ import annotations

import pytest

from containerd_py.errors import InvalidArgumentError
from containerd_py.remotes.auth import basic_header, form_of, lifetime_of, token_of
from containerd_py.remotes.credentials import Credential
from containerd_py.remotes.limits import MAX_TOKEN_SIZE
from containerd_py.remotes.secret import Secret


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (b'{"token":"a"}', "Bearer a"),
        (b'{"access_token":"b"}', "Bearer b"),
        (b'{"token":"a","access_token":"b"}', "Bearer b"),
        (b'{"token":"a","access_token":""}', "Bearer a"),
        (b'{"token":"a.b-c_d~e+f/g=="}', "Bearer a.b-c_d~e+f/g=="),
    ],
)
def test_token(body: bytes, header: str) -> None:
    """Either name of the token will do; where both are there, access_token is it (containerd, FetchToken)."""
    token = token_of(body)
    assert isinstance(token, tuple)
    assert token[0] == Secret(header)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b'"a"', b"<html>", b'{"token":""}', b'{"token":5}', b'{"token":null}',
        b'{"token":["a"]}',
        b'{"token":"a b"}', b'{"token":"a\\r\\nX-Evil: 1"}', b'{"token":"\xc3\xa9"}', b'{"token":"a","token":"b"}',
        b'{"token":"a","Token":"b"}', b'{"token":"a"} trailing', b'\xff\xfe{\x00', b'{"token":NaN}', b"[" * 5000,
        b'{"token":"' + b"a" * MAX_TOKEN_SIZE + b'"}',
    ],
)  # fmt: skip
def test_unusable_answers(body: bytes) -> None:
    """An answer that is too long, not JSON, ambiguous, or whose token cannot stand in a header is told, not raised."""
    reason = token_of(body)
    assert isinstance(reason, str)
    assert "Evil" not in reason


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (None, 54.0), (0, 54.0), (-1, 54.0), (True, 54.0), ("300", 54.0), ([], 54.0), (1, 0.9), (60, 54.0),
        (300, 290.0),
        (3600, 3590.0), (0.5, 0.45), (10**12, 86390.0), (1e300, 86390.0),
    ],
)  # fmt: skip
def test_lifetime(expires_in: object, seconds: float) -> None:
    """A token is used for nine tenths of its life, at most 10 s less; without one it lives a minute, never for ever."""
    assert lifetime_of(expires_in) == pytest.approx(seconds)


def test_form_with_password() -> None:
    """A user name and a password are exchanged by the password grant."""
    form = form_of("reg", ("s:a", "s:b"), Credential(username="me", secret="p&w")).reveal()
    assert (
        form == "scope=s%3Aa+s%3Ab&service=reg&client_id=containerd-py&grant_type=password&username=me&password=p%26w"
    )


def test_form_with_refresh_token() -> None:
    """A secret without a user name is a refresh token."""
    form = form_of("reg", (), Credential(secret="t")).reveal()
    assert form.endswith("grant_type=refresh_token&refresh_token=t")
    assert "password" not in form


def test_basic_header() -> None:
    """User name and password are sent as RFC 7617 says; a user name with a colon cannot be."""
    assert basic_header(Credential(username="Aladdin", secret="open sesame")) == Secret(
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    )
    with pytest.raises(InvalidArgumentError):
        basic_header(Credential(username="a:b", secret="c"))
