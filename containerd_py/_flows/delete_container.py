"""A container removed with all that was made for it: snapshot, directory and files, record, name."""

from __future__ import annotations

from contextlib import suppress

from containerd_py._flows.container_volumes import remove_own_volumes
from containerd_py._flows.name_store import release_name
from containerd_py._flows.restarts import halt_restarts
from containerd_py._flows.state_directory import recorded_state_directory, remove_state_directory
from containerd_py.errors import FailedPreconditionError, NotFoundError
from containerd_py.labels import NERDCTL_NAME
from containerd_py.services.bundle import Services


async def delete_container(services: Services, container_id: str, *, snapshot: bool) -> None:
    """Remove what a container has, then its record; whoever is killed in between leaves a record to go on from."""
    record = await services.containers.get(container_id)
    await halt_restarts(services, record)
    with suppress(NotFoundError):
        status = await services.tasks.get(container_id)
        raise FailedPreconditionError(f"container {container_id} has a task, {status.state}: delete the task first")
    if snapshot and record.snapshot_key:
        with suppress(NotFoundError):
            await services.snapshotter(record.snapshotter).remove(record.snapshot_key)
    state = recorded_state_directory(services.namespace, container_id, record.labels)
    if state is not None:
        await remove_state_directory(state)
    await remove_own_volumes(services, record)
    await services.containers.delete(container_id)
    # Only now, that never two have it; left behind, it is taken for what it is by the next one who wants it.
    if state is not None and (name := record.labels.get(NERDCTL_NAME)):
        await release_name(state, name)
