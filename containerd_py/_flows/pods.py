"""Kubernetes' pods as containerd has them: sandboxes and their containers, put together of records, tasks and notes.

Reads only, with calls that change nothing: the kubelet is the one who makes and ends them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from containerd_py._flows import cri_metadata as cri
from containerd_py.errors import NotSupportedError
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord
from containerd_py.services.sandboxes import SandboxRecord
from containerd_py.services.tasks import ProcessStatus, TaskState
from containerd_py.types import NO_LABELS, Timestamp, frozen_map

KUBERNETES_NAMESPACE: Final = "k8s.io"  # containerd's namespace that CRI keeps everything in


@attrs.frozen(kw_only=True)
class PodContainer:
    """A container of a pod.

    `id` is containerd's, `name` the pod specification's; `attempt` counts its restarts. `pid` and `state` are of its
    task: None and UNKNOWN where it has none. `log_path` is a file on the daemon's host, below the pod's folder.
    """

    id: str
    name: str
    image: str = ""
    attempt: int = 0
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    annotations: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    log_path: str = ""
    pid: int | None = None
    state: TaskState = TaskState.UNKNOWN
    created_at: Timestamp | None = None


@attrs.frozen(kw_only=True)
class Pod:
    """A pod of Kubernetes.

    `id` is its sandbox's; `name`, `namespace` and `uid` are Kubernetes'. `addresses` are its IPs, none where it shares
    the host's network; `netns_path` is on the daemon's host. `pid` and `state` are of the sandbox's own process (the
    pause container), None and UNKNOWN where it has none. `containers` come in the order they were made.
    """

    id: str
    name: str
    namespace: str = ""
    uid: str = ""
    attempt: int = 0
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    annotations: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    addresses: tuple[str, ...] = ()
    netns_path: str = ""
    runtime_handler: str = ""
    log_directory: str = ""
    pid: int | None = None
    state: TaskState = TaskState.UNKNOWN
    created_at: Timestamp | None = None
    containers: tuple[PodContainer, ...] = ()


async def list_pods(services: Services, namespace: str) -> list[Pod]:
    """Return the pods of a namespace of containerd, in the order they were made."""
    there = services.in_scope(namespace=namespace)
    records = await there.containers.list()
    tasks = {task.container_id or task.id: task for task in await there.tasks.list()}
    try:
        stored = await there.sandboxes.store.list()
    except NotSupportedError:
        stored = []
    return put_together(records, tasks, stored)


def put_together(
    records: Iterable[ContainerRecord], tasks: Mapping[str, ProcessStatus], stored: Iterable[SandboxRecord]
) -> list[Pod]:
    """Return the pods that these are the parts of. What belongs to no pod is left out."""
    records = sorted(records, key=lambda record: record.created_at or _BEGINNING)
    pods = {record.id: _pod(record, tasks.get(record.id)) for record in records if _kind(record) == "sandbox"}
    for sandbox in stored:  # those of other runtimes than runc have no container
        if sandbox.id not in pods and cri.STORED_NOTES in sandbox.extensions:
            pods[sandbox.id] = _stored_pod(sandbox)
    members: dict[str, list[PodContainer]] = {}
    for record in records:
        if _kind(record) == "container":
            notes = cri.container_notes(record.extensions.get(cri.CONTAINER_NOTES))
            container = _container(record, notes, tasks.get(record.id))
            members.setdefault(notes.sandbox_id or record.sandbox, []).append(container)
    return [
        attrs.evolve(pod, containers=tuple(members.get(pod.id, ())))
        for pod in sorted(pods.values(), key=lambda pod: pod.created_at or _BEGINNING)
    ]


_BEGINNING: Final = Timestamp.from_parts(0, 0)


def _kind(record: ContainerRecord) -> str:
    return record.labels.get(cri.KIND, "")


def _pod(record: ContainerRecord, task: ProcessStatus | None) -> Pod:
    notes = cri.sandbox_notes(record.extensions.get(cri.SANDBOX_NOTES))
    pod = _noted_pod(record.id, notes, record.labels, record.created_at)
    return pod if task is None else attrs.evolve(pod, pid=task.pid or None, state=task.state)


def _stored_pod(sandbox: SandboxRecord) -> Pod:
    notes = cri.sandbox_notes(sandbox.extensions.get(cri.STORED_NOTES))
    return _noted_pod(sandbox.id, notes, sandbox.labels, sandbox.created_at)


def _noted_pod(
    id: str,  # noqa: A002
    notes: cri.SandboxNotes,
    labels: Mapping[str, str],
    created_at: Timestamp | None,
) -> Pod:
    return Pod(
        id=id,
        name=notes.identity.name or labels.get(cri.POD_NAME, ""),
        namespace=notes.identity.namespace or labels.get(cri.POD_NAMESPACE, ""),
        uid=notes.identity.uid or labels.get(cri.POD_UID, ""),
        attempt=notes.identity.attempt,
        labels=notes.labels or labels,
        annotations=notes.annotations,
        addresses=notes.addresses,
        netns_path=notes.netns_path,
        runtime_handler=notes.runtime_handler,
        log_directory=notes.log_directory,
        created_at=created_at,
    )


def _container(record: ContainerRecord, notes: cri.ContainerNotes, task: ProcessStatus | None) -> PodContainer:
    return PodContainer(
        id=record.id,
        name=notes.identity.name or record.labels.get(cri.CONTAINER_NAME, ""),
        image=record.image,
        attempt=notes.identity.attempt,
        labels=record.labels,
        annotations=notes.annotations,
        log_path=notes.log_path,
        pid=None if task is None else task.pid or None,
        state=TaskState.UNKNOWN if task is None else task.state,
        created_at=record.created_at,
    )
