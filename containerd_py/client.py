"""The façade root: `connect` and `Client`, whose calls by area are in `_calls`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from containerd_py._calls.archives import ArchiveCalls
from containerd_py._calls.containers import ContainerCalls
from containerd_py._calls.images import ImageCalls
from containerd_py._calls.neighbours import NeighbourCalls
from containerd_py._calls.networks import Networks
from containerd_py._calls.pulls import PullCalls
from containerd_py._calls.snapshots import SnapshotCalls
from containerd_py._calls.volumes import VolumeCalls
from containerd_py._flows.connecting import open_services
from containerd_py._flows.leasing import LEASE_LIFETIME, hold_lease
from containerd_py.cni.settings import NetworkSettings
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainersService
from containerd_py.services.content import ContentService
from containerd_py.services.diff import DiffService
from containerd_py.services.images import ImagesService
from containerd_py.services.introspection import IntrospectionService
from containerd_py.services.leases import LeasesService
from containerd_py.services.namespaces import NamespacesService
from containerd_py.services.sandboxes import SandboxesService
from containerd_py.services.snapshots import SnapshotsService
from containerd_py.services.streaming import StreamingService
from containerd_py.services.tasks import TasksService
from containerd_py.services.transfer import TransferService
from containerd_py.services.version import Version
from containerd_py.types import NO_LABELS

if TYPE_CHECKING:
    from containerd_py.services.events import EventsService


@asynccontextmanager
async def connect(
    address: str | os.PathLike[str] | None = None,
    *,
    namespace: str | None = None,
    data_root: str | os.PathLike[str] | None = None,
    networks: NetworkSettings | None = None,
) -> AsyncIterator[Client]:
    """Connect to a containerd, make sure that it answers, and lend a client of it.

    `address` is a unix socket as "/path" or "unix:///path"; None means `$CONTAINERD_ADDRESS`, else this user's rootless
    containerd, else /run/containerd/containerd.sock. `namespace` None means `$CONTAINERD_NAMESPACE`, else "default".
    `data_root` is where containers' own directories, names and volumes are, on the daemon's host; None means
    `$CONTAINERD_PY_DATA_ROOT`, else nerdctl's, with which they are shared (/var/lib/nerdctl). Nothing is made in it
    until something asks for it. `networks` says where this host has its networks and plugins; None means the usual
    places. After the daemon restarts the client connects again by itself.

    Raises:
        SocketNotFoundError: There is no socket at the address.
        SocketPermissionError: This user may not use the socket.
        DaemonNotListeningError: The socket is there and nobody listens.
        DaemonNotRespondingError: What listens does not answer, or is no containerd.
        InvalidArgumentError: The address or the namespace cannot be one.
    """
    async with open_services(address, namespace=namespace, data_root=data_root, networks=networks) as services:
        yield Client(services)


class Client(PullCalls, ArchiveCalls, ImageCalls, SnapshotCalls, ContainerCalls, VolumeCalls, NeighbourCalls):
    """A daemon, seen from one namespace. Made by `connect`."""

    @property
    def namespace(self) -> str:
        """The namespace everything is done in."""
        return self._services.namespace

    @property
    def services(self) -> Services:
        """All typed services as one value; `services.stub(StubClass)` makes a generated stub."""
        return self._services

    def in_namespace(self, namespace: str) -> Client:
        """Return a client of another namespace on the same connection."""
        return Client(self._services.in_scope(namespace=namespace))

    @asynccontextmanager
    async def hold_lease(
        self,
        *,
        id: str | None = None,  # noqa: A002
        expires_in: timedelta | None = LEASE_LIFETIME,
        labels: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Client]:
        """Lend a client whose every creation belongs to a new lease, deleted on the way out.

        Nothing that lease holds is garbage collected. `expires_in` ends it if this program dies; None lets it live on.
        A client that is leased already lends itself, unless an `id` asks for a lease beside.

        Raises:
            AlreadyExistsError: A lease of that ID exists.
        """
        async with hold_lease(
            self._services, id=id, expires_in=expires_in, labels=NO_LABELS if labels is None else labels
        ) as services:
            yield Client(services)

    async def version(self) -> Version:
        """Return the daemon's version."""
        return await self._services.version.version()

    def supports(self, feature: str) -> bool:
        """Tell whether the daemon serves something: a service such as "transfer", or a plugin as "TYPE.ID"."""
        return feature in self._services.connection.features

    @property
    def networks(self) -> Networks:
        """The networks of this host that containers can be attached to."""
        return Networks(self._services)

    # ── services ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def containers(self) -> ContainersService:
        """Container records."""
        return self._services.containers

    @property
    def content(self) -> ContentService:
        """Blobs and ingests."""
        return self._services.content

    @property
    def diff(self) -> DiffService:
        """Layers applied and computed."""
        return self._services.diff

    @property
    def events(self) -> EventsService:
        """What happens on the daemon."""
        return self._services.events

    @property
    def images(self) -> ImagesService:
        """Image records."""
        return self._services.images

    @property
    def introspection(self) -> IntrospectionService:
        """What the daemon is made of."""
        return self._services.introspection

    @property
    def leases(self) -> LeasesService:
        """What keeps content alive."""
        return self._services.leases

    @property
    def namespaces(self) -> NamespacesService:
        """The daemon's namespaces."""
        return self._services.namespaces

    @property
    def sandboxes(self) -> SandboxesService:
        """Groups of containers."""
        return self._services.sandboxes

    @property
    def streaming(self) -> StreamingService:
        """Named streams to the daemon."""
        return self._services.streaming

    @property
    def tasks(self) -> TasksService:
        """Running processes."""
        return self._services.tasks

    @property
    def transfer(self) -> TransferService:
        """Transfers the daemon does itself."""
        return self._services.transfer

    def snapshotter(self, name: str) -> SnapshotsService:
        """Snapshots of one snapshotter."""
        return self._services.snapshotter(name)

    def __repr__(self) -> str:
        return f"<Client {self._services.connection.address} namespace={self.namespace}>"
