"""Leases keep unreferenced content alive. Knows the Leases service; knows nothing of images."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping
from functools import cached_property

import attrs

from containerd_py._generated.containerd.services.leases.v1 import (
    AddResourceRequest,
    CreateRequest,
    DeleteRequest,
    DeleteResourceRequest,
    LeasesStub,
    ListRequest,
    ListResourcesRequest,
)
from containerd_py._generated.containerd.services.leases.v1 import Lease as WireLease
from containerd_py._generated.containerd.services.leases.v1 import Resource as WireResource
from containerd_py._transport.connection import Rpc
from containerd_py.errors import FailedPreconditionError
from containerd_py.filters import checked_filters
from containerd_py.labels import check_labels
from containerd_py.services.wire import converted, required, time_from_wire
from containerd_py.types import NO_LABELS, Timestamp, frozen_map


@attrs.frozen(kw_only=True)
class Lease:
    """A lease (containerd.services.leases.v1.Lease). Nothing of it can be changed once it exists.

    Besides being a value it knows the service it came from, so that `deleting` takes it as it takes a handle.
    """

    id: str
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    created_at: Timestamp | None = None
    _service: LeasesService | None = attrs.field(default=None, eq=False, repr=False, alias="service")

    async def delete(self, *, synchronous: bool = False) -> None:
        """Delete it (Leases.Delete); `synchronous` waits for a full garbage collection.

        Raises:
            NotFoundError: It was deleted already.
            FailedPreconditionError: It was made here and came from no daemon.
        """
        if self._service is None:
            raise FailedPreconditionError(f"lease {self.id} came from no daemon: delete it by the service")
        await self._service.delete(self.id, synchronous=synchronous)


@attrs.frozen(kw_only=True)
class LeaseResource:
    """What a lease holds: `type` is `content`, `ingests`, `images` (2.0), `snapshots/NAME` or a plugin's own."""

    type: str
    id: str


def _lease_from_wire(value: WireLease | None, service: LeasesService) -> Lease:
    lease = required(value, "the lease")
    return Lease(id=lease.id, labels=lease.labels, created_at=time_from_wire(lease.created_at), service=service)


def _resource_to_wire(resource: LeaseResource) -> WireResource:
    return WireResource(id=resource.id, type=resource.type)


class LeasesService:
    """The Leases service, typed (containerd.services.leases.v1.Leases)."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def _stub(self) -> LeasesStub:
        return self._rpc.stub(LeasesStub)

    async def create(self, id: str, *, labels: Mapping[str, str] = NO_LABELS) -> Lease:  # noqa: A002
        """Create a lease (Leases.Create). The label `containerd.io/gc.expire` (RFC 3339) bounds its life.

        Raises:
            AlreadyExistsError: The ID is taken.
        """
        check_labels(labels)
        reply = await self._stub.create(CreateRequest(id=id, labels=dict(labels)))
        return _lease_from_wire(reply.lease, self)

    async def delete(self, id: str, *, synchronous: bool = False) -> None:  # noqa: A002
        """Delete a lease (Leases.Delete); `synchronous` waits for a full garbage collection.

        Raises:
            NotFoundError: There is no such lease.
        """
        await self._stub.delete(DeleteRequest(id=id, sync=synchronous))

    async def list(self, filters: Iterable[str] = ()) -> list[Lease]:
        """Return the leases that match any of the filters, all without one (Leases.List). Fields: `id`, `labels`."""
        reply = await self._rpc.read(self._stub.list, ListRequest(filters=checked_filters(filters)))
        return await converted(reply.leases, lambda lease: _lease_from_wire(lease, self))

    async def add_resource(self, id: str, resource: LeaseResource) -> None:  # noqa: A002
        """Put a resource under the lease (Leases.AddResource); once more changes nothing."""
        await self._rpc.read(self._stub.add_resource, AddResourceRequest(id=id, resource=_resource_to_wire(resource)))

    async def delete_resource(self, id: str, resource: LeaseResource) -> None:  # noqa: A002
        """Take a resource from the lease (Leases.DeleteResource)."""
        await self._stub.delete_resource(DeleteResourceRequest(id=id, resource=_resource_to_wire(resource)))

    async def list_resources(self, id: str) -> builtins.list[LeaseResource]:  # noqa: A002
        """Return what the lease holds (Leases.ListResources)."""
        reply = await self._rpc.read(self._stub.list_resources, ListResourcesRequest(id=id))
        return await converted(reply.resources, lambda resource: LeaseResource(type=resource.type, id=resource.id))
