"""Tasks whose shim waits for a program that was killed between asking for an exec and reading from it."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, ExitStatus, Image, Task, deleting
from containerd_py._flows.specs import process_to_value

SLEEP = ["/bin/sleep", "1000"]


async def start_and_die(client: Client, container_id: str, exec_id: str, folder: Path) -> None:
    """Do what a program does that is killed before it has opened its FIFOs again: nobody reads from them."""
    for name in ("stdout", "stderr"):
        os.mkfifo(folder / name)
    process = {"args": ["/bin/true"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    await client.tasks.exec(
        container_id,
        exec_id=exec_id,
        spec=process_to_value(process),
        stdout=str(folder / "stdout"),
        stderr=str(folder / "stderr"),
    )
    with anyio.move_on_after(0.5) as scope:
        await client.tasks.start(container_id, exec_id=exec_id)
    assert scope.cancelled_caught


async def test_the_task_can_be_deleted(client: Client, busybox: Image, tmp_path: Path):
    """The shim tells no end of the task until the exec has started: it is set free, and the task ends in time."""
    await check_ending(client, busybox, tmp_path, lambda task: task.delete(force=True))


@pytest.mark.lines("2.1")
async def test_the_task_can_be_stopped(client: Client, busybox: Image, tmp_path: Path):
    """Stopping does the same."""
    await check_ending(client, busybox, tmp_path, lambda task: task.stop(grace=0.1))


async def check_ending(client: Client, busybox: Image, tmp_path: Path, end: Callable[[Task], Awaitable[ExitStatus]]):
    """Let a task get stuck, and see it end."""
    async with deleting(await client.create_container(image=busybox, args=SLEEP)) as container:
        task = await container.create_task()
        await task.start()
        await start_and_die(client, container.id, "stuck", tmp_path)
        with anyio.fail_after(8):
            loaded = await container.load_task()
            status = await end(loaded)
        assert status.code == 137
        assert await client.tasks.list() == []
