"""What a failed transfer means. The daemon says it in words only; this module knows those words and nothing else.

Source: messages of containerd 1.7 and 2.1 (core/remotes, core/transfer, core/content) and of Go's net and TLS packages.
"""

from __future__ import annotations

import re
from typing import Final

from containerd_py.errors import (
    ContainerdError,
    DigestMismatchError,
    FailedPreconditionError,
    NotFoundError,
    RegistryAuthenticationError,
    RegistryError,
    RegistryNotFoundError,
    RegistryPermissionError,
    RegistryRateLimitedError,
    RegistryTLSError,
    RegistryUnavailableError,
    UnavailableError,
    UnpackError,
)

_STATUS: Final = re.compile(r"unexpected status (?:code )?(?:from \S+ request to )?.*?: ?([1-5][0-9][0-9]) ")
_POISONED: Final = re.compile(
    r'failed commit on ref "([^"]+)"(?:.*?unexpected commit digest (\S+), expected ([a-z0-9:]+))?', re.DOTALL
)
_NO_PLATFORM: Final = "no match for platform in manifest"
_NO_UNPACK_PLATFORM: Final = "no unpack platforms defined"
_AUTHENTICATION: Final = (
    "authorization failed",
    "pull access denied",
    "no basic auth credentials",
    "invalid_token",
    "failed to authorize",
)
_TLS: Final = ("x509:", "tls:", "server gave HTTP response to HTTPS client", "certificate")
_NETWORK: Final = (
    "connection refused",
    "connection reset",
    "no such host",
    "i/o timeout",
    "network is unreachable",
    "no route to host",
    "unexpected EOF",
    "TLS handshake timeout",
)
_UNPACK: Final = ("failed to extract layer", "wrong diff id")
_BY_STATUS: Final[dict[int, type[RegistryError]]] = {
    401: RegistryAuthenticationError,
    403: RegistryPermissionError,
    404: RegistryNotFoundError,
}
_TOO_MANY: Final = 429
_SERVER_ERRORS: Final = 500


def poisoned_ingest(error: ContainerdError) -> str | None:
    """Return the ingest whose content the daemon found bad, and keeps: aborting it heals the next attempt."""
    if not isinstance(error, FailedPreconditionError):
        return None
    found = _POISONED.search(str(error))
    return None if found is None else found[1]


def lacks_platform(error: ContainerdError) -> bool:
    """Tell whether the image has nothing for the platform."""
    return isinstance(error, NotFoundError) and _NO_PLATFORM in str(error)


def cannot_unpack(error: ContainerdError) -> bool:
    """Tell whether the daemon is not configured to unpack for that platform or snapshotter."""
    return _NO_UNPACK_PLATFORM in str(error)


def typed_error(error: ContainerdError, host: str) -> ContainerdError:
    """Return the error a client-side pull would have raised for the same reason; `error` itself where none is known."""
    if isinstance(error, UnavailableError | RegistryError):
        return error
    text = str(error)
    made = _bad_content(text) or _unpack_error(text) or _registry_error(error, text, host)
    if made is None:
        return error
    made.__cause__ = error
    return made


def _bad_content(text: str) -> ContainerdError | None:
    found = _POISONED.search(text)
    if found is None or not found[2]:
        return None
    return DigestMismatchError(expected=found[3], actual=found[2], source="the registry")


def _unpack_error(text: str) -> ContainerdError | None:
    return UnpackError(text) if any(words in text for words in _UNPACK) else None


def _registry_error(error: ContainerdError, text: str, host: str) -> ContainerdError | None:
    status = _STATUS.search(text)
    if status is not None:
        return _from_status(int(status[1]), text, host)
    for kind, words in ((RegistryUnavailableError, _NETWORK), (RegistryTLSError, _TLS)):
        if any(word in text for word in words):
            return kind(text, host=host)
    if any(words in text for words in _AUTHENTICATION):  # of failures on the way to a token the way says more
        return RegistryAuthenticationError(text, host=host)
    if isinstance(error, NotFoundError) and not lacks_platform(error):
        return RegistryNotFoundError(text, host=host)
    return None


def _from_status(status: int, text: str, host: str) -> RegistryError:
    if status == _TOO_MANY:
        return RegistryRateLimitedError(text, host=host, status=status)
    kind = _BY_STATUS.get(status, RegistryUnavailableError if status >= _SERVER_ERRORS else RegistryError)
    return kind(text, host=host, status=status)
