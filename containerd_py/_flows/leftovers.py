"""What a namespace holds of a program that was killed: tasks, containers, leases, directories. Finds; removes nothing.

Knows which of it is this package's own: a lease that another client took is not told.
"""

from __future__ import annotations

import attrs

from containerd_py._flows.leasing import OWNER_LABEL
from containerd_py._flows.lost_shims import fifo_folders_of_shims, free_lost_shims
from containerd_py._flows.undoing import Step
from containerd_py.cio.config import IOConfig
from containerd_py.cio.fifo_orphans import folders_of
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord
from containerd_py.task import Task


@attrs.frozen
class Leftovers:
    """What is there to be undone: handles, records, and steps with what they are about."""

    tasks: list[Task]
    containers: list[ContainerRecord]
    leases: list[tuple[str, Step]]
    fifo_folders: set[str]


async def find_leftovers(services: Services) -> Leftovers:
    """Look at everything a namespace has but images and content."""
    folders = await fifo_folders_of_shims(services)  # before shims are set free, which end then
    await free_lost_shims(services)
    tasks = []
    for process in await services.tasks.list():
        folders |= folders_of([process.stdin, process.stdout, process.stderr])
        # With its I/O: output that nobody reads any more holds up its end.
        io = IOConfig(terminal=process.terminal, stdin=process.stdin, stdout=process.stdout, stderr=process.stderr)
        tasks.append(Task(services, process.id, pid=process.pid, io=io))
    containers = await services.containers.list()
    # Waiting for the collection: a snapshot whose container came to nothing has only the lease to live by.
    leases = [
        (f"deleting lease {lease.id}", _deleting(services, lease.id))
        for lease in await services.leases.list()
        if OWNER_LABEL in lease.labels
    ]
    return Leftovers(tasks, containers, leases, folders)


def _deleting(services: Services, lease_id: str) -> Step:
    return lambda: services.leases.delete(lease_id, synchronous=True)
