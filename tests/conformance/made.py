"""Tasks made for a test, and processes that ought to be gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from containerd_py import NULL_IO, Client, Image, IOConfig, Task, deleting


@asynccontextmanager
async def created(
    client: Client, image: Image, args: Sequence[str], *, io: IOConfig = NULL_IO, **options
) -> AsyncIterator[Task]:
    """Lend a task that was created and not started."""
    container = await client.create_container(image=image, args=args, terminal=io.terminal, **options)
    async with deleting(container), deleting(await container.create_task(io=io)) as task:
        yield task


async def are_gone(pids: Sequence[int]) -> bool:
    """Tell whether all of the processes have ended, within some seconds."""
    with anyio.move_on_after(20):
        while any(_lives(pid) for pid in pids):
            await anyio.sleep(0.02)
        return True
    return False


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
