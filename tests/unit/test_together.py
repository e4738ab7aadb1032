"""Failures of tasks that work together come out as they are."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from containerd_py._flows.together import Workers, working_together


async def fail(error: Exception) -> None:
    raise error


async def test_a_failing_task_raises_itself() -> None:
    """The error of a task is raised alone, however deep its group is."""
    with pytest.raises(KeyError, match="inner"):
        async with working_together() as group, working_together() as inner:
            inner.start_soon(fail, KeyError("inner"))
            group.start_soon(anyio.sleep_forever)


async def test_the_blocks_own_error_keeps_its_identity() -> None:
    """What the block raises is the very error that comes out, and ends the tasks."""
    error = ValueError("ours")
    with pytest.raises(ValueError, match="ours") as caught:
        async with working_together() as group:
            group.start_soon(anyio.sleep_forever)
            raise error
    assert caught.value is error


async def test_later_failures_become_notes() -> None:
    """A second failure, while the rest is being ended, is told in a note."""

    async def fail_late() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise OSError("late")

    with pytest.raises(KeyError) as caught:
        async with working_together() as group:
            group.start_soon(fail_late)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(fail, KeyError("first"))
    assert any("late" in note for note in caught.value.__notes__)


async def test_a_native_cancellation_stays_counted() -> None:
    """However groups are nested in the workers, `Task.cancel` of the task around them is counted once at the end."""

    async def slow_to_end() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)

    async def nested() -> None:
        async with anyio.create_task_group() as inner:
            inner.start_soon(slow_to_end)
            await anyio.sleep_forever()

    async def flow() -> None:
        async with working_together() as group:
            group.start_soon(nested)
            await anyio.sleep_forever()

    task = asyncio.get_running_loop().create_task(flow())
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert task.cancelling() == 1


async def test_workers_begun_while_all_end_end_too() -> None:
    """A worker that begins another one while it is being cancelled keeps nobody waiting."""

    async def begins_another(group: Workers) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            group.start_soon(anyio.sleep_forever)

    with anyio.fail_after(5):
        async with working_together() as group:
            group.start_soon(begins_another, group)
            await anyio.wait_all_tasks_blocked()
            await group.end()


async def test_cancellation_passes() -> None:
    """Cancelling from outside ends tasks and block without an error."""
    with anyio.move_on_after(0.01) as scope:
        async with working_together() as group:
            group.start_soon(anyio.sleep_forever)
            await anyio.sleep_forever()
    assert scope.cancelled_caught
