"""All services of one connection and scope in one value: what handles and flows hold instead of the client."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import attrs

from containerd_py._transport.connection import Connection, Rpc, StubClass
from containerd_py._transport.scope import Scope
from containerd_py.services.containers import ContainersService
from containerd_py.services.content import ContentService
from containerd_py.services.diff import DiffService
from containerd_py.services.health import HealthService
from containerd_py.services.images import ImagesService
from containerd_py.services.introspection import IntrospectionService
from containerd_py.services.leases import LeasesService
from containerd_py.services.namespaces import NamespacesService
from containerd_py.services.sandboxes import SandboxesService
from containerd_py.services.snapshots import SnapshotsService
from containerd_py.services.streaming import StreamingService
from containerd_py.services.tasks import TasksService
from containerd_py.services.transfer import TransferService
from containerd_py.services.version import VersionService

if TYPE_CHECKING:
    from containerd_py.services.events import EventsService  # fifty classes: imported when events are asked for

StubT = TypeVar("StubT")


class Services:
    """The typed services of a namespace, each made when first asked for."""

    def __init__(self, rpc: Rpc) -> None:
        self.rpc = rpc

    @property
    def namespace(self) -> str:
        """The namespace all calls are made in."""
        return self.rpc.scope.namespace

    @property
    def lease(self) -> str | None:
        """The lease all calls are made under, if any."""
        return self.rpc.scope.lease

    @property
    def connection(self) -> Connection:
        """The connection all calls go through."""
        return self.rpc.connection

    def in_scope(self, *, namespace: str | None = None, lease: str | None = None) -> Services:
        """Return the services of another scope on the same connection; a lease never moves between namespaces."""
        if namespace is not None:
            return Services(attrs.evolve(self.rpc, scope=Scope(namespace=namespace, lease=lease)))
        return Services(attrs.evolve(self.rpc, scope=attrs.evolve(self.rpc.scope, lease=lease)))

    def stub(self, stub_class: StubClass[StubT]) -> StubT:
        """Make a generated stub that calls in this scope and raises typed errors: the escape hatch."""
        return self.rpc.stub(stub_class)

    @cached_property
    def containers(self) -> ContainersService:
        """Container records."""
        return ContainersService(self.rpc)

    @cached_property
    def content(self) -> ContentService:
        """Blobs and ingests."""
        return ContentService(self.rpc)

    @cached_property
    def diff(self) -> DiffService:
        """Layers applied and computed."""
        return DiffService(self.rpc)

    @cached_property
    def events(self) -> EventsService:
        """What happens on the daemon."""
        from containerd_py.services.events import EventsService

        return EventsService(self.rpc)

    @cached_property
    def health(self) -> HealthService:
        """Whether the daemon serves."""
        return HealthService(self.rpc)

    @cached_property
    def images(self) -> ImagesService:
        """Image records."""
        return ImagesService(self.rpc)

    @cached_property
    def introspection(self) -> IntrospectionService:
        """What the daemon is made of."""
        return IntrospectionService(self.rpc)

    @cached_property
    def leases(self) -> LeasesService:
        """What keeps content alive."""
        return LeasesService(self.rpc)

    @cached_property
    def namespaces(self) -> NamespacesService:
        """The daemon's namespaces."""
        return NamespacesService(self.rpc)

    @cached_property
    def sandboxes(self) -> SandboxesService:
        """Groups of containers."""
        return SandboxesService(self.rpc)

    @cached_property
    def streaming(self) -> StreamingService:
        """Named streams to the daemon."""
        return StreamingService(self.rpc)

    @cached_property
    def tasks(self) -> TasksService:
        """Running processes."""
        return TasksService(self.rpc)

    @cached_property
    def transfer(self) -> TransferService:
        """Transfers the daemon does itself."""
        return TransferService(self.rpc)

    @cached_property
    def version(self) -> VersionService:
        """The daemon's version."""
        return VersionService(self.rpc)

    def snapshotter(self, name: str) -> SnapshotsService:
        """Snapshots of one snapshotter."""
        return SnapshotsService(self.rpc, name)
