"""What a daemon reports: one frozen class per event of containerd's API. Values only; conversion is in `event_wire`."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from containerd_py.services.containers import Runtime
from containerd_py.types import NO_LABELS, Mount, Timestamp, frozen_map
from containerd_py.typeurl import TypedValue

# ── containers, images, content, namespaces, snapshots: records that came, changed or went ──────────────────────────


@attrs.frozen(kw_only=True)
class ContainerCreate:
    """A container record was created (topic `/containers/create`)."""

    id: str
    image: str = ""
    runtime: Runtime | None = None


@attrs.frozen(kw_only=True)
class ContainerUpdate:
    """A container record was changed (topic `/containers/update`); the fields are what it holds now."""

    id: str
    image: str = ""
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    snapshot_key: str = ""


@attrs.frozen(kw_only=True)
class ContainerDelete:
    """A container record was deleted (topic `/containers/delete`)."""

    id: str


@attrs.frozen(kw_only=True)
class ImageCreate:
    """An image record was created (topic `/images/create`)."""

    name: str
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)


@attrs.frozen(kw_only=True)
class ImageUpdate:
    """An image record was changed (topic `/images/update`); `labels` are those it has now."""

    name: str
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)


@attrs.frozen(kw_only=True)
class ImageDelete:
    """An image record was deleted (topic `/images/delete`)."""

    name: str


@attrs.frozen(kw_only=True)
class ContentCreate:
    """A blob was committed (topic `/content/create`, from containerd 2.1 on); `size` is in bytes."""

    digest: str
    size: int = 0


@attrs.frozen(kw_only=True)
class ContentDelete:
    """A blob was deleted on request (topic `/content/delete`); what is collected as garbage is not told."""

    digest: str


@attrs.frozen(kw_only=True)
class NamespaceCreate:
    """A namespace was created on request (topic `/namespaces/create`)."""

    name: str
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)


@attrs.frozen(kw_only=True)
class NamespaceUpdate:
    """A namespace's labels were changed (topic `/namespaces/update`)."""

    name: str
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)


@attrs.frozen(kw_only=True)
class NamespaceDelete:
    """A namespace was deleted (topic `/namespaces/delete`)."""

    name: str


@attrs.frozen(kw_only=True)
class SnapshotPrepare:
    """An active snapshot or a view was created (topic `/snapshot/prepare`); `snapshotter` from containerd 1.7 on."""

    key: str
    parent: str = ""
    snapshotter: str = ""


@attrs.frozen(kw_only=True)
class SnapshotCommit:
    """The active snapshot `key` became the committed one `name` (topic `/snapshot/commit`)."""

    key: str
    name: str = ""
    snapshotter: str = ""


@attrs.frozen(kw_only=True)
class SnapshotRemove:
    """A snapshot was removed (topic `/snapshot/remove`)."""

    key: str
    snapshotter: str = ""


# ── tasks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class TaskIO:
    """Where a task's input and output go, as it was created."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


@attrs.frozen(kw_only=True)
class TaskCreate:
    """A task was created, not yet started (topic `/tasks/create`).

    `bundle` and the mounts of `rootfs` are paths on the daemon's host; `checkpoint` is a digest where it was restored.
    """

    container_id: str
    bundle: str = ""
    rootfs: tuple[Mount, ...] = ()
    io: TaskIO | None = None
    checkpoint: str = ""
    pid: int = 0


@attrs.frozen(kw_only=True)
class TaskStart:
    """A task was started (topic `/tasks/start`)."""

    container_id: str
    pid: int = 0


@attrs.frozen(kw_only=True)
class TaskDelete:
    """A task was deleted after its end (topic `/tasks/delete`); `id` is the exec's where one of them was."""

    container_id: str
    pid: int = 0
    exit_status: int = 0
    exited_at: Timestamp | None = None
    id: str = ""


@attrs.frozen(kw_only=True)
class TaskExit:
    """A process ended (topic `/tasks/exit`): the task itself where `id` is the container's, else the exec `id`."""

    container_id: str
    id: str = ""
    pid: int = 0
    exit_status: int = 0
    exited_at: Timestamp | None = None

    @property
    def is_exec(self) -> bool:
        """Whether an exec ended, not the task."""
        return self.id not in {"", self.container_id}


@attrs.frozen(kw_only=True)
class TaskOOM:
    """The kernel killed in a task because its memory ran out (topic `/tasks/oom`)."""

    container_id: str


@attrs.frozen(kw_only=True)
class TaskExecAdded:
    """An exec was created, not yet started (topic `/tasks/exec-added`)."""

    container_id: str
    exec_id: str = ""


@attrs.frozen(kw_only=True)
class TaskExecStarted:
    """An exec was started (topic `/tasks/exec-started`)."""

    container_id: str
    exec_id: str = ""
    pid: int = 0


@attrs.frozen(kw_only=True)
class TaskPaused:
    """A task was frozen (topic `/tasks/paused`)."""

    container_id: str


@attrs.frozen(kw_only=True)
class TaskResumed:
    """A task was thawed (topic `/tasks/resumed`)."""

    container_id: str


@attrs.frozen(kw_only=True)
class TaskCheckpointed:
    """A checkpoint of a task was written (topic `/tasks/checkpointed`)."""

    container_id: str
    checkpoint: str = ""


# ── sandboxes ───────────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class SandboxCreate:
    """A sandbox was created (topic `/sandboxes/create`, from containerd 2.0 on)."""

    sandbox_id: str


@attrs.frozen(kw_only=True)
class SandboxStart:
    """A sandbox was started (topic `/sandboxes/start`, from containerd 2.0 on)."""

    sandbox_id: str


@attrs.frozen(kw_only=True)
class SandboxExit:
    """A sandbox ended (topic `/sandboxes/exit`, from containerd 2.0 on), told once to each who waits for it."""

    sandbox_id: str
    exit_status: int = 0
    exited_at: Timestamp | None = None


Event = (
    ContainerCreate
    | ContainerUpdate
    | ContainerDelete
    | ImageCreate
    | ImageUpdate
    | ImageDelete
    | ContentCreate
    | ContentDelete
    | NamespaceCreate
    | NamespaceUpdate
    | NamespaceDelete
    | SnapshotPrepare
    | SnapshotCommit
    | SnapshotRemove
    | TaskCreate
    | TaskStart
    | TaskDelete
    | TaskExit
    | TaskOOM
    | TaskExecAdded
    | TaskExecStarted
    | TaskPaused
    | TaskResumed
    | TaskCheckpointed
    | SandboxCreate
    | SandboxStart
    | SandboxExit
)
"""Every event of containerd's API."""


# ── how events come ─────────────────────────────────────────────────────────────────────────────────────────────────


@attrs.frozen(kw_only=True)
class EventsGap:
    """The connection was lost and events may have been missed: made here, in the place where they would have been.

    When it is delivered, the subscription is live again: what is listed from now on, and the events that follow, leave
    nothing out. `reason` says how the connection ended.
    """

    began_at: Timestamp
    ended_at: Timestamp
    reason: str


@attrs.frozen(kw_only=True)
class Envelope:
    """An event, and when, where and on which topic it was published (containerd.types.Envelope).

    An event of a type this package does not know, or that cannot be decoded, is kept as a `TypedValue`. An `EventsGap`
    comes from no daemon: its envelope has neither namespace nor topic.
    """

    timestamp: Timestamp | None
    namespace: str
    topic: str
    event: Event | EventsGap | TypedValue
