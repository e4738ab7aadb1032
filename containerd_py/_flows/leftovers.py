"""What a namespace holds of a program that was killed: tasks, containers, leases, directories. Finds; removes nothing.

Knows which of it is this package's own: a lease that another client took is not told.
"""

from __future__ import annotations

import attrs
from anyio import to_thread

from containerd_py._flows.leasing import OWNER_LABEL
from containerd_py._flows.lost_cgroups import cgroup_of
from containerd_py._flows.lost_shims import free_lost_shims, shims_of
from containerd_py._flows.undoing import Step
from containerd_py.cio.config import IOConfig
from containerd_py.cio.fifo_orphans import folders_of, folders_open_in
from containerd_py.container import Container
from containerd_py.services.bundle import Services
from containerd_py.task import Task


@attrs.frozen
class Leftovers:
    """What is there to be undone: handles, steps with what they are about, paths; of cgroups by containers' IDs."""

    tasks: list[Task]
    containers: list[Container]
    leases: list[tuple[str, Step]]
    fifo_folders: set[str]
    cgroups: dict[str, str]


async def find_leftovers(services: Services) -> Leftovers:
    """Look at everything a namespace has but images and content."""
    shims = await shims_of(services)
    folders = await to_thread.run_sync(folders_open_in, shims)  # before shims are set free, which end then
    await free_lost_shims(services)
    tasks = []
    for process in await services.tasks.list():
        folders |= folders_of([process.stdin, process.stdout, process.stderr])
        # With its I/O: output that nobody reads any more holds up its end.
        io = IOConfig(terminal=process.terminal, stdin=process.stdin, stdout=process.stdout, stderr=process.stderr)
        tasks.append(Task(services, process.id, pid=process.pid, io=io))
    records = await services.containers.list()
    cgroups = {container_id: f"/{services.namespace}/{container_id}" for container_id in shims.values()}
    cgroups |= {record.id: cgroup_of(record, services.namespace) for record in records}
    # Waiting for the collection: a snapshot whose container came to nothing has only the lease to live by.
    leases = [
        (f"deleting lease {lease.id}", _deleting(services, lease.id))
        for lease in await services.leases.list()
        if OWNER_LABEL in lease.labels
    ]
    containers = [Container(services, record.id) for record in records]
    return Leftovers(tasks, containers, leases, folders, cgroups)


def _deleting(services: Services, lease_id: str) -> Step:
    return lambda: services.leases.delete(lease_id, synchronous=True)
