"""A container: a record, a snapshot and, at times, a task. A handle; everything is asked of the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

import attrs

from containerd_py._flows.checkpoint import Parts, checkpoint
from containerd_py._flows.container_logs import LogLine, open_logs, window
from containerd_py._flows.container_networks import ContainerNetwork, check_networks, container_networks
from containerd_py._flows.create_task import check_terminal, create_task
from containerd_py._flows.delete_container import delete_container
from containerd_py._flows.health import Health, Probe, health_check_of, probe, wait_healthy
from containerd_py._flows.load_image import load_image
from containerd_py._flows.restore_task import RestorePoint, restore_point
from containerd_py._flows.same_host import require_shared_fifos
from containerd_py._flows.specs import spec_of, spec_to_value
from containerd_py._flows.undoing import settled
from containerd_py._flows.update_resources import update_resources
from containerd_py.cio.config import NULL_IO, IOConfig
from containerd_py.container_files import ContainerFiles
from containerd_py.errors import NotFoundError
from containerd_py.image import Image
from containerd_py.labels import NERDCTL_NAME, check_labels
from containerd_py.oci.health_check import HealthCheck
from containerd_py.oci.runtime_spec import Resources, Spec
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord
from containerd_py.services.runc import CheckpointOptions, RuncOptions, ShimOptions, options_value
from containerd_py.task import Task
from containerd_py.types import Mount
from containerd_py.typeurl import TypedValue


class Container(ContainerFiles):
    """A container of the daemon. Made by `Client.create_container`, `load_container` and `list_containers`.

    Handles are equal that have the same ID in one namespace of one daemon.
    """

    def __init__(self, services: Services, id: str) -> None:  # noqa: A002
        super().__init__(services, id)

    @property
    def id(self) -> str:
        """Its name in the namespace."""
        return self._id

    async def record(self) -> ContainerRecord:
        """Return its record (Containers.Get).

        Raises:
            NotFoundError: It was deleted.
        """
        return await self._services.containers.get(self._id)

    async def spec(self) -> Spec:
        """Return its OCI runtime spec; members this package does not know are in it."""
        return spec_of(await self.record())

    async def image(self) -> Image:
        """Return the image it was created from.

        Raises:
            NotFoundError: It was created from none, or that image is gone.
        """
        record = await self.record()
        if not record.image:
            raise NotFoundError(f"container {self._id} was not created from an image")
        return await load_image(self._services, record.image)

    async def name(self) -> str | None:
        """Return what users call it, as nerdctl knows it; None where it has no name."""
        return (await self.record()).labels.get(NERDCTL_NAME)

    async def labels(self) -> Mapping[str, str]:
        """Return its labels."""
        return (await self.record()).labels

    async def set_labels(self, labels: Mapping[str, str]) -> Mapping[str, str]:
        """Set labels, an empty value removing one, leave the others, and return all (Containers.Update).

        Raises:
            InvalidArgumentError: A label is larger than 4,096 bytes.
        """
        check_labels(labels)
        record = attrs.evolve(await self.record(), labels=labels)
        return (await self._services.containers.update(record, fields=[f"labels.{key}" for key in labels])).labels

    async def update(
        self,
        *,
        spec: Spec | None = None,
        image: str | None = None,
        labels: Mapping[str, str] | None = None,
        extensions: Mapping[str, TypedValue] | None = None,
    ) -> ContainerRecord:
        """Replace parts of its record, for its next task, and return the record (Containers.Update).

        A task that runs keeps what it was created with. `labels` replace all there are, those included in which its
        name, directory and stop signal are kept: `set_labels` changes single ones. Extensions are laid over those that
        are there: containerd never takes one away.
        """
        record = await self.record()
        changed = attrs.evolve(
            record,
            spec=record.spec if spec is None else spec_to_value(spec),
            image=record.image if image is None else image,
            labels=record.labels if labels is None else labels,
            extensions=record.extensions if extensions is None else extensions,
        )
        given = {"spec": spec, "image": image, "labels": labels, "extensions": extensions}
        fields = [name for name, value in given.items() if value is not None]
        return await self._services.containers.update(changed, fields=fields) if fields else record

    async def update_resources(self, resources: Resources) -> Spec:
        """Change its resource limits, of the task that runs and in the spec for the next one, and return the spec.

        Limits that `resources` does not mention stay as they are. (`Task.update` changes the running task alone.)

        Raises:
            NotFoundError: It was deleted, or has no spec.
            ContainerdError: The runtime refuses the limits; then the spec keeps the old ones.
        """
        return await update_resources(self._services, self._id, resources)

    async def networks(self) -> Sequence[ContainerNetwork]:
        """Return the networks of plugins it is attached to, with its addresses and published ports, as they were made.

        Raises:
            NotFoundError: It was deleted.
        """
        return await container_networks(self._services, await self.record())

    async def check_networks(self) -> None:
        """Ask the plugins whether it is attached as it was (CNI's CHECK).

        Raises:
            CNIError: Something on the host is not as it was.
            NotFoundError: It was deleted.
        """
        await check_networks(self._services, await self.record())

    async def delete(self, *, snapshot: bool = True) -> None:
        """Detach it from its networks, delete its record, directory, name and, unless `snapshot` is False, snapshot.

        Raises:
            CNIError: It cannot be detached from its networks; everything else is still there: try again.
            FailedPreconditionError: It has a task, even one that has ended: delete that first.
            NotFoundError: It was deleted already.
            OSError: This user may not remove its directory.
        """
        await settled(lambda: delete_container(self._services, self._id, snapshot=snapshot))

    async def create_task(
        self,
        *,
        io: IOConfig = NULL_IO,
        checkpoint: RestorePoint | None = None,
        options: TypedValue | RuncOptions | ShimOptions | None = None,
        runtime_path: str = "",
        rootfs: Sequence[Mount] = (),
    ) -> Task:
        """Create its task, not yet started (Tasks.Create). `io` is lent by the caller: `open_fifos`, `log_file`, ….

        `checkpoint` is what `start` then brings back: the image of a checkpoint, its descriptor of criu's files, or the
        folder of criu's files on the daemon's host (`Task.checkpoint_to`). `options` are the runtime's own, instead of
        the container's; `runtime_path` names another shim binary, absolute on the daemon's host. `rootfs` are mounts of
        its root file system after those of its snapshot, for a container without one.

        Raises:
            InvalidArgumentError: The checkpoint has no task in it.
            AlreadyExistsError: It has a task.
            FailedPreconditionError: Its spec has a terminal and `io` has none, or the other way round.
        """
        record = await self.record()
        check_terminal(record, io)
        start = await restore_point(self._services, record, checkpoint, options_value(options))
        return await create_task(
            self._services,
            record,
            io=io,
            checkpoint=start.files,
            options=start.options,
            runtime_path=runtime_path,
            more_rootfs=rootfs,
        )

    async def checkpoint(
        self,
        ref: str,
        *,
        task: bool = True,
        rw: bool = True,
        image: bool = True,
        runtime: bool = True,
        exit: bool = False,  # noqa: A002
        open_tcp: bool = False,
        external_unix_sockets: bool = False,
        shell_job: bool = False,
        file_locks: bool = True,
        empty_namespaces: Sequence[str] = (),
        cgroups_mode: str = "",
        work_path: str = "",
    ) -> Image:
        """Save the container under a name, as an image that `Client.restore_container` and `create_task` take.

        It has its spec in it and, unless told otherwise, what its `task` does (by criu, which the daemon's host must
        have), what it changed of its file system (`rw`), its `image`, and its `runtime`'s options. Its task is frozen
        meanwhile; with `exit` it is ended by the checkpoint.

        criu needs leave for what it cannot save by itself: `open_tcp` connections, which must still be there at the
        restore; `external_unix_sockets` with their other end outside; a `shell_job`, whose terminal is outside;
        `file_locks`. `empty_namespaces` ("network") are not saved; `cgroups_mode` is criu's (soft, full, strict,
        ignore); `work_path` is where its logs go, on the daemon's host.

        Raises:
            AlreadyExistsError: There is an image of that name.
            CriuNotFoundError: The daemon's host has no criu.
            CheckpointError: criu could not do it.
            FailedPreconditionError: It has no task that runs, and `task` is True.
            NotFoundError: Its image is gone, and `image` is True.
        """
        options = CheckpointOptions(
            exit=exit,
            open_tcp=open_tcp,
            external_unix_sockets=external_unix_sockets,
            shell_job=shell_job,
            file_locks=file_locks,
            empty_namespaces=tuple(empty_namespaces),
            cgroups_mode=cgroups_mode,
            work_path=work_path,
        )
        parts = Parts(task=task, rw=rw, image=image, runtime=runtime)
        return await checkpoint(self._services, self._id, ref, options=options, parts=parts)

    async def load_task(self, io: IOConfig | None = None) -> Task:
        """Return its task, whoever created it; `io` lends I/O opened by `attach_fifos` on its paths.

        Raises:
            NotFoundError: It has none.
            RemoteDaemonError: `io` has FIFOs, and the daemon does not see this program's files.
        """
        status = await self._services.tasks.get(self._id)
        if io is not None:
            await require_shared_fifos(self._services, io)
        recorded = IOConfig(terminal=status.terminal, stdin=status.stdin, stdout=status.stdout, stderr=status.stderr)
        task = Task(self._services, self._id, pid=status.pid, io=recorded if io is None else io)
        await task.attach()
        return task

    async def health_check(self) -> HealthCheck:
        """Return how its health is found out: as given when it was created, or as its image says.

        Raises:
            NotFoundError: There is no such check, or it was deleted.
        """
        return await health_check_of(self._services, self._id)

    async def probe(self, check: HealthCheck | None = None) -> Probe:
        """Run its health check once, or another one; a failure is in what is returned.

        Raises:
            NotFoundError: It has no health check, and none is given.
        """
        return await probe(self._services, self._id, await self.health_check() if check is None else check)

    async def wait_healthy(self, check: HealthCheck | None = None) -> Health:
        """Run its health check, or another one, until it succeeds, the first time at once; tell how it went.

        The start period begins with the call.

        Raises:
            UnhealthyError: The check failed too often, or the task ended before.
            NotFoundError: It has no task, or no health check and none is given.
        """
        return await wait_healthy(self._services, self._id, await self.health_check() if check is None else check)

    def logs(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: datetime | timedelta | None = None,
        until: datetime | timedelta | None = None,
        timestamps: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[LogLine]]:
        """Lend an iterator over the lines of its log, oldest first, where its task was created with `json_file_log`.

        It has all that was written before the call, of earlier tasks too, also when the task is gone. With `follow` it
        goes on until the task has ended and everything is in the log. `tail` asks for so many of the last lines that
        are there already; `since` and `until` for those of a time, or of so long ago; `timestamps` puts each line's
        time and a blank before its data.

        Raises:
            NotFoundError: It has no log.
            RemoteDaemonError: The daemon is on another host, and so is the log.
            InvalidArgumentError: `tail` is negative, a time has no time zone, or lies too far back to be one.
        """
        wanted = window(tail=tail, since=since, until=until, timestamps=timestamps)
        return open_logs(self._services, self._id, wanted, follow=follow)

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, Container) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[str, str, str]:
        return (self._services.connection.address, self._services.namespace, self._id)

    def __repr__(self) -> str:
        return f"<Container {self._id} namespace={self._services.namespace}>"
