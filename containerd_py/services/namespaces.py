"""Namespaces: who shares what on one daemon. Knows the Namespaces service."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import attrs

from containerd_py._generated.containerd.services.namespaces.v1 import (
    CreateNamespaceRequest,
    DeleteNamespaceRequest,
    GetNamespaceRequest,
    ListNamespacesRequest,
    NamespacesStub,
    UpdateNamespaceRequest,
)
from containerd_py._generated.containerd.services.namespaces.v1 import Namespace as WireNamespace
from containerd_py._transport.connection import Rpc
from containerd_py._transport.scope import check_identifier
from containerd_py.labels import check_labels
from containerd_py.services.wire import label_mask, mask_to_wire, required
from containerd_py.types import NO_LABELS, frozen_map


@attrs.frozen(kw_only=True)
class Namespace:
    """A namespace (containerd.services.namespaces.v1.Namespace). Its labels may be changed."""

    name: str
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)


def _namespace_from_wire(value: WireNamespace | None) -> Namespace:
    namespace = required(value, "the namespace")
    return Namespace(name=namespace.name, labels=namespace.labels)


class NamespacesService:
    """The Namespaces service, typed (containerd.services.namespaces.v1.Namespaces).

    Its calls name the namespace they are about; the client's own is only where they are made from.
    """

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def _stub(self) -> NamespacesStub:
        return self._rpc.stub(NamespacesStub)

    async def get(self, name: str) -> Namespace:
        """Return a namespace (Namespaces.Get).

        Raises:
            NotFoundError: Nobody has created it or used it yet.
        """
        reply = await self._rpc.read(self._stub.get, GetNamespaceRequest(name=name))
        return _namespace_from_wire(reply.namespace)

    async def list(self) -> list[Namespace]:
        """Return all namespaces (Namespaces.List; the daemon knows no filter here)."""
        reply = await self._rpc.read(self._stub.list, ListNamespacesRequest())
        return [_namespace_from_wire(namespace) for namespace in reply.namespaces]

    async def create(self, name: str, *, labels: Mapping[str, str] = NO_LABELS) -> Namespace:
        """Create a namespace (Namespaces.Create). Writing anything in one creates it as well.

        Raises:
            AlreadyExistsError: It exists.
            InvalidArgumentError: The name is no identifier.
        """
        check_identifier(name, "namespace")
        check_labels(labels)
        request = CreateNamespaceRequest(namespace=WireNamespace(name=name, labels=dict(labels)))
        return _namespace_from_wire((await self._stub.create(request)).namespace)

    async def update(self, name: str, labels: Mapping[str, str], *, replace: bool = False) -> Namespace:
        """Set labels, an empty value removing one; `replace` drops all others (Namespaces.Update)."""
        check_labels(labels)
        request = UpdateNamespaceRequest(
            namespace=WireNamespace(name=name, labels=dict(labels)),
            update_mask=None if replace else mask_to_wire(label_mask(labels)),  # a mask of "labels" is refused
        )
        await self._stub.update(request)
        return await self.get(name)  # the answer is always empty

    async def delete(self, name: str) -> None:
        """Delete an empty namespace (Namespaces.Delete).

        Raises:
            FailedPreconditionError: It still holds something; the message lists what.
            NotFoundError: It does not exist.
        """
        await self._stub.delete(DeleteNamespaceRequest(name=name))
