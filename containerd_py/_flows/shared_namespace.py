"""The network namespace of another container, which moves with its task unless it is kept by a mount."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import attrs

from containerd_py._flows.specs import spec_of, spec_to_value
from containerd_py.errors import FailedPreconditionError, NotFoundError
from containerd_py.filters import where
from containerd_py.labels import NERDCTL_NAME, NERDCTL_NETWORKS
from containerd_py.oci.namespace_options import with_linux_namespace
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord

CONTAINER_PREFIX: Final = "container:"


def network_names(labels: Mapping[str, str]) -> list[str]:
    """Return what networks a container is on, by its labels; none where they say nothing that can be read."""
    try:
        names = json.loads(labels.get(NERDCTL_NETWORKS, "[]"))
    except ValueError:
        return []  # another program's affair
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


async def find_container(services: Services, name: str) -> ContainerRecord:
    """Return a container by its ID, else by its name.

    Raises:
        NotFoundError: There is none.
    """
    try:
        return await services.containers.get(name)
    except NotFoundError:
        for record in await services.containers.list([where("labels", NERDCTL_NAME).equals(name)]):
            return record
        raise


async def namespace_path(services: Services, record: ContainerRecord) -> str | None:
    """Return the path of a container's network namespace; None where it is the host's.

    Raises:
        FailedPreconditionError: It has one only while it runs, and it does not.
    """
    namespaces = spec_of(record).get("linux", {}).get("namespaces", [])
    own = next((namespace for namespace in namespaces if namespace["type"] == "network"), None)
    if own is None:
        return None
    if path := own.get("path"):
        return path
    try:
        status = await services.tasks.get(record.id)
    except NotFoundError:
        status = None
    if status is None or not status.pid:
        raise FailedPreconditionError(
            f"container {record.id} does not run: start it before those that share its network"
        )
    return f"/proc/{status.pid}/ns/net"


async def follow_shared_namespace(services: Services, record: ContainerRecord) -> ContainerRecord:
    """Return the record with its network namespace where it is now, if it is another container's.

    Raises:
        NotFoundError: That container has gone.
        FailedPreconditionError: It does not run.
    """
    shared = [name for name in network_names(record.labels) if name.startswith(CONTAINER_PREFIX)]
    if not shared or record.spec is None:
        return record
    other = await find_container(services, shared[0].removeprefix(CONTAINER_PREFIX))
    path = await namespace_path(services, other)
    if path is None or path == await namespace_path(services, record):
        return record
    spec = with_linux_namespace("network", path)(spec_of(record))
    return await services.containers.update(attrs.evolve(record, spec=spec_to_value(spec)), fields=["spec"])
