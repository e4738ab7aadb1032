"""Shims that their daemon has forgotten. Knows tasks, and this machine's processes; sees nothing of other machines.

A program killed while its task was being created takes the reader of the task's output with it: the shim waits for one,
and after some seconds the daemon gives the task up, shim and process going on. Until then a reader sets it free.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import anyio
from anyio import to_thread

from containerd_py._daemon.leftovers import RUNC_ROOT, container_of, containers_with_shims, end_shim, find_shims
from containerd_py._flows.same_host import is_same_host
from containerd_py.cio.stuck_fifos import release_writers
from containerd_py.services.bundle import Services

_PATIENCE: Final = 2.0  # seconds for a shim that is about to end, or to be known again
_PAUSE: Final = 0.1
_RUNC_LIMIT: Final = 10.0


async def shims_of(services: Services) -> dict[int, str]:
    """Return the containers of this namespace's shims, known to the daemon or not, by the shims' process IDs."""
    if not await is_same_host(services):
        return {}
    return await to_thread.run_sync(_shims, services.connection.address, services.namespace)


async def free_lost_shims(services: Services) -> None:
    """Set shims free that wait for a program which was killed, so that the daemon knows their tasks."""
    if not await is_same_host(services):
        return
    address, namespace = services.connection.address, services.namespace
    for container_id in set((await _lost(services)).values()):
        await to_thread.run_sync(release_writers, address, namespace, container_id)
    await _until_none_is_lost(services)


async def end_lost_shims(services: Services, containers: Iterable[str]) -> None:
    """Kill the shims, with what runs below them, that the daemon does not know even after a moment.

    Of them, and of `containers` whose shim the daemon has ended without a word to runc, runc is told as well. Shims of
    another machine are not looked for.
    """
    if not await is_same_host(services):
        return
    lost = await _until_none_is_lost(services)
    for shim in lost:
        await to_thread.run_sync(end_shim, shim)
    await _until_none_is_lost(services)  # whom the daemon has sent to clear up after them
    await to_thread.run_sync(_forget_all, services.namespace, {*lost.values(), *containers})


async def _until_none_is_lost(services: Services) -> dict[int, str]:
    lost = await _lost(services)
    with anyio.move_on_after(_PATIENCE):
        while lost:
            await anyio.sleep(_PAUSE)
            lost = await _lost(services)
    return lost


async def _lost(services: Services) -> dict[int, str]:
    """Return the containers of shims that the daemon does not tell of, by the shims' process IDs."""
    shims = await to_thread.run_sync(_shims, services.connection.address, services.namespace)
    if not shims:
        return {}
    known = {status.id for status in await services.tasks.list()}
    return {shim: container_id for shim, container_id in shims.items() if container_id not in known}


def _shims(address: str, namespace: str) -> dict[int, str]:
    found = {shim: container_of(shim) for shim in find_shims(address)}
    return {shim: container_id for shim, (other, container_id) in found.items() if other == namespace and container_id}


def _forget_all(namespace: str, container_ids: set[str]) -> None:
    left = [container_id for container_id in container_ids if (RUNC_ROOT / namespace / container_id).is_dir()]
    used = containers_with_shims() if left else set()
    for container_id in left:
        if (namespace, container_id) not in used:  # by another daemon's task
            _forget(namespace, container_id)


def _forget(namespace: str, container_id: str) -> None:
    """Let runc forget a container whose processes are gone; else its ID could not be used again."""
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["runc", "--root", str(RUNC_ROOT / namespace), "delete", "--force", container_id],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_RUNC_LIMIT,
            check=False,
        )
