"""A container's networks made ready for a new task: after a reboot they have to be made again, or have moved."""

from __future__ import annotations

from containerd_py._flows.attach_networks import renew_networks
from containerd_py._flows.shared_namespace import follow_shared_namespace, network_names
from containerd_py._flows.state_directory import recorded_state_directory
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord


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
