"""Container records: what a task is made from. Knows the Containers service; knows nothing of running processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Final

import attrs

from containerd_py._generated.containerd.services.containers.v1 import Container as WireContainer
from containerd_py._generated.containerd.services.containers.v1 import (
    ContainerRuntime,
    ContainersStub,
    CreateContainerRequest,
    DeleteContainerRequest,
    GetContainerRequest,
    ListContainerMessage,
    ListContainersRequest,
    ListContainersResponse,
    UpdateContainerRequest,
)
from containerd_py._generated.google.protobuf import Any as WireAny
from containerd_py._transport.connection import Rpc
from containerd_py._transport.scope import check_identifier
from containerd_py.errors import ResourceExhaustedError
from containerd_py.filters import checked_filters
from containerd_py.labels import check_labels
from containerd_py.services.runc import options_value
from containerd_py.services.wire import (
    any_from_bytes,
    any_from_wire,
    any_to_wire,
    mask_to_wire,
    remembered,
    required,
    time_from_bytes,
    typed_from_any,
)
from containerd_py.types import NO_LABELS, FrozenMap, Timestamp, frozen_map
from containerd_py.typeurl import TypedValue

LIST_ROUTE: Final = "/containerd.services.containers.v1.Containers/List"
STREAM_ROUTE: Final = "/containerd.services.containers.v1.Containers/ListStream"
_NO_EXTENSIONS: Final[Mapping[str, TypedValue]] = FrozenMap()


def _frozen_extensions(items: Mapping[str, TypedValue]) -> Mapping[str, TypedValue]:
    return FrozenMap(items) if items else _NO_EXTENSIONS


@attrs.frozen(kw_only=True)
class Runtime:
    """The runtime that runs a container, and options of its own: `RuncOptions`, `ShimOptions`, or any value it reads.

    `name` is "io.containerd.runc.v2" and its like, which names the binary containerd-shim-runc-v2 in the daemon's PATH,
    or the binary's own absolute path.
    """

    name: str
    options: TypedValue | None = attrs.field(default=None, converter=options_value)


@attrs.frozen(kw_only=True)
class ContainerRecord:
    """A container as the daemon keeps it (containerd.services.containers.v1.Container).

    `labels`, `image`, `spec`, `snapshot_key` and `extensions` may be changed; `id`, `runtime`, `snapshotter` and
    `sandbox` may not; the times are the daemon's.
    """

    id: str
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    image: str = ""
    runtime: Runtime
    spec: TypedValue | None = None
    snapshotter: str = ""
    snapshot_key: str = ""
    extensions: Mapping[str, TypedValue] = attrs.field(default=_NO_EXTENSIONS, converter=_frozen_extensions, hash=False)
    sandbox: str = ""
    created_at: Timestamp | None = None
    updated_at: Timestamp | None = None


@remembered  # there are few, and containers by the thousand
def _runtime(data: bytes) -> Runtime:
    runtime = ContainerRuntime.parse(data)
    return Runtime(name=runtime.name, options=any_from_wire(runtime.options))


def _record(data: bytes, begin: int, end: int) -> ContainerRecord:
    (
        id,  # noqa: A001
        labels,
        image,
        runtime,
        spec,
        snapshotter,
        snapshot_key,
        created_at,
        updated_at,
        extensions,
        sandbox,
    ) = WireContainer.values(data, begin, end)
    return ContainerRecord(
        id=id,
        labels=labels,
        image=image,
        runtime=_runtime(runtime or b""),
        spec=any_from_bytes(spec),
        snapshotter=snapshotter,
        snapshot_key=snapshot_key,
        extensions={name: typed_from_any(extension) for name, extension in extensions.items()} if extensions else {},
        sandbox=sandbox,
        created_at=time_from_bytes(created_at),
        updated_at=time_from_bytes(updated_at),
    )


def _record_from_wire(value: WireContainer | None) -> ContainerRecord:
    data = bytes(required(value, "the container"))
    return _record(data, 0, len(data))


def _record_to_wire(record: ContainerRecord) -> WireContainer:
    check_labels(record.labels)
    return WireContainer(
        id=record.id,
        labels=dict(record.labels),
        image=record.image,
        runtime=ContainerRuntime(name=record.runtime.name, options=any_to_wire(record.runtime.options)),
        spec=any_to_wire(record.spec),
        snapshotter=record.snapshotter,
        snapshot_key=record.snapshot_key,
        extensions={
            name: WireAny(type_url=extension.type_url, value=extension.value)
            for name, extension in record.extensions.items()
        },
        sandbox=record.sandbox,
    )


class ContainersService:
    """The Containers service, typed (containerd.services.containers.v1.Containers)."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def _stub(self) -> ContainersStub:
        return self._rpc.stub(ContainersStub)

    async def get(self, id: str) -> ContainerRecord:  # noqa: A002
        """Return a container's record (Containers.Get).

        Raises:
            NotFoundError: There is none of that ID.
        """
        reply = await self._rpc.read(self._stub.get, GetContainerRequest(id=id))
        return _record_from_wire(reply.container)

    @asynccontextmanager
    async def open_list(self, filters: Iterable[str] = ()) -> AsyncIterator[AsyncIterator[ContainerRecord]]:
        """Lend an iterator over records as the daemon finds them (Containers.ListStream)."""
        request = ListContainersRequest(filters=checked_filters(filters))
        async with self._rpc.entries(STREAM_ROUTE, request, ListContainerMessage, _record) as found:
            yield (record async for records in found for record in records)

    async def list(self, filters: Iterable[str] = ()) -> list[ContainerRecord]:
        """Return the records that match any of the filters, all without one (Containers.List).

        More than one message holds, 16 MiB, come as a stream instead (Containers.ListStream). Filter fields: `id`,
        `runtime.name`, `image`, `labels`.
        """
        request = ListContainersRequest(filters=checked_filters(filters))
        try:
            # One message for all takes the daemon and us a fraction of the time that one for each takes.
            return await self._rpc.list(LIST_ROUTE, request, ListContainersResponse, _record, is_stream=False)
        except ResourceExhaustedError:
            return await self._rpc.list(STREAM_ROUTE, request, ListContainerMessage, _record)

    async def create(self, record: ContainerRecord) -> ContainerRecord:
        """Create a record (Containers.Create).

        Raises:
            AlreadyExistsError: The ID is taken.
            InvalidArgumentError: The ID is no identifier, or a part is missing.
        """
        check_identifier(record.id, "container ID")
        reply = await self._stub.create(CreateContainerRequest(container=_record_to_wire(record)))
        return _record_from_wire(reply.container)

    async def update(self, record: ContainerRecord, *, fields: Iterable[str] | None = None) -> ContainerRecord:
        """Change a record (Containers.Update).

        Without `fields`, everything that may change is replaced. Fields: `labels`, `labels.KEY` (an empty value removes
        it), `spec`, `extensions`, `extensions.NAME`, `image`, `snapshotkey`.

        Raises:
            NotFoundError: There is no such container.
            InvalidArgumentError: The snapshotter or runtime would change.
        """
        request = UpdateContainerRequest(container=_record_to_wire(record), update_mask=mask_to_wire(fields))
        return _record_from_wire((await self._stub.update(request)).container)

    async def delete(self, id: str) -> None:  # noqa: A002
        """Delete a record (Containers.Delete). A snapshot or task it names is left alone.

        Raises:
            NotFoundError: There is none of that ID.
        """
        await self._stub.delete(DeleteContainerRequest(id=id))
