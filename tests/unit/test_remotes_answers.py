"""Refusals: the status and the registry's own words become one typed error."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from containerd_py.errors import (
    ContainerdError,
    DigestMismatchError,
    NotFoundError,
    PermissionDeniedError,
    RegistryAuthenticationError,
    RegistryConnectError,
    RegistryError,
    RegistryNotFoundError,
    RegistryPermissionError,
    RegistryRateLimitedError,
    RegistryUnavailableError,
    UnauthenticatedError,
)
from containerd_py.remotes.answers import Answer, error_of, most_telling
from containerd_py.remotes.secret import Secret


def answer(status: int, body: object = b"", retry_after: float | None = None) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(
        host="reg.example", asked="GET https://reg.example/v2/x", status=status, body=data, retry_after=retry_after
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RegistryError),
        (401, RegistryAuthenticationError),
        (403, RegistryPermissionError),
        (404, RegistryNotFoundError),
        (408, RegistryUnavailableError),
        (418, RegistryError),
        (429, RegistryRateLimitedError),
        (451, RegistryError),
        (500, RegistryUnavailableError),
        (503, RegistryUnavailableError),
        (520, RegistryUnavailableError),
    ],
)
def test_types(status: int, kind: type[RegistryError]) -> None:
    """Each status has its type, which carries host and status and is said in the message."""
    error = error_of(answer(status))
    assert type(error) is kind
    assert (error.host, error.status) == ("reg.example", status)
    assert f"status {status}" in str(error)
    assert "reg.example" in str(error)


def test_registry_errors_are_the_general_ones_too() -> None:
    """Whoever catches the general class catches the registry's."""
    assert isinstance(error_of(answer(404)), NotFoundError)
    assert isinstance(error_of(answer(403)), PermissionDeniedError)
    assert isinstance(error_of(answer(401)), UnauthenticatedError)


def test_words() -> None:
    """Code, message and detail of the distribution specification are kept and shown."""
    error = error_of(
        answer(
            404,
            {"errors": [{"code": "NAME_UNKNOWN", "message": "no such name", "detail": {"name": "x"}}, {"code": "X"}]},
        )
    )
    assert error.code == "NAME_UNKNOWN"
    assert "no such name ({'name': 'x'}); x" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>gateway</html>", b"{", b"[]", b'{"errors":5}', b'{"errors":[5]}', b'{"errors":[{"code":5}]}', b"\xff",
        b'{"errors":[]}', b'{"errors":[{"message":null}]}', b'{"errors":' + b"[" * 500,
    ],
)  # fmt: skip
def test_other_bodies_say_nothing(body: bytes) -> None:
    """A body that is not the specification's is not shown; the status stands."""
    assert error_of(answer(404, body)).status == 404


def test_bounded_and_printable() -> None:
    """Words are cut off, and cannot move the cursor of whoever reads them."""
    error = error_of(answer(400, {"errors": [{"code": "A", "message": "\x1b[2J\r\n" + "x" * 100_000}]}))
    assert len(str(error)) < 10_000
    assert "\x1b" not in str(error)
    assert "\n" not in str(error)


def test_secrets_sent_back_are_hidden() -> None:
    """A server that repeats our credentials does not get them into the message."""
    error = error_of(answer(401, {"errors": [{"code": "x", "message": "bad token c4n4ry"}]}), Secret("Bearer c4n4ry"))
    assert "c4n4ry" not in str(error) + error.detail


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_carried(status: int) -> None:
    """Whoever asks to come back later is a rate limit that says when, of any length."""
    error = error_of(answer(status, retry_after=90))
    assert isinstance(error, RegistryRateLimitedError)
    assert error.retry_after == timedelta(seconds=90)
    assert error.status == status
    assert isinstance(error_of(answer(status, retry_after=1e12)), RegistryRateLimitedError)


def test_most_telling() -> None:
    """Of several hosts' errors the one that came furthest is raised, and names the others."""
    dead = RegistryConnectError("a is dead")
    missing = RegistryNotFoundError("b lacks it")
    refused = RegistryPermissionError("c refuses")
    assert most_telling([dead, missing]) is missing
    assert "a is dead" in str(missing)
    assert most_telling([dead, refused, RegistryNotFoundError("d")]) is refused
    assert most_telling([dead]) is dead
    assert str(dead) == "a is dead"


def test_most_telling_keeps_what_it_carries() -> None:
    """An error with facts instead of words gets the others as a note."""
    wrong: ContainerdError = DigestMismatchError(expected="a", actual="b")
    assert most_telling([RegistryConnectError("dead"), wrong]) is wrong
    assert "dead" in wrong.__notes__[0]
