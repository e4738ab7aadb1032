"""Tasks and their processes: what runs. Knows the Tasks service; knows nothing of FIFOs or of how a spec is made."""

from __future__ import annotations

import builtins
import enum
from collections.abc import Iterable, Mapping
from functools import cached_property

import attrs

from containerd_py._generated.containerd.services.tasks.v1 import (
    CheckpointTaskRequest,
    CloseIoRequest,
    CreateTaskRequest,
    DeleteProcessRequest,
    DeleteResponse,
    DeleteTaskRequest,
    ExecProcessRequest,
    GetRequest,
    KillRequest,
    ListPidsRequest,
    ListTasksRequest,
    MetricsRequest,
    PauseTaskRequest,
    ResizePtyRequest,
    ResumeTaskRequest,
    StartRequest,
    TasksStub,
    UpdateTaskRequest,
    WaitRequest,
)
from containerd_py._generated.containerd.v1.types import Process as WireProcess
from containerd_py._generated.containerd.v1.types import Status as WireStatus
from containerd_py._transport.connection import Rpc
from containerd_py.filters import checked_filters
from containerd_py.services.wire import (
    any_from_wire,
    any_to_wire,
    converted,
    descriptor_from_wire,
    descriptor_to_wire,
    mounts_to_wire,
    required,
    time_from_wire,
)
from containerd_py.types import NO_LABELS, Descriptor, Mount, Timestamp
from containerd_py.typeurl import TypedValue


class TaskState(enum.StrEnum):
    """What a process is doing."""

    UNKNOWN = "unknown"
    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"
    PAUSED = "paused"
    PAUSING = "pausing"


_STATES = {
    WireStatus.CREATED: TaskState.CREATED,
    WireStatus.RUNNING: TaskState.RUNNING,
    WireStatus.STOPPED: TaskState.STOPPED,
    WireStatus.PAUSED: TaskState.PAUSED,
    WireStatus.PAUSING: TaskState.PAUSING,
}


@attrs.frozen(kw_only=True)
class ExitStatus:
    """How a process ended: its exit code (128 + signal when a signal ended it) and when."""

    code: int
    exited_at: Timestamp | None = None


@attrs.frozen(kw_only=True)
class ProcessStatus:
    """A process as the daemon sees it (containerd.v1.types.Process).

    `id` is the container's ID, or the exec's for an exec; `exit_code` and `exited_at` count once it is stopped. The
    three paths and `terminal` are the I/O it was created with.
    """

    id: str
    container_id: str
    pid: int
    state: TaskState
    exit_code: int
    exited_at: Timestamp | None
    stdin: str
    stdout: str
    stderr: str
    terminal: bool


@attrs.frozen(kw_only=True)
class ProcessInfo:
    """A process found in a container: its pid on the daemon's host, and what the runtime adds."""

    pid: int
    info: TypedValue | None = None


@attrs.frozen(kw_only=True)
class MetricSample:
    """Raw metrics of one task (containerd.types.Metric); `data` is cgroup v1's or v2's message."""

    id: str
    timestamp: Timestamp | None
    data: TypedValue | None


def _process_from_wire(value: WireProcess | None) -> ProcessStatus:
    process = required(value, "the process")
    return ProcessStatus(
        id=process.id,
        container_id=process.container_id,
        pid=process.pid,
        state=_STATES.get(process.status, TaskState.UNKNOWN),
        exit_code=process.exit_status,
        exited_at=time_from_wire(process.exited_at),
        stdin=process.stdin,
        stdout=process.stdout,
        stderr=process.stderr,
        terminal=process.terminal,
    )


def _exit_from_wire(reply: DeleteResponse) -> ExitStatus:
    return ExitStatus(code=reply.exit_status, exited_at=time_from_wire(reply.exited_at))


class TasksService:
    """The Tasks service, typed (containerd.services.tasks.v1.Tasks).

    `exec_id` names an exec of the container; empty means the task's own first process.
    """

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def _stub(self) -> TasksStub:
        return self._rpc.stub(TasksStub)

    async def create(
        self,
        container_id: str,
        *,
        rootfs: Iterable[Mount] = (),
        stdin: str = "",
        stdout: str = "",
        stderr: str = "",
        terminal: bool = False,
        checkpoint: Descriptor | None = None,
        options: TypedValue | None = None,
        runtime_path: str = "",
    ) -> int:
        """Create a container's task, not yet started, and return its pid (Tasks.Create).

        Raises:
            AlreadyExistsError: The container has one.
            NotFoundError: There is no such container.
        """
        request = CreateTaskRequest(
            container_id=container_id,
            rootfs=mounts_to_wire(rootfs),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            terminal=terminal,
            checkpoint=None if checkpoint is None else descriptor_to_wire(checkpoint),
            options=any_to_wire(options),
            runtime_path=runtime_path,
        )
        return (await self._stub.create(request)).pid

    async def start(self, container_id: str, *, exec_id: str = "") -> int:
        """Start a created process and return its pid (Tasks.Start)."""
        return (await self._stub.start(StartRequest(container_id=container_id, exec_id=exec_id))).pid

    async def delete(self, container_id: str) -> ExitStatus:
        """Delete a task that does not run and return how it ended (Tasks.Delete).

        Raises:
            FailedPreconditionError: It runs.
            NotFoundError: There is none.
        """
        return _exit_from_wire(await self._stub.delete(DeleteTaskRequest(container_id=container_id)))

    async def delete_process(self, container_id: str, *, exec_id: str) -> ExitStatus:
        """Delete an exec that does not run and return how it ended (Tasks.DeleteProcess)."""
        request = DeleteProcessRequest(container_id=container_id, exec_id=exec_id)
        return _exit_from_wire(await self._stub.delete_process(request))

    async def get(self, container_id: str, *, exec_id: str = "") -> ProcessStatus:
        """Return a process's status (Tasks.Get).

        Raises:
            NotFoundError: There is none.
        """
        reply = await self._rpc.read(self._stub.get, GetRequest(container_id=container_id, exec_id=exec_id))
        return _process_from_wire(reply.process)

    async def list(self, *, filter: str = "") -> list[ProcessStatus]:  # noqa: A002
        """Return the status of every task of the namespace (Tasks.List)."""
        reply = await self._rpc.read(self._stub.list, ListTasksRequest(filter=filter))
        return await converted(reply.tasks, _process_from_wire)

    async def kill(
        self,
        container_id: str,
        signal: int,
        *,
        exec_id: str = "",
        all: bool = False,  # noqa: A002
    ) -> None:
        """Send a signal to a process, or to all of the container (Tasks.Kill).

        Raises:
            NotFoundError: It has ended, or never was.
        """
        request = KillRequest(container_id=container_id, exec_id=exec_id, signal=signal, all=all)
        await self._stub.kill(request)

    async def exec(
        self,
        container_id: str,
        *,
        exec_id: str,
        spec: TypedValue,
        stdin: str = "",
        stdout: str = "",
        stderr: str = "",
        terminal: bool = False,
    ) -> None:
        """Create another process in a running container, not yet started (Tasks.Exec).

        Raises:
            AlreadyExistsError: The exec ID is taken.
        """
        request = ExecProcessRequest(
            container_id=container_id,
            exec_id=exec_id,
            spec=any_to_wire(spec),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            terminal=terminal,
        )
        await self._stub.exec(request)

    async def resize_pty(self, container_id: str, *, width: int, height: int, exec_id: str = "") -> None:
        """Set a terminal's size in characters (Tasks.ResizePty)."""
        request = ResizePtyRequest(container_id=container_id, exec_id=exec_id, width=width, height=height)
        await self._stub.resize_pty(request)

    async def close_io(self, container_id: str, *, exec_id: str = "", stdin: bool = True) -> None:
        """Let the shim close its own end of stdin, without which the process sees no end of it (Tasks.CloseIO)."""
        await self._stub.close_io(CloseIoRequest(container_id=container_id, exec_id=exec_id, stdin=stdin))

    async def pause(self, container_id: str) -> None:
        """Freeze a task (Tasks.Pause)."""
        await self._stub.pause(PauseTaskRequest(container_id=container_id))

    async def resume(self, container_id: str) -> None:
        """Thaw a task (Tasks.Resume)."""
        await self._stub.resume(ResumeTaskRequest(container_id=container_id))

    async def list_pids(self, container_id: str) -> builtins.list[ProcessInfo]:
        """Return all processes in the container (Tasks.ListPids)."""
        reply = await self._rpc.read(self._stub.list_pids, ListPidsRequest(container_id=container_id))
        return [ProcessInfo(pid=process.pid, info=any_from_wire(process.info)) for process in reply.processes]

    async def checkpoint(
        self, container_id: str, *, parent_checkpoint: str = "", options: TypedValue | None = None
    ) -> builtins.list[Descriptor]:
        """Write a checkpoint of the task into the content store (Tasks.Checkpoint)."""
        request = CheckpointTaskRequest(
            container_id=container_id, parent_checkpoint=parent_checkpoint, options=any_to_wire(options)
        )
        reply = await self._stub.checkpoint(request)
        return [descriptor_from_wire(descriptor) for descriptor in reply.descriptors]

    async def update(
        self, container_id: str, *, resources: TypedValue | None = None, annotations: Mapping[str, str] = NO_LABELS
    ) -> None:
        """Change a task's resource limits (Tasks.Update)."""
        request = UpdateTaskRequest(
            container_id=container_id, resources=any_to_wire(resources), annotations=dict(annotations)
        )
        await self._stub.update(request)

    async def metrics(self, filters: Iterable[str] = ()) -> builtins.list[MetricSample]:
        """Return a sample of every task that matches (Tasks.Metrics). Filter fields: `id`, `namespace`."""
        reply = await self._rpc.read(self._stub.metrics, MetricsRequest(filters=checked_filters(filters)))
        return [
            MetricSample(id=metric.id, timestamp=time_from_wire(metric.timestamp), data=any_from_wire(metric.data))
            for metric in reply.metrics
        ]

    async def wait(self, container_id: str, *, exec_id: str = "") -> ExitStatus:
        """Wait until a process has ended (Tasks.Wait). Any number may wait.

        Raises:
            NotFoundError: There is no such process, or it was deleted.
            ConnectionLostError: The daemon went away; asking again tells what became of it.
        """
        reply = await self._stub.wait(WaitRequest(container_id=container_id, exec_id=exec_id))
        return ExitStatus(code=reply.exit_status, exited_at=time_from_wire(reply.exited_at))
