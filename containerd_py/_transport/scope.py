"""What every call is made under: a namespace and perhaps a lease. Immutable; there is no ambient one."""

from __future__ import annotations

import re
from typing import Final

import attrs

from containerd_py.errors import InvalidArgumentError

NAMESPACE_HEADER: Final = "containerd-namespace"
LEASE_HEADER: Final = "containerd-lease"
MAX_IDENTIFIER: Final = 76  # characters (containerd, pkg/identifiers)
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*", re.ASCII)
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]+", re.ASCII)


def check_identifier(value: str, what: str) -> str:
    """Return the identifier if containerd would take it as `what` (a namespace, a container ID).

    Raises:
        InvalidArgumentError: It is empty, longer than 76 characters, or not letters and digits joined by one of `._-`.
    """
    if not _IDENTIFIER.fullmatch(value) or len(value) > MAX_IDENTIFIER:
        raise InvalidArgumentError(
            f"{value!r} cannot be a {what}: use 1 to {MAX_IDENTIFIER} letters and digits, "
            "joined by single '.', '_' or '-'"
        )
    return value


def _checked_namespace(value: str) -> str:
    if value == "version":  # containerd's metadata store keeps its schema version under this name
        raise InvalidArgumentError("a namespace cannot be called 'version': containerd keeps that name for itself")
    return check_identifier(value, "namespace")


def _checked_lease(value: str | None) -> str | None:
    if value is not None and not _HEADER_VALUE.fullmatch(value):
        raise InvalidArgumentError(f"{value!r} cannot be a lease ID: use printable ASCII")
    return value


@attrs.frozen(kw_only=True)
class Scope:
    """A namespace and, inside `hold_lease`, the lease that what is created belongs to."""

    namespace: str = attrs.field(converter=_checked_namespace)
    lease: str | None = attrs.field(default=None, converter=_checked_lease)

    def metadata(self) -> dict[str, str]:
        """Return the gRPC metadata that carries the scope."""
        headers = {NAMESPACE_HEADER: self.namespace}
        if self.lease is not None:
            headers[LEASE_HEADER] = self.lease
        return headers
