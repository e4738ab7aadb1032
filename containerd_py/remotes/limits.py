"""How long, how often and how much: the bounds of talking to a registry."""

from __future__ import annotations

from typing import Final

import attrs

MAX_MANIFEST_SIZE: Final = 4 * 1048 * 1048  # bytes; containerd's, odd as it is, so that we accept what `ctr` accepts
MAX_TOKEN_SIZE: Final = 64 * 1024  # bytes of a token service's answer
MAX_ERROR_SIZE: Final = 1024 * 1024  # bytes read of an error's body
MAX_ERROR_SHOWN: Final = 4096  # characters of it shown
MAX_REDIRECTS: Final = 10


@attrs.frozen(kw_only=True)
class RegistryLimits:
    """Patience with registries. Times are in seconds, sizes in bytes.

    `stall_timeout` is how long a registry may send nothing; `min_rate` bytes per second are expected over
    `min_rate_window` seconds of waiting, so that a trickle ends too. Only time spent waiting for the registry counts:
    a daemon slow to take the data is nobody's stall. `resumes` is how often in a row a dropped body is resumed without
    having got further.
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
