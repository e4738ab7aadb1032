"""A task group for servers that run beside a test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc


@asynccontextmanager
async def background_tasks() -> AsyncIterator[anyio.abc.TaskGroup]:
    """Run tasks that end with the block; the block's own error comes out as it is, not inside a group."""
    raised: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:
            try:
                yield group
            except BaseException as error:
                raised = error
                raise
            finally:
                group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        if raised is None or errors.exceptions != (raised,):
            raise
    else:
        return
    raise raised
