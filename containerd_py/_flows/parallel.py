"""Several things at once, bounded, with errors as plain as when done one by one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio

from containerd_py.errors import InvalidArgumentError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the error itself where a task group raises a group of one: its number of tasks is no caller's business."""
    try:
        yield
    except BaseExceptionGroup as group:
        inner: BaseException = group
        while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
            inner = inner.exceptions[0]
        if inner is group:
            raise
        raise inner from inner.__cause__


async def for_each(
    items: Iterable[ItemT], fn: Callable[[ItemT], Awaitable[ResultT]], *, limit: int = 10
) -> list[ResultT]:
    """Call `fn` with every item, at most `limit` at once; return the results in the items' order.

    One that fails stops none of the others.

    Raises:
        ExceptionGroup: What failed, in the items' order, each error with its item in a note, once all are done.
    """
    if limit < 1:
        raise InvalidArgumentError(f"a limit of {limit} lets nothing happen: give at least 1")
    results: dict[int, ResultT] = {}
    errors: dict[int, Exception] = {}
    pending = iter(enumerate(items))

    async def worker() -> None:
        for index, item in pending:
            try:
                results[index] = await fn(item)
            except Exception as error:  # noqa: BLE001  # gathered below
                error.add_note(f"with {item!r}")
                errors[index] = error

    async with anyio.create_task_group() as group:
        for _ in range(limit):
            group.start_soon(worker)
    if errors:
        failed = f"{len(errors)} of {len(results) + len(errors)} failed"
        raise ExceptionGroup(failed, [errors[index] for index in sorted(errors)])
    return [results[index] for index in sorted(results)]
