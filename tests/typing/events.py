"""Checked by mypy, never run: matching on events narrows them, and no type of event is forgotten in silence."""

from typing import assert_never, assert_type

from containerd_py import (
    Client,
    ContainerCreate,
    ContainerDelete,
    ContainerUpdate,
    ContentCreate,
    ContentDelete,
    Envelope,
    EventsGap,
    ImageCreate,
    ImageDelete,
    ImageUpdate,
    NamespaceCreate,
    NamespaceDelete,
    NamespaceUpdate,
    SandboxCreate,
    SandboxExit,
    SandboxStart,
    SnapshotCommit,
    SnapshotPrepare,
    SnapshotRemove,
    TaskCheckpointed,
    TaskCreate,
    TaskDelete,
    TaskExecAdded,
    TaskExecStarted,
    TaskExit,
    TaskIO,
    TaskOOM,
    TaskPaused,
    TaskResumed,
    TaskStart,
    Timestamp,
    TypedValue,
)


async def watching(client: Client) -> None:
    async with client.events.subscribe("namespace==demo", 'topic~="^/tasks/"') as envelopes:
        async for envelope in envelopes:
            assert_type(envelope, Envelope)
            match envelope.event:
                case TaskExit(container_id=container, exit_status=code, exited_at=when):
                    assert_type(container, str)
                    assert_type(code, int)
                    assert_type(when, Timestamp | None)
                case TaskCreate(io=io):
                    assert_type(io, TaskIO | None)
                case EventsGap(reason=reason):
                    assert_type(reason, str)
                case TypedValue(type_url=name):
                    assert_type(name, str)
                case _:
                    pass


def named(envelope: Envelope) -> str:  # noqa: C901  # one case for each member is the point
    """Name what an event is about. mypy refuses this function if the union has a member that it lacks."""
    match envelope.event:
        case ContainerCreate() | ContainerUpdate() | ContainerDelete():
            return envelope.event.id
        case ImageCreate() | ImageUpdate() | ImageDelete():
            return envelope.event.name
        case NamespaceCreate() | NamespaceUpdate() | NamespaceDelete():
            return envelope.event.name
        case ContentCreate() | ContentDelete():
            return envelope.event.digest
        case SnapshotPrepare() | SnapshotCommit() | SnapshotRemove():
            return envelope.event.key
        case SandboxCreate() | SandboxStart() | SandboxExit():
            return envelope.event.sandbox_id
        case TaskCreate() | TaskStart() | TaskDelete() | TaskExit() | TaskOOM() | TaskPaused() | TaskResumed():
            return envelope.event.container_id
        case TaskExecAdded() | TaskExecStarted() | TaskCheckpointed():
            return envelope.event.container_id
        case EventsGap():
            return envelope.event.reason
        case TypedValue():
            return envelope.event.type_url
        case _:
            assert_never(envelope.event)
