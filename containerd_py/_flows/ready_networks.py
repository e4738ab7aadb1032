"""A container's networks made ready for a new task: after a reboot they have to be made again, or have moved."""

from __future__ import annotations

from containerd_py._flows.attach_networks import follow_task, renew_networks
from containerd_py._flows.shared_namespace import follow_shared_namespace, network_names
from containerd_py._flows.state_directory import recorded_state_directory
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord


async def follow_networks(services: Services, record: ContainerRecord, pid: int) -> None:
    """Attach a task that was just created, where its network namespace is its own.

    Raises:
        CNIError: A plugin failed.
    """
    state = recorded_state_directory(services.namespace, record.id, record.labels)
    if state is not None and network_names(record.labels) not in ([], ["none"], ["host"]):
        await follow_task(state.path, state.hosts, pid)


async def ready_networks(services: Services, record: ContainerRecord) -> ContainerRecord:
    """Return the record of a container whose networks are there.

    Raises:
        CNIError: It had to be attached again, and a plugin failed.
        FailedPreconditionError: It shares the network of a container that does not run.
    """
    if network_names(record.labels) in ([], ["none"], ["host"]):
        return record
    state = recorded_state_directory(services.namespace, record.id, record.labels)
    if state is not None:
        await renew_networks(state.path, state.hosts)
    return await follow_shared_namespace(services, record)
