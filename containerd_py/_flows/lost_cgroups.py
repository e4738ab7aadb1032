"""Cgroups of containers whose task came to nothing. Knows records and shims; what has a process in it stays."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import anyio
from anyio import to_thread

from containerd_py._daemon.cgroups import remove_cgroups
from containerd_py._daemon.leftovers import containers_with_shims
from containerd_py._flows.same_host import is_same_host
from containerd_py._flows.specs import spec_of
from containerd_py.errors import DataLossError, FailedPreconditionError, NotFoundError
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord

_PATIENCE: Final = 2.0  # seconds for processes that were killed a moment ago
_PAUSE: Final = 0.05


def cgroup_of(record: ContainerRecord, namespace: str) -> str:
    """Return the path that a container's spec gives its cgroup, the default one where it can be read from no spec."""
    with suppress(NotFoundError, DataLossError):
        linux: object = spec_of(record).get("linux")
        path = linux.get("cgroupsPath") if isinstance(linux, dict) else None
        if path and isinstance(path, str):
            return path
    return f"/{namespace}/{record.id}"


async def remove_lost_cgroups(services: Services, cgroups: Mapping[str, str]) -> None:
    """Remove the cgroups of containers, given as paths by the containers' IDs, that have no shim on this machine.

    To be called when nothing can make them anew. Those of another machine are not looked for.

    Raises:
        FailedPreconditionError: There are processes in them, even after a moment.
    """
    if not await is_same_host(services):
        return
    namespace = services.namespace
    problems = await to_thread.run_sync(_remove, namespace, cgroups)
    with anyio.move_on_after(_PATIENCE):
        while problems:
            await anyio.sleep(_PAUSE)
            problems = await to_thread.run_sync(_remove, namespace, cgroups)
    if problems:
        raise FailedPreconditionError(f"cgroups of containers are left behind: {'; '.join(problems)}")


def _remove(namespace: str, cgroups: Mapping[str, str]) -> list[str]:
    used = containers_with_shims()
    return remove_cgroups({path for container_id, path in cgroups.items() if (namespace, container_id) not in used})
