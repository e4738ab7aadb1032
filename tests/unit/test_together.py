"""Failures of tasks that work together come out as they are."""

from __future__ import annotations

import anyio
import pytest

from containerd_py._flows.together import working_together


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


async def test_cancellation_passes() -> None:
    """Cancelling from outside ends tasks and block without an error."""
    with anyio.move_on_after(0.01) as scope:
        async with working_together() as group:
            group.start_soon(anyio.sleep_forever)
            await anyio.sleep_forever()
    assert scope.cancelled_caught
