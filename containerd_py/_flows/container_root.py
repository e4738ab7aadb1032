"""The root of a container's file tree, as the container sees it. Knows tasks, snapshots and this machine.

While its task lives that is /proc/PID/root, with everything mounted in the container; else its snapshot, mounted where
nobody else sees it, with the directories and files of this machine that its spec mounts.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from containerd_py._completion import run_to_completion
from containerd_py._flows.same_host import require_same_host
from containerd_py._flows.specs import spec_of
from containerd_py.errors import FailedPreconditionError, NotFoundError, UnavailableError
from containerd_py.oci.user_namespaces import HOST_IDS, from_maps, user_namespace_of
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord
from containerd_py.services.tasks import ProcessStatus, TaskState
from containerd_py.trees.binds import binds_of
from containerd_py.trees.failures import typed_errors
from containerd_py.trees.private_mounts import open_mounted
from containerd_py.trees.roots import Root

_LIVING: Final = frozenset({TaskState.CREATED, TaskState.RUNNING, TaskState.PAUSED, TaskState.PAUSING})
_TRIES: Final = 5
_MAP_SIZE: Final = 1 << 16  # bytes; the kernel takes 340 lines at most


@asynccontextmanager
async def open_container_root(services: Services, container_id: str, *, writable: bool) -> AsyncIterator[Root]:
    """Lend the root of a container's tree.

    Raises:
        NotFoundError: There is no such container.
        RemoteDaemonError: The daemon's files are not ours.
        FailedPreconditionError: The container has no files of its own.
        PermissionDeniedError: This user may not look into it.
    """
    record = await services.containers.get(container_id)
    await require_same_host(services, "a container's files are reached")
    opened: list[Root] = []
    try:
        if not await _open_living(services, container_id, opened):
            await _open_resting(services, record, opened, writable=writable)
        yield opened[-1]
    finally:
        for root in opened:
            os.close(root.descriptor)


async def _open_living(services: Services, container_id: str, opened: list[Root]) -> bool:
    """Open the root of a task's process; tell whether there is one that lives."""
    for _ in range(_TRIES):
        status = await _status(services, container_id)
        if status is None or status.state not in _LIVING:
            return False
        await _check_machine(services)
        try:
            await run_to_completion(partial(_open_process_root, status.pid, opened))
        except NotFoundError:
            continue  # it has ended, most likely
        # Only now is it known that the number was that of this process, and not of one that came after it.
        after = await _status(services, container_id)
        if after is not None and (after.pid, after.state in _LIVING) == (status.pid, True):
            return True
        os.close(opened.pop().descriptor)
    raise UnavailableError(f"the task of container {container_id} starts and ends all the time: try again")


async def _status(services: Services, container_id: str) -> ProcessStatus | None:
    try:
        return await services.tasks.get(container_id)
    except NotFoundError:
        return None


async def _check_machine(services: Services) -> None:
    """Refuse to take a process of another machine, or of another PID namespace, for one of this."""
    theirs = (await services.introspection.server()).pidns  # None before containerd 1.7
    if theirs is not None and theirs != os.stat("/proc/self/ns/pid").st_ino:  # noqa: PTH116
        raise FailedPreconditionError(
            "the daemon counts its processes in another PID namespace, or on another machine: files of a running "
            "container can only be reached from there"
        )


def _open_process_root(pid: int, opened: list[Root]) -> None:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    with typed_errors(f"opening the root of process {pid}"):
        process = os.open(f"/proc/{pid}", flags)  # this process for good, whoever gets its number
        try:
            ids = from_maps(_read(process, "uid_map"), _read(process, "gid_map"))
            opened.append(Root(descriptor=os.open("root", flags, dir_fd=process), ids=ids))
        finally:
            os.close(process)


def _read(process: int, name: str) -> str:
    with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)) as file:  # noqa: PTH123  # no path
        return file.read(_MAP_SIZE)


async def _open_resting(services: Services, record: ContainerRecord, opened: list[Root], *, writable: bool) -> None:
    if not record.snapshot_key:
        raise FailedPreconditionError(f"container {record.id} has no snapshot and no task: there are no files")
    mounts = await services.snapshotter(record.snapshotter).mounts(record.snapshot_key)
    ids, binds = HOST_IDS, []
    if record.spec is not None:
        spec = spec_of(record)
        ids, binds = user_namespace_of(spec), binds_of(spec)

    def open_tree() -> None:
        descriptor = open_mounted(mounts, writable=writable, binds=binds, owner=ids.to_host(0, 0))
        opened.append(Root(descriptor=descriptor, ids=ids))

    await run_to_completion(open_tree)
