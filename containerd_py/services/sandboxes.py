"""Sandboxes: what groups of containers run in. Knows the sandbox Store and Controller services; runs no pods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Final

import attrs

from containerd_py._generated.containerd.services.sandbox.v1 import (
    ControllerCreateRequest,
    ControllerMetricsRequest,
    ControllerPlatformRequest,
    ControllerShutdownRequest,
    ControllerStartRequest,
    ControllerStatusRequest,
    ControllerStopRequest,
    ControllerStub,
    ControllerUpdateRequest,
    ControllerWaitRequest,
    StoreCreateRequest,
    StoreDeleteRequest,
    StoreGetRequest,
    StoreListRequest,
    StoreStub,
    StoreUpdateRequest,
)
from containerd_py._generated.containerd.types import Sandbox as WireSandbox
from containerd_py._generated.containerd.types import SandboxRuntime
from containerd_py._generated.google.protobuf import Any as WireAny
from containerd_py._transport.connection import Rpc
from containerd_py._transport.scope import check_identifier
from containerd_py.errors import InvalidArgumentError, NotFoundError, TaskLostError, UnknownError
from containerd_py.filters import checked_filters
from containerd_py.labels import check_labels
from containerd_py.services.containers import Runtime
from containerd_py.services.tasks import ExitStatus, MetricSample
from containerd_py.services.wire import (
    any_from_wire,
    any_to_wire,
    converted,
    mounts_to_wire,
    platform_from_wire,
    process_time_from_wire,
    required,
    time_from_wire,
)
from containerd_py.types import NO_LABELS, FrozenMap, Mount, Platform, Timestamp, frozen_map
from containerd_py.typeurl import TypedValue

DEFAULT_SANDBOXER: Final = "shim"  # the one every daemon from 1.7 on has; CRI brings "podsandbox"
_NO_EXTENSIONS: Final[Mapping[str, TypedValue]] = FrozenMap()
# 1.7 does what it was asked, publishes that on a topic without its slash, is refused by itself and answers with this.
_UNPUBLISHED: Final = 'envelope topic "sandboxes/'


def _frozen_extensions(items: Mapping[str, TypedValue]) -> Mapping[str, TypedValue]:
    return FrozenMap(items)


@attrs.frozen(kw_only=True)
class SandboxRecord:
    """A sandbox as the daemon keeps it (containerd.types.Sandbox).

    `labels`, `extensions`, `spec` and the runtime's options may be changed; `id`, the runtime's name and `sandboxer`
    may not; the times are the daemon's. `sandboxer` names the controller that runs it; 1.7 has but one and forgets it.
    """

    id: str
    runtime: Runtime
    spec: TypedValue | None = None
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    extensions: Mapping[str, TypedValue] = attrs.field(default=_NO_EXTENSIONS, converter=_frozen_extensions, hash=False)
    sandboxer: str = DEFAULT_SANDBOXER
    created_at: Timestamp | None = None
    updated_at: Timestamp | None = None


@attrs.frozen(kw_only=True)
class StartedSandbox:
    """A sandbox that was started: the pid its controller gives it, on the daemon's host.

    `address` and `version` are of the shim's task service, where the daemon tells them (2.0).
    """

    id: str
    pid: int
    created_at: Timestamp | None = None
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    address: str = ""
    version: int = 0


@attrs.frozen(kw_only=True)
class SandboxStatus:
    """What a controller tells of a sandbox; `state` and `info` are in the words of its shim.

    Of a sandbox that it does not know, the shim controller says nothing but a time in `exited_at`.
    """

    id: str
    pid: int
    state: str
    info: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    created_at: Timestamp | None = None
    exited_at: Timestamp | None = None
    extra: TypedValue | None = None
    address: str = ""
    version: int = 0


def _record_from_wire(value: WireSandbox | None) -> SandboxRecord:
    sandbox = required(value, "the sandbox")
    runtime = sandbox.runtime or SandboxRuntime()
    return SandboxRecord(
        id=sandbox.sandbox_id,
        runtime=Runtime(name=runtime.name, options=any_from_wire(runtime.options)),
        spec=any_from_wire(sandbox.spec),
        labels=sandbox.labels,
        extensions={
            name: TypedValue(type_url=extension.type_url, value=extension.value)
            for name, extension in sandbox.extensions.items()
        },
        sandboxer=sandbox.sandboxer or DEFAULT_SANDBOXER,
        created_at=time_from_wire(sandbox.created_at),
        updated_at=time_from_wire(sandbox.updated_at),
    )


def _record_to_wire(record: SandboxRecord) -> WireSandbox:
    check_labels(record.labels)
    return WireSandbox(
        sandbox_id=record.id,
        runtime=SandboxRuntime(name=record.runtime.name, options=any_to_wire(record.runtime.options)),
        spec=any_to_wire(record.spec),
        labels=dict(record.labels),
        extensions={
            name: WireAny(type_url=extension.type_url, value=extension.value)
            for name, extension in record.extensions.items()
        },
        sandboxer=record.sandboxer,
    )


class SandboxStore:
    """The Store of sandbox records, typed (containerd.services.sandbox.v1.Store, from containerd 1.7 on)."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def _stub(self) -> StoreStub:
        return self._rpc.stub(StoreStub)

    async def get(self, id: str) -> SandboxRecord:  # noqa: A002
        """Return a sandbox's record (Store.Get).

        Raises:
            NotFoundError: There is none of that ID.
        """
        reply = await self._rpc.read(self._stub.get, StoreGetRequest(sandbox_id=id))
        return _record_from_wire(reply.sandbox)

    async def list(self, filters: Iterable[str] = ()) -> list[SandboxRecord]:
        """Return the records that match any of the filters, all without one (Store.List). Fields: `id`, `labels`."""
        reply = await self._rpc.read(self._stub.list, StoreListRequest(filters=checked_filters(filters)))
        return await converted(reply.list, _record_from_wire)

    async def create(self, record: SandboxRecord) -> SandboxRecord:
        """Create a record (Store.Create). Nothing runs yet.

        Raises:
            AlreadyExistsError: The ID is taken.
            InvalidArgumentError: The ID is no identifier.
        """
        check_identifier(record.id, "sandbox ID")
        reply = await self._stub.create(StoreCreateRequest(sandbox=_record_to_wire(record)))
        return _record_from_wire(reply.sandbox)

    async def update(self, record: SandboxRecord, *, fields: Iterable[str] = ()) -> SandboxRecord:
        """Change a record (Store.Update).

        Without `fields`, everything that may change is replaced. Fields: `labels`, `labels.KEY`, `extensions`,
        `extensions.NAME`, `spec`, `runtime`.

        Raises:
            NotFoundError: There is no such sandbox.
            InvalidArgumentError: A field may not be changed, or the runtime's name would change.
        """
        request = StoreUpdateRequest(sandbox=_record_to_wire(record), fields=[*fields])
        return _record_from_wire((await self._stub.update(request)).sandbox)

    async def delete(self, id: str) -> None:  # noqa: A002
        """Delete a record (Store.Delete). A sandbox that runs is left alone.

        Raises:
            NotFoundError: There is none of that ID.
        """
        try:
            await self._stub.delete(StoreDeleteRequest(sandbox_id=id))
        except UnknownError as error:
            if "bucket not found" not in str(error):  # which is how 1.7 says it
                raise
            raise NotFoundError(f"there is no sandbox {id!r}") from error


class SandboxController:
    """The Controller that runs sandboxes, typed (containerd.services.sandbox.v1.Controller, from containerd 1.7 on).

    `sandboxer` picks the controller; it must be the record's.
    """

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def _stub(self) -> ControllerStub:
        return self._rpc.stub(ControllerStub)

    async def create(
        self,
        record: SandboxRecord,
        *,
        rootfs: Iterable[Mount] = (),
        options: TypedValue | None = None,
        netns_path: str = "",
        annotations: Mapping[str, str] = NO_LABELS,
    ) -> None:
        """Prepare a sandbox whose record is in the store, not yet started (Controller.Create).

        `netns_path` is a network namespace on the daemon's host. 1.7 knows `options` alone.

        Raises:
            AlreadyExistsError: It was created before.
            NotFoundError: The store has no such record (1.7), or the daemon no such sandboxer.
            UnimplementedError: The runtime's shim runs no sandboxes; 2.1 leaves its process behind, out of reach.
        """
        check_identifier(record.id, "sandbox ID")
        request = ControllerCreateRequest(
            sandbox_id=record.id,
            rootfs=mounts_to_wire(rootfs),
            options=any_to_wire(options),
            netns_path=netns_path,
            annotations=dict(annotations),
            sandbox=_record_to_wire(record),
            sandboxer=record.sandboxer,
        )
        try:
            await self._stub.create(request)
        except InvalidArgumentError as error:
            if _UNPUBLISHED not in str(error):
                raise

    async def start(self, id: str, *, sandboxer: str = DEFAULT_SANDBOXER) -> StartedSandbox:  # noqa: A002
        """Start a created sandbox (Controller.Start); one that fails to start is cleared away."""
        try:
            reply = await self._stub.start(ControllerStartRequest(sandbox_id=id, sandboxer=sandboxer))
        except InvalidArgumentError as error:
            if _UNPUBLISHED not in str(error):
                raise
            status = await self.status(id, sandboxer=sandboxer)
            return StartedSandbox(id=id, pid=status.pid, created_at=status.created_at)
        return StartedSandbox(
            id=reply.sandbox_id,
            pid=reply.pid,
            created_at=process_time_from_wire(reply.created_at),
            labels=reply.labels,
            address=reply.address,
            version=reply.version,
        )

    async def platform(self, id: str, *, sandboxer: str = DEFAULT_SANDBOXER) -> Platform:  # noqa: A002
        """Return the platform that the sandbox's containers run on (Controller.Platform).

        Raises:
            NotFoundError: It is not there.
            UnimplementedError: The daemon does not serve it: neither 1.7 nor 2.1 does.
        """
        request = ControllerPlatformRequest(sandbox_id=id, sandboxer=sandboxer)
        reply = await self._rpc.read(self._stub.platform, request)
        return platform_from_wire(required(reply.platform, "the platform"))

    async def stop(self, id: str, *, grace: int = 0, sandboxer: str = DEFAULT_SANDBOXER) -> None:  # noqa: A002
        """Stop a sandbox, leaving `grace` seconds before force is used (Controller.Stop); 0 leaves that to the shim.

        On 2.x one that is not there is stopped as well.
        """
        request = ControllerStopRequest(sandbox_id=id, timeout_secs=grace, sandboxer=sandboxer)
        await self._stub.stop(request)

    async def wait(self, id: str, *, sandboxer: str = DEFAULT_SANDBOXER) -> ExitStatus:  # noqa: A002
        """Wait until a sandbox has ended (Controller.Wait). Any number may wait.

        Raises:
            NotFoundError: It is not there.
            TaskLostError: It has ended, and the daemon cannot say how (1.7).
            ConnectionLostError: The daemon went away; asking again tells what became of it.
        """
        try:
            reply = await self._stub.wait(ControllerWaitRequest(sandbox_id=id, sandboxer=sandboxer))
        except InvalidArgumentError as error:
            if _UNPUBLISHED not in str(error):
                raise
            raise TaskLostError(f"sandbox {id!r} has ended; this daemon cannot say how") from error
        return ExitStatus(code=reply.exit_status, exited_at=process_time_from_wire(reply.exited_at))

    async def status(
        self,
        id: str,  # noqa: A002
        *,
        verbose: bool = False,
        sandboxer: str = DEFAULT_SANDBOXER,
    ) -> SandboxStatus:
        """Return what the controller knows of a sandbox (Controller.Status); `verbose` asks for `info`."""
        request = ControllerStatusRequest(sandbox_id=id, verbose=verbose, sandboxer=sandboxer)
        reply = await self._rpc.read(self._stub.status, request)
        return SandboxStatus(
            id=reply.sandbox_id,
            pid=reply.pid,
            state=reply.state,
            info=reply.info,
            created_at=process_time_from_wire(reply.created_at),
            exited_at=process_time_from_wire(reply.exited_at),
            extra=any_from_wire(reply.extra),
            address=reply.address,
            version=reply.version,
        )

    async def shutdown(self, id: str, *, sandboxer: str = DEFAULT_SANDBOXER) -> None:  # noqa: A002
        """End a sandbox and its shim (Controller.Shutdown). Its record stays.

        Raises:
            NotFoundError: It is not there.
        """
        await self._stub.shutdown(ControllerShutdownRequest(sandbox_id=id, sandboxer=sandboxer))

    async def metrics(self, id: str, *, sandboxer: str = DEFAULT_SANDBOXER) -> MetricSample | None:  # noqa: A002
        """Return a sample of the sandbox's metrics, None if its shim has none (Controller.Metrics).

        Raises:
            NotSupportedError: The daemon is older than containerd 2.0.
        """
        request = ControllerMetricsRequest(sandbox_id=id, sandboxer=sandboxer)
        sample = (await self._rpc.read(self._stub.metrics, request)).metrics
        if sample is None:
            return None
        return MetricSample(id=sample.id, timestamp=time_from_wire(sample.timestamp), data=any_from_wire(sample.data))

    async def update(self, record: SandboxRecord, *, fields: Iterable[str] = ()) -> None:
        """Tell the controller that a sandbox's record has changed in these fields, in all without (Controller.Update).

        Raises:
            NotSupportedError: The daemon is older than containerd 2.0.
        """
        request = ControllerUpdateRequest(
            sandbox_id=record.id, sandboxer=record.sandboxer, sandbox=_record_to_wire(record), fields=[*fields]
        )
        await self._stub.update(request)


class SandboxesService:
    """Sandboxes: their records in `store`, what runs in `controller`."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def store(self) -> SandboxStore:
        """The records."""
        return SandboxStore(self._rpc)

    @cached_property
    def controller(self) -> SandboxController:
        """What runs them."""
        return SandboxController(self._rpc)
