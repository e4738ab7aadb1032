"""Which containerd line serves an RPC or knows a field. Knows the released binaries; asks no daemon."""

from __future__ import annotations

from typing import Final

from containerd_py._generated import daemon_support

LINES: Final = daemon_support.LINES
"""The containerd lines this package is tested with, oldest first."""


def first_line(rpc: str) -> str | None:
    """Return the first line that serves an RPC, `"1.7"` for `"/containerd.services.transfer.v1.Transfer/Transfer"`.

    None if no line serves it to clients. A daemon's configuration may still disable what its line serves.
    """
    return daemon_support.RPCS.get(rpc)


def first_line_of_field(message: str, field: str) -> str | None:
    """Return the first line that knows a field of a message, by their names in the API.

    An older daemon ignores the field without an error. None if no line knows the message.
    """
    return daemon_support.FIELDS.get(f"{message}.{field}", daemon_support.MESSAGES.get(message))
