"""A lease around a flow: what it makes is safe from the garbage collection until it is referenced, and then let go."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

import anyio

from containerd_py._flows.undoing import settle_debts, settled, undoing
from containerd_py.errors import ConnectionLostError, InvalidArgumentError, NotFoundError
from containerd_py.labels import GC_EXPIRE
from containerd_py.services.bundle import Services
from containerd_py.types import NO_LABELS, Timestamp

# A lease without expiry would outlive a crash (Go client: 24 h).
LEASE_LIFETIME: Final = timedelta(hours=24)
# A create whose connection was lost may still be at work in the daemon when the undoing looks.
_LATE_PAUSES: Final = (0.0, 0.05, 0.2)
OWNER_LABEL: Final = "containerd_py/owner"  # the pid whose crash orphans the lease, and chance


def new_lease_id() -> str:
    """Return an ID nobody else has: the time, to sort by, and chance."""
    return f"containerd-py-{time.time_ns()}-{secrets.token_urlsafe(6)}"


@asynccontextmanager
async def hold_lease(
    services: Services,
    *,
    id: str | None = None,  # noqa: A002
    expires_in: timedelta | None = LEASE_LIFETIME,
    labels: Mapping[str, str] = NO_LABELS,
    synchronous: bool = False,
) -> AsyncIterator[Services]:
    """Lend services whose every creation belongs to a new lease, deleted on the way out.

    Inside another lease of ours that one is used, and not deleted. `expires_in` bounds its life in case this program
    dies; None lets it live for ever. `synchronous` waits on the way out until what it alone held is collected.

    Raises:
        AlreadyExistsError: A lease of that ID exists; it is left alone.
    """
    if services.lease is not None and id is None:
        yield services
        return
    if expires_in is not None and expires_in <= timedelta(0):
        raise InvalidArgumentError(f"a lease cannot expire in {expires_in}: give a positive duration or None")
    await settle_debts(services.connection)
    lease_id = new_lease_id() if id is None else id
    leased = services.in_scope(lease=lease_id)  # what cannot be a lease's ID is refused here, before there is a lease
    owner = f"{os.getpid()}-{secrets.token_hex(8)}"
    leases = services.in_scope().leases

    pauses: tuple[float, ...] = (0.0,)  # seconds before each look for the lease

    async def delete_ours() -> None:  # a chosen ID may be somebody else's: creating ours then failed
        for pause in pauses:
            await anyio.sleep(pause)
            if id is None:  # nobody else's
                with suppress(NotFoundError):
                    await leases.delete(lease_id, synchronous=synchronous)
                    return
            elif any(lease.id == lease_id and lease.labels.get(OWNER_LABEL) == owner for lease in await leases.list()):
                await leases.delete(lease_id, synchronous=synchronous)
                return

    async with undoing(services.connection) as undo:
        undo.push(f"deleting lease {lease_id}", delete_ours)
        try:
            await settled(lambda: leases.create(lease_id, labels=_lease_labels(labels, expires_in, owner)))
        except ConnectionLostError:
            pauses = _LATE_PAUSES
            raise
        yield leased


def _lease_labels(labels: Mapping[str, str], expires_in: timedelta | None, owner: str) -> dict[str, str]:
    wanted = dict(labels) | {OWNER_LABEL: owner}
    if expires_in is not None:
        nanos = time.time_ns() + round(expires_in.total_seconds() * 1e9)
        wanted.setdefault(GC_EXPIRE, str(Timestamp.from_parts(*divmod(nanos, 10**9))))
    return wanted
