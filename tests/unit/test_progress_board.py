"""Progress waits for its reader without growing and without losing the last word."""

from __future__ import annotations

import anyio

from containerd_py._flows.progress_board import ProgressBoard
from containerd_py.progress import Progress


async def test_a_slow_reader_gets_the_newest_of_each() -> None:
    """Reports about the same thing replace each other; the order of things stays."""
    board = ProgressBoard()
    for progress in range(1000):
        board.report(Progress(event="downloading", name="a", progress=progress))
        board.report(Progress(event="downloading", name="b", progress=progress))
    board.report(Progress(event="complete", name="a"))
    board.close()
    taken = [await board.take() for _ in range(3)]
    assert [(each.name, each.event, each.progress) for each in taken if each] == [
        ("a", "complete", 0),
        ("b", "downloading", 999),
    ]
    assert taken[-1] is None


async def test_a_waiting_reader_wakes_for_news_and_for_the_end() -> None:
    """A reader that waits gets the next report at once, and the end after the last."""
    board = ProgressBoard()
    taken: list[str | None] = []

    async def read() -> None:
        while (progress := await board.take()) is not None:
            taken.append(progress.event)

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        for event in ("one", "two"):
            await anyio.wait_all_tasks_blocked()
            board.report(Progress(event=event))
        await anyio.wait_all_tasks_blocked()
        board.close()
    assert taken == ["one", "two"]
