"""Waiting for the end of what was killed. Knows what may hold it up, and sets it free."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio import to_thread

from containerd_py.cio.stuck_fifos import release_writers
from containerd_py.services.bundle import Services

KILL_BOUND: Final = 10.0  # seconds a process may take to die of SIGKILL
_PATIENCE: Final = 1.0  # seconds until it is looked for what may hold it up
_SEND_PATIENCE: Final = 3.0


async def sends(services: Services, container_id: str, kill: Callable[[], Awaitable[None]]) -> None:
    """Send a signal to a process of the container, also where its shim is held up and takes none (1.6).

    Raises:
        ContainerdError: What `kill` raises.
    """
    with anyio.move_on_after(_SEND_PATIENCE):  # long: no signal shall come twice because the machine is busy
        await kill()
        return
    await _set_free(services, container_id)
    await kill()


async def dies(services: Services, container_id: str, wait: Callable[[], Awaitable[object]]) -> bool:
    """Wait for the end of a process of the container, `KILL_BOUND` seconds at most; tell whether it came.

    Raises:
        TaskLostError: The daemon can no longer tell.
    """
    for bound in (_PATIENCE, KILL_BOUND - _PATIENCE):
        with anyio.move_on_after(bound):
            await wait()
            return True
        await _set_free(services, container_id)
    return False


async def _set_free(services: Services, container_id: str) -> None:
    """Set a shim free that waits for a program which was killed: it tells no end of the task meanwhile."""
    address, namespace = services.connection.address, services.namespace
    await to_thread.run_sync(release_writers, address, namespace, container_id)
