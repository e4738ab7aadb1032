"""What a daemon holds in a namespace, asked over a plain grpclib channel of our own.

Shares nothing with the code under test but the generated messages, so that a fault there cannot hide a leak here.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import anyio
import attrs
from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from containerd_py._generated.containerd.services.containers.v1 import (
    ContainersStub,
    DeleteContainerRequest,
    ListContainersRequest,
)
from containerd_py._generated.containerd.services.content.v1 import (
    AbortRequest,
    ContentStub,
    DeleteContentRequest,
    ListContentRequest,
    ListStatusesRequest,
)
from containerd_py._generated.containerd.services.images.v1 import DeleteImageRequest, ImagesStub, ListImagesRequest
from containerd_py._generated.containerd.services.introspection.v1 import IntrospectionStub, PluginsRequest
from containerd_py._generated.containerd.services.leases.v1 import (
    CreateRequest,
    DeleteRequest,
    LeasesStub,
    ListRequest,
)
from containerd_py._generated.containerd.services.namespaces.v1 import (
    DeleteNamespaceRequest,
    ListNamespacesRequest,
    NamespacesStub,
)
from containerd_py._generated.containerd.services.sandbox.v1 import StoreDeleteRequest, StoreListRequest, StoreStub
from containerd_py._generated.containerd.services.snapshots.v1 import (
    ListSnapshotsRequest,
    RemoveSnapshotRequest,
    SnapshotsStub,
)
from containerd_py._generated.containerd.services.tasks.v1 import (
    DeleteTaskRequest,
    KillRequest,
    ListTasksRequest,
    ResumeTaskRequest,
    TasksStub,
)

Found = dict[str, dict[str, str]]  # by kind: name -> what else is known of it

COLLECTED_KINDS: Final = frozenset({"content", "ingest", "snapshot"})  # these may wait for the garbage collection
TASK_END_LIMIT: Final = 10.0  # seconds from SIGKILL to a stopped task
_Request = TypeVar("_Request")


@attrs.frozen(kw_only=True)
class Probe:
    """The stubs of one namespace on one channel."""

    namespace: str
    containers: ContainersStub
    content: ContentStub
    images: ImagesStub
    introspection: IntrospectionStub
    leases: LeasesStub
    namespaces: NamespacesStub
    sandboxes: StoreStub
    snapshots: SnapshotsStub
    tasks: TasksStub

    # -- looking ------------------------------------------------------------------------------------------------

    async def list_all(self) -> Found:
        """List everything in the namespace, by kind; kinds of which there is nothing are absent."""
        listers: dict[str, Callable[[], Awaitable[dict[str, str]]]] = {
            "lease": self._list_leases,
            "ingest": self._list_ingests,
            "content": self._list_content,
            "image": self._list_images,
            "snapshot": self._list_snapshots,
            "container": self._list_containers,
            "task": self._list_tasks,
            "sandbox": self._list_sandboxes,
        }
        return {kind: found for kind, lister in listers.items() if (found := await lister())}

    async def list_namespaces(self) -> dict[str, str]:
        listed = await self.namespaces.list(ListNamespacesRequest())
        return {found.name: str(dict(found.labels)) for found in listed.namespaces}

    async def snapshotters(self) -> list[str]:
        """Name the snapshotters that the daemon has loaded."""
        plugins = await self.introspection.plugins(PluginsRequest(filters=["type==io.containerd.snapshotter.v1"]))
        return [plugin.id for plugin in plugins.plugins if plugin.init_err is None]

    async def _list_leases(self) -> dict[str, str]:
        listed = await self.leases.list(ListRequest())
        return {lease.id: str(dict(lease.labels)) for lease in listed.leases}

    async def _list_ingests(self) -> dict[str, str]:
        listed = await self.content.list_statuses(ListStatusesRequest())
        return {status.ref: f"{status.offset} of {status.total} bytes" for status in listed.statuses}

    async def _list_content(self) -> dict[str, str]:
        return {
            info.digest: f"{info.size} bytes {dict(info.labels)}"
            async for page in self.content.list(ListContentRequest())
            for info in page.info
        }

    async def _list_images(self) -> dict[str, str]:
        listed = await self.images.list(ListImagesRequest())
        return {image.name: image.target.digest if image.target else "" for image in listed.images}

    async def _list_snapshots(self) -> dict[str, str]:
        found = {}
        for snapshotter in await self.snapshotters():
            async for page in self.snapshots.list(ListSnapshotsRequest(snapshotter=snapshotter)):
                for info in page.info:
                    labels = f"{info.kind.name} parent={info.parent} {dict(info.labels)}"
                    found[f"{snapshotter} {info.name}"] = labels
        return found

    async def _list_containers(self) -> dict[str, str]:
        listed = await self.containers.list(ListContainersRequest())
        return {container.id: f"{container.image} {dict(container.labels)}" for container in listed.containers}

    async def _list_tasks(self) -> dict[str, str]:
        listed = await self.tasks.list(ListTasksRequest())
        return {_task_id(task.container_id, task.id): f"{task.status.name} pid {task.pid}" for task in listed.tasks}

    async def _list_sandboxes(self) -> dict[str, str]:
        try:
            listed = await self.sandboxes.list(StoreListRequest())
        except GRPCError as error:
            if error.status is Status.UNIMPLEMENTED:  # 1.6
                return {}
            raise
        return {sandbox.sandbox_id: str(dict(sandbox.labels)) for sandbox in listed.list}

    # -- acting -------------------------------------------------------------------------------------------------

    async def collect_garbage(self) -> None:
        """Make the daemon collect garbage now: deleting a lease synchronously does, and waits for it."""
        lease = f"harness-gc-{uuid.uuid4().hex[:12]}"
        await self.leases.create(CreateRequest(id=lease))
        await self.leases.delete(DeleteRequest(id=lease, sync=True))

    async def wipe(self) -> None:
        """Delete everything in the namespace, and the namespace; what cannot be deleted is raised at the end."""
        errors: list[Exception] = []
        for name in await self._list_tasks():
            await _try(errors, self._end_task, name)
        for name in await self._list_containers():
            await _try(errors, self.containers.delete, DeleteContainerRequest(id=name))
        for name in await self._list_sandboxes():
            await _try(errors, self.sandboxes.delete, StoreDeleteRequest(sandbox_id=name))
        for name in await self._list_images():
            await _try(errors, self.images.delete, DeleteImageRequest(name=name))
        for name in await self._list_leases():
            await _try(errors, self.leases.delete, DeleteRequest(id=name))
        for name in await self._list_ingests():
            await _try(errors, self.content.abort, AbortRequest(ref=name))
        await self.collect_garbage()
        await self._remove_snapshots(errors)
        for name in await self._list_content():
            await _try(errors, self.content.delete, DeleteContentRequest(digest=name))
        await self.collect_garbage()
        await _try(errors, self.namespaces.delete, DeleteNamespaceRequest(name=self.namespace))
        if errors:
            raise ExceptionGroup(f"namespace {self.namespace} cannot be wiped", errors)

    async def _end_task(self, container_id: str) -> None:
        """Kill and delete a task, again and again: what state it is in, and hence which call helps, keeps changing."""
        deadline = anyio.current_time() + TASK_END_LIMIT
        while True:
            await self._unless_refused(self.tasks.resume, ResumeTaskRequest(container_id=container_id))
            await self._unless_refused(self.tasks.kill, KillRequest(container_id=container_id, signal=9, all=True))
            try:
                await self.tasks.delete(DeleteTaskRequest(container_id=container_id))
            except GRPCError as error:
                if error.status is Status.NOT_FOUND:
                    return
                if anyio.current_time() > deadline:
                    raise
            else:
                return
            await anyio.sleep(0.02)

    async def _unless_refused(self, act: Callable[[_Request], Awaitable[object]], request: _Request) -> None:
        with contextlib.suppress(GRPCError):
            await act(request)

    async def _remove_snapshots(self, errors: list[Exception]) -> None:
        """Remove children before parents: round by round, as long as a round removes something."""
        left = await self._list_snapshots()
        while left:
            failed: list[Exception] = []
            for name in left:
                snapshotter, _, key = name.partition(" ")
                await _try(failed, self.snapshots.remove, RemoveSnapshotRequest(snapshotter=snapshotter, key=key))
            before, left = left, await self._list_snapshots()
            if len(left) == len(before):
                errors += failed
                return


@asynccontextmanager
async def open_probe(address: str, namespace: str) -> AsyncIterator[Probe]:
    """Connect to the daemon at ``address`` (a path or ``unix://`` address)."""
    task = asyncio.current_task()
    requests = task.cancelling() if task else 0
    window = (1 << 31) - 1
    config = Configuration(http2_connection_window_size=window, http2_stream_window_size=1 << 22)
    channel = Channel(path=address.removeprefix("unix://"), config=config)
    metadata = {"containerd-namespace": namespace}
    try:
        yield Probe(
            namespace=namespace,
            containers=ContainersStub(channel, metadata=metadata),
            content=ContentStub(channel, metadata=metadata),
            images=ImagesStub(channel, metadata=metadata),
            introspection=IntrospectionStub(channel, metadata=metadata),
            leases=LeasesStub(channel, metadata=metadata),
            namespaces=NamespacesStub(channel, metadata=metadata),
            sandboxes=StoreStub(channel, metadata=metadata),
            snapshots=SnapshotsStub(channel, metadata=metadata),
            tasks=TasksStub(channel, metadata=metadata),
        )
    except StreamTerminatedError:
        while task and task.cancelling() > requests:  # bare grpclib cancels its caller when the connection is lost
            task.uncancel()
        raise
    finally:
        channel.close()
        await _let_transport_close()


def leaked(before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]) -> Found:
    """Tell what is in ``after`` and was not in ``before``."""
    new = {
        kind: {name: detail for name, detail in found.items() if name not in before.get(kind, {})}
        for kind, found in after.items()
    }
    return {kind: found for kind, found in new.items() if found}


async def _try(errors: list[Exception], act: Callable[[_Request], Awaitable[object]], request: _Request) -> None:
    try:
        await act(request)
    except GRPCError as error:
        if error.status is not Status.NOT_FOUND:
            error.add_note(str(request))
            errors.append(error)


def _task_id(container_id: str, process_id: str) -> str:
    return container_id or process_id  # a listing fills only the second


async def _let_transport_close() -> None:
    with anyio.CancelScope(shield=True):
        for _ in range(2):
            await asyncio.sleep(0)
