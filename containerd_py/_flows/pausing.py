"""Keeping a container still while its file system or memory is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from containerd_py._flows.undoing import settled, undoing
from containerd_py.errors import ContainerdError, NotFoundError
from containerd_py.services.bundle import Services
from containerd_py.services.tasks import TaskState


@asynccontextmanager
async def paused(services: Services, container_id: str) -> AsyncIterator[None]:
    """Freeze a container's task while the block runs, if it has one that runs; it goes on afterwards in any case."""
    tasks = services.in_scope().tasks

    async def state() -> TaskState | None:
        try:
            return (await tasks.get(container_id)).state
        except NotFoundError:
            return None

    async def resume() -> None:
        if await state() is TaskState.PAUSED:
            await tasks.resume(container_id)

    if await state() is not TaskState.RUNNING:
        yield
        return
    async with undoing(services.connection) as undo:
        undo.push(f"resuming container {container_id}", resume)
        try:
            await settled(partial(tasks.pause, container_id))
        except ContainerdError:
            if await state() is TaskState.RUNNING:
                raise  # else it has ended meanwhile
        yield
