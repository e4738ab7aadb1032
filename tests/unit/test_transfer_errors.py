"""What the daemon says of a failed transfer becomes the error a pull of our own would have raised."""

from __future__ import annotations

import pytest

from containerd_py import errors
from containerd_py._flows.transfer_errors import cannot_unpack, lacks_platform, poisoned_ingest, typed_error

BAD = "sha256:" + "b" * 64
GOOD = "sha256:" + "a" * 64
COMMIT = f'failed commit on ref "layer-{GOOD}": unexpected commit digest {BAD}, expected {GOOD}'


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("failed to resolve image: unexpected status from HEAD request to http://r/v2/x/manifests/1: 401 Unauthorized",
         errors.RegistryAuthenticationError),
        ("pull access denied, repository does not exist or may require authorization: authorization failed",
         errors.RegistryAuthenticationError),
        ("unexpected status from HEAD request to https://r/v2/x/manifests/latest: 403 Forbidden",
         errors.RegistryPermissionError),
        ("unexpected status from GET request to http://r:5000/v2/x/blobs/sha256:1: 429 Too Many Requests",
         errors.RegistryRateLimitedError),
        ("unexpected status from GET request to http://r/v2/: 503 Service Unavailable",
         errors.RegistryUnavailableError),
        ("unexpected status code https://r/v2/x: 500 Internal Server Error", errors.RegistryUnavailableError),
        ('failed to do request: Head "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
         errors.RegistryUnavailableError),
        ('failed to do request: Head "https://r/v2/": http: server gave HTTP response to HTTPS client',
         errors.RegistryTLSError),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", errors.RegistryTLSError),
        ("failed to extract layer sha256:1: gzip: invalid checksum", errors.UnpackError),
        (COMMIT, errors.DigestMismatchError),
    ],
)  # fmt: skip
def test_known_words_make_typed_errors(message: str, kind: type[errors.ContainerdError]) -> None:
    """Each kind of failure is told by its words; the daemon's own error is the cause."""
    said = errors.UnknownError(message)
    made = typed_error(said, "r")
    assert type(made) is kind
    assert made.__cause__ is said


def test_a_missing_image_is_the_registrys() -> None:
    """NotFound means that the registry lacks it, unless it is the platform that is missing."""
    assert isinstance(
        typed_error(errors.NotFoundError("failed to resolve image: r/x:1"), "r"), errors.RegistryNotFoundError
    )
    missing = errors.NotFoundError("no match for platform in manifest")
    assert lacks_platform(missing)
    assert typed_error(missing, "r") is missing


def test_unknown_words_stay_as_they_are() -> None:
    """An error nobody recognises is raised unchanged, and so is a daemon that went away."""
    for error in (errors.InternalError("bolt: database not open"), errors.ConnectionLostError("connection reset")):
        assert typed_error(error, "r") is error


def test_a_bad_commit_names_its_ingest() -> None:
    """The ingest to abort is told by a failed commit alone."""
    assert poisoned_ingest(errors.FailedPreconditionError(COMMIT)) == f"layer-{GOOD}"
    assert poisoned_ingest(errors.FailedPreconditionError("image has dependents")) is None
    assert poisoned_ingest(errors.UnknownError(COMMIT)) is None


def test_digests_of_a_bad_commit_are_told() -> None:
    """Expected and actual digest come from the daemon's words."""
    made = typed_error(errors.FailedPreconditionError(COMMIT), "r")
    assert isinstance(made, errors.DigestMismatchError)
    assert (made.expected, made.actual) == (GOOD, BAD)


def test_a_daemon_that_cannot_unpack_says_so() -> None:
    """The daemon's refusal to unpack is told from other bad arguments."""
    assert cannot_unpack(errors.InvalidArgumentError("unable to initialize unpacker: no unpack platforms defined"))
    assert not cannot_unpack(errors.InvalidArgumentError("no"))
