"""What a namespace holds of a program that was killed: tasks, containers, leases, directories. Finds; removes nothing.

Knows which of it is this package's own: a lease that another client took is not told.
"""

from __future__ import annotations

import attrs

from containerd_py._flows.leasing import OWNER_LABEL
from containerd_py._flows.lost_shims import free_lost_shims
from containerd_py._flows.undoing import Step
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord
from containerd_py.task import Task


@attrs.frozen
class Leftovers:
    """What is there to be undone: handles, records, and steps with what they are about."""

    tasks: list[Task]
    containers: list[ContainerRecord]
    leases: list[tuple[str, Step]]


async def find_leftovers(services: Services) -> Leftovers:
    """Look at everything a namespace has but images and content."""
    await free_lost_shims(services)
    tasks = [Task(services, status.id, pid=status.pid) for status in await services.tasks.list()]
    containers = await services.containers.list()
    # Waiting for the collection: a snapshot whose container came to nothing has only the lease to live by.
    leases = [
        (f"deleting lease {lease.id}", _deleting(services, lease.id))
        for lease in await services.leases.list()
        if OWNER_LABEL in lease.labels
    ]
    return Leftovers(tasks, containers, leases)


def _deleting(services: Services, lease_id: str) -> Step:
    return lambda: services.leases.delete(lease_id, synchronous=True)
