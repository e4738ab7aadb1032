"""How long, how often and how much: the bounds of talking to a registry."""

from __future__ import annotations

from typing import Any, Final

import attrs

from containerd_py.errors import InvalidArgumentError

MAX_MANIFEST_SIZE: Final = 4 * 1048 * 1048  # bytes; containerd's, odd as it is, so that we accept what `ctr` accepts
MAX_TOKEN_SIZE: Final = 64 * 1024  # bytes of a token service's answer
MAX_ERROR_SIZE: Final = 1024 * 1024  # bytes read of an error's body
MAX_ERROR_SHOWN: Final = 4096  # characters of it shown
MAX_REDIRECTS: Final = 10
MAX_PARALLELISM: Final = 32  # ranges of one blob at once

_MIB: Final = 1024 * 1024


def _at_least(least: int) -> Any:
    def check(_instance: object, attribute: attrs.Attribute[int], value: int | None) -> None:
        if value is not None and value < least:
            raise InvalidArgumentError(f"{attribute.name}={value}: {least} at least")

    return check


def _at_most(most: int) -> Any:
    def check(_instance: object, attribute: attrs.Attribute[int], value: int) -> None:
        if value > most:
            raise InvalidArgumentError(f"{attribute.name}={value}: {most} at most")

    return check


@attrs.frozen(kw_only=True)
class RegistryLimits:
    """Patience with registries. Times are in seconds, sizes in bytes.

    `stall_timeout` is how long a registry may send nothing; `min_rate` bytes per second are expected over
    `min_rate_window` seconds of waiting, so that a trickle ends too. Only time spent waiting for the registry counts:
    a daemon slow to take the data is nobody's stall. `resumes` is how often in a row a dropped body is resumed without
    having got further. All of them hold for uploads too; once a registry has been sent everything it has
    `commit_timeout` to answer, since storing may take it a while.

    `upload_chunk_size` None sends content in one request; else it goes in requests of at most so many bytes.
    `layer_parallelism` fetches large content in so many ranges of `layer_chunk_size` at once, and keeps at most that
    much in memory for each layer; 1 fetches it in one request, as is fastest unless each connection is slow.
    Listings end in an error after `max_pages` or `max_listed` names.
    """

    connect_timeout: float = 10.0
    stall_timeout: float = 30.0
    min_rate: int = 1024
    min_rate_window: float = 60.0
    attempts: int = 5
    resumes: int = 3
    first_backoff: float = 0.25
    max_backoff: float = 10.0
    max_retry_after: float = 60.0
    max_manifest_size: int = MAX_MANIFEST_SIZE
    commit_timeout: float = 300.0
    upload_chunk_size: int | None = attrs.field(default=None, validator=_at_least(1))
    layer_parallelism: int = attrs.field(default=1, validator=[_at_least(1), _at_most(MAX_PARALLELISM)])
    layer_chunk_size: int = attrs.field(default=8 * _MIB, validator=_at_least(64 * 1024))
    max_pages: int = attrs.field(default=1000, validator=_at_least(1))
    max_listed: int = attrs.field(default=100_000, validator=_at_least(1))
