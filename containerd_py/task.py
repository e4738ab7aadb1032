"""A container's task: its first process and, with it, everything that runs in it. A handle."""

from __future__ import annotations

import signal as signals
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from containerd_py._flows.checkpoint import checkpoint, checkpoint_name, dump_task
from containerd_py._flows.exec_process import create_exec, load_exec, open_exec, run_exec
from containerd_py._flows.process_table import TopEntry, process_table
from containerd_py._flows.restarts import begin_restarts, halt_restarts_of
from containerd_py._flows.results import CompletedProcess, Input
from containerd_py._flows.specs import resources_to_value, spec_of
from containerd_py._flows.stats import StatsStream, open_stats, sample_metrics
from containerd_py._flows.stop import DEFAULT_GRACE, stop
from containerd_py.cio.config import NULL_IO, IOConfig
from containerd_py.image import Image
from containerd_py.oci.runtime_spec import Resources, Spec
from containerd_py.process import Process
from containerd_py.services.bundle import Services
from containerd_py.services.metrics import Metrics
from containerd_py.services.runc import CheckpointOptions
from containerd_py.services.tasks import ExitStatus, ProcessInfo
from containerd_py.types import NO_LABELS


class Task(Process):
    """What runs of a container. Made by `Container.create_task`, `Container.load_task` and `Client.open_run`."""

    def __init__(
        self,
        services: Services,
        container_id: str,
        *,
        pid: int = 0,
        io: IOConfig = NULL_IO,
        restarts: bool | None = None,
    ) -> None:
        super().__init__(services, container_id, pid=pid, io=io)
        self._restarts = restarts  # whether the daemon starts the container again; None: its record has to be asked

    async def start(self) -> None:
        """Start it (Tasks.Start). The wait for its end is begun before, so that no exit is missed.

        From then on the daemon starts it again where its container has a restart policy.

        Raises:
            ContainerdError: The runtime could not start it; the message has the runtime's words.
        """
        await super().start()
        if self._restarts is not False:
            await begin_restarts(self._services, self._container_id)

    async def delete(self, *, force: bool = False) -> ExitStatus:
        """Delete it and return how it ended; `force` kills it first, and the daemon does not start it again then.

        Output that was not yet read stays readable.

        Raises:
            FailedPreconditionError: It runs and `force` is False.
            NotFoundError: It was deleted already.
        """
        if force and self._restarts is not False and await halt_restarts_of(self._services, self._container_id):
            return await self._present().delete(force=True)
        return await super().delete(force=force)

    def _present(self) -> Task:
        """Return a handle of whatever runs of the container now: the daemon may have started it again meanwhile."""
        return Task(self._services, self._container_id, pid=self._pid, io=self._io, restarts=False)

    async def pause(self) -> None:
        """Freeze all its processes (Tasks.Pause)."""
        await self._services.tasks.pause(self._container_id)

    async def resume(self) -> None:
        """Let its processes go on (Tasks.Resume)."""
        await self._services.tasks.resume(self._container_id)

    async def spec(self) -> Spec:
        """Return its container's OCI runtime spec: what it runs with, unless that was changed since."""
        return spec_of(await self._services.containers.get(self._container_id))

    async def pids(self) -> list[ProcessInfo]:
        """Return all processes in the container (Tasks.ListPids)."""
        return await self._services.tasks.list_pids(self._container_id)

    async def metrics(self) -> Metrics:
        """Return what it uses now: CPU, memory, processes (Tasks.Metrics).

        Raises:
            NotFoundError: It was deleted, or does not run.
        """
        return await sample_metrics(self._services, self._container_id)

    def stats(self, *, interval: float = 1.0) -> AbstractAsyncContextManager[StatsStream]:
        """Lend an iterator over what it uses, with rates, every `interval` seconds until it ends.

        The first value comes after one interval. `oom_killed` of the iterator says, also afterwards, whether the kernel
        killed anything in it for want of memory: events and samples are both watched.

        Raises:
            NotFoundError: It was deleted, or does not run.
            InvalidArgumentError: The interval is not above 0.
        """
        return open_stats(self._services, self._container_id, interval=interval)

    async def top(self) -> list[TopEntry]:
        """Return its processes as a table, read from this machine's /proc (Tasks.ListPids).

        Raises:
            NotFoundError: It was deleted.
            FailedPreconditionError: It does not run, or the daemon is on another machine or in another PID namespace.
        """
        return await process_table(self._services, self._container_id)

    async def update(self, *, resources: Resources, annotations: Mapping[str, str] = NO_LABELS) -> None:
        """Change its resource limits while it runs (Tasks.Update); the container's spec keeps the old ones."""
        value = resources_to_value(resources)
        await self._services.tasks.update(self._container_id, resources=value, annotations=annotations)

    async def checkpoint(
        self,
        ref: str | None = None,
        *,
        exit: bool = False,  # noqa: A002
        open_tcp: bool = False,
        external_unix_sockets: bool = False,
        shell_job: bool = False,
        file_locks: bool = True,
        empty_namespaces: Sequence[str] = (),
        cgroups_mode: str = "",
        work_path: str = "",
    ) -> Image:
        """Save what it does, with its file system and image, as an image that `restore_container` takes; needs criu.

        The same as `Container.checkpoint`, with a name made up where `ref` is not given.
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
        name = checkpoint_name(self._container_id) if ref is None else ref
        return await checkpoint(self._services, self._container_id, name, options=options)

    async def checkpoint_to(
        self,
        image_path: str,
        *,
        exit: bool = False,  # noqa: A002
        open_tcp: bool = False,
        external_unix_sockets: bool = False,
        shell_job: bool = False,
        file_locks: bool = True,
        empty_namespaces: Sequence[str] = (),
        cgroups_mode: str = "",
        work_path: str = "",
    ) -> None:
        """Save what it does into a folder of criu's files on the daemon's host, to be given to `create_task`.

        The options are those of `Container.checkpoint`. The file system is not in it.

        Raises:
            CriuNotFoundError: The daemon's host has no criu.
            CheckpointError: criu could not do it.
            FailedPreconditionError: It does not run.
        """
        options = CheckpointOptions(
            exit=exit,
            open_tcp=open_tcp,
            external_unix_sockets=external_unix_sockets,
            shell_job=shell_job,
            file_locks=file_locks,
            empty_namespaces=tuple(empty_namespaces),
            cgroups_mode=cgroups_mode,
            image_path=image_path,
            work_path=work_path,
        )
        await dump_task(self._services, self._container_id, options=options)

    async def stop(self, *, signal: int | str | None = None, grace: float = DEFAULT_GRACE) -> ExitStatus:
        """Stop and delete it, and return how it ended.

        The signal is the given one, else the image's stop signal, else SIGTERM; after `grace` seconds SIGKILL follows.
        A paused task is resumed first. `grace=0` kills at once. The daemon does not start it again, whatever the
        restart policy, before somebody else does.

        Raises:
            StopTimeoutError: It survived SIGKILL.
        """
        task = self if self._restarts is False else self._present()
        return await stop(self._services, task, signal=signal, grace=grace)

    def open_exec(
        self,
        args: Sequence[str],
        *,
        stdin: bool = False,
        terminal: bool = False,
        io: IOConfig | None = None,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str | None] | Sequence[str] | None = None,
        id: str | None = None,  # noqa: A002
    ) -> AbstractAsyncContextManager[Process]:
        """Lend another process in the container, started on entry; on the way out it is killed and deleted.

        Its output is at `process.stdout` and `process.stderr`, its input, if asked for, at `process.stdin`; with
        `terminal` all output is at `process.stdout`. `io` lends other I/O instead. `user` is looked up in the
        container; `env` is laid over the container's environment.

        Raises:
            InvalidArgumentError: There is no such user, or no command.
            ContainerdError: The runtime could not start it, as for a command that is not there.
        """
        return open_exec(
            self._services,
            self._container_id,
            args,
            stdin=stdin,
            terminal=terminal,
            io=io,
            user=user,
            cwd=cwd,
            env=env,
            id=id,
        )

    async def run_exec(
        self,
        args: Sequence[str],
        *,
        input: Input | None = None,  # noqa: A002
        check: bool = True,
        capture_limit: int | None = None,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str | None] | Sequence[str] | None = None,
        id: str | None = None,  # noqa: A002
    ) -> CompletedProcess:
        """Run another process in the container to its end and return its exit code and output.

        `capture_limit` bounds what is kept of each output, in bytes; the rest is read and dropped.

        Raises:
            ProcessExitError: The exit code is not zero and `check` is True.
        """
        return await run_exec(
            self._services,
            self._container_id,
            args,
            input=input,
            check=check,
            capture_limit=capture_limit,
            user=user,
            cwd=cwd,
            env=env,
            id=id,
        )

    async def create_exec(
        self,
        args: Sequence[str],
        *,
        io: IOConfig = NULL_IO,
        user: str | None = None,
        cwd: str | None = None,
        env: Mapping[str, str | None] | Sequence[str] | None = None,
        id: str | None = None,  # noqa: A002
    ) -> Process:
        """Create another process in the container, not yet started, that stays until it is deleted (Tasks.Exec).

        For one that shall outlive this program; `open_exec` and `run_exec` clean up by themselves. `io` is lent by the
        caller: `open_fifos`, `log_file`, …; one with a terminal gives the process a terminal. The rest is as there.

        Raises:
            AlreadyExistsError: The ID is taken.
            InvalidArgumentError: There is no such user, or no command.
        """
        return await create_exec(self._services, self._container_id, args, io=io, user=user, cwd=cwd, env=env, id=id)

    async def load_exec(self, id: str, io: IOConfig | None = None) -> Process:  # noqa: A002
        """Return another process of the container, whoever created it; `io` lends I/O opened by `attach_fifos`.

        Raises:
            NotFoundError: There is none of that ID.
            RemoteDaemonError: `io` has FIFOs, and the daemon does not see this program's files.
        """
        return await load_exec(self._services, self._container_id, id, io)

    async def kill(self, signal: int | str = signals.SIGTERM, *, all: bool = False) -> None:  # noqa: A002
        """Send its first process a signal, by number or name; `all` sends it to every process (Tasks.Kill).

        Raises:
            NotFoundError: It has ended.
            InvalidArgumentError: There is no such signal.
        """
        await super().kill(signal, all=all)

    async def _delete(self) -> ExitStatus:
        return await self._services.tasks.delete(self._container_id)

    def __repr__(self) -> str:
        return f"<Task {self._container_id} pid={self._pid} namespace={self._services.namespace}>"
