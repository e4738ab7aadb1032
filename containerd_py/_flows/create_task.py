"""A container's task: its root file system's mounts, its I/O, the call that makes the shim. Not yet started."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from containerd_py._flows.prepare_log import prepare_log
from containerd_py._flows.ready_networks import follow_networks, ready_networks
from containerd_py._flows.restarts import is_restarted
from containerd_py._flows.same_host import check_io, require_shared_fifos
from containerd_py._flows.seccomp_refusal import without_seccomp
from containerd_py._flows.specs import spec_of
from containerd_py._flows.undoing import PROCESS_BOUND, settled, undoing
from containerd_py.cio.config import IOConfig
from containerd_py.errors import ContainerdError, FailedPreconditionError, InvalidArgumentError
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord
from containerd_py.task import Task
from containerd_py.types import Descriptor, Mount
from containerd_py.typeurl import TypedValue


async def create_task(
    services: Services,
    record: ContainerRecord,
    *,
    io: IOConfig,
    checkpoint: Descriptor | None = None,
    options: TypedValue | None = None,
    runtime_path: str = "",
    rootfs: list[Mount] | None = None,
    more_rootfs: Sequence[Mount] = (),
) -> Task:
    """Create the task of a container and return it; nothing of it is left when that fails or is cancelled.

    `rootfs` are the mounts of the container's snapshot where the caller knows them already.
    """
    await require_shared_fifos(services, io)
    record = await ready_networks(services, record)
    io = await prepare_log(services, record, io)
    own = await _rootfs(services, record) if rootfs is None else rootfs
    mounts = [*_labelled(record, own), *more_rootfs]
    restarts = is_restarted(record)
    task = Task(services, record.id, io=io, restarts=restarts)

    async def create() -> Task:
        pid = await services.tasks.create(
            record.id,
            rootfs=mounts,
            stdin=io.stdin,
            stdout=io.stdout,
            stderr=io.stderr,
            terminal=io.terminal,
            checkpoint=checkpoint,
            options=options,
            runtime_path=runtime_path,
        )
        return Task(services, record.id, pid=pid, io=io, restarts=restarts)

    async with undoing(services.connection) as undo:
        try:
            with undo.making(f"deleting task {record.id}", lambda: task.delete(force=True), bound=PROCESS_BOUND):
                task = await settled(create)
            await follow_networks(services, record, task.pid)
        except ContainerdError as error:
            if io.lent is not None:
                io.lent.abandon()
            if (refusal := without_seccomp(error, record)) is not None:
                raise refusal from error
            raise
        undo.keep()
    return task


async def _rootfs(services: Services, record: ContainerRecord) -> list[Mount]:
    if not record.snapshot_key:
        return []
    if not record.snapshotter:
        raise InvalidArgumentError(f"container {record.id} has a snapshot and no snapshotter: update its record")
    return await services.snapshotter(record.snapshotter).mounts(record.snapshot_key)


def _labelled(record: ContainerRecord, mounts: list[Mount]) -> list[Mount]:
    """Give the mounts the SELinux label the spec asks for."""
    label = "" if record.spec is None else spec_of(record).get("linux", {}).get("mountLabel", "")
    if not label:
        return mounts
    return [attrs.evolve(mount, options=(*mount.options, f'context="{label}"')) for mount in mounts]


def check_terminal(record: ContainerRecord, io: IOConfig) -> None:
    """Refuse I/O that does not fit the container's spec, which the runtime would only answer with a riddle.

    Raises:
        InvalidArgumentError: This is no I/O at all.
        FailedPreconditionError: One has a terminal and the other has none.
    """
    check_io(io)
    wanted = False if record.spec is None else spec_of(record).get("process", {}).get("terminal", False)
    if wanted != io.terminal:
        has, lacks = ("the container's spec", "the I/O") if wanted else ("the I/O", "the container's spec")
        raise FailedPreconditionError(
            f"{has} has a terminal and {lacks} has none: use terminal=True for both container {record.id} and its I/O"
        )
