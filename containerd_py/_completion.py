"""Blocking work that nothing interrupts. Knows asyncio's native cancellation, which no anyio shield keeps out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import anyio

ResultT = TypeVar("ResultT")


async def run_to_completion(function: Callable[[], ResultT]) -> ResultT:
    """Run the function in a thread and wait for its end, whoever cancels meanwhile; that is raised afterwards.

    The function must end by itself.
    """
    # Not anyio.to_thread: a task.cancel() there would leave the function behind half-way, or keep it from starting.
    future = asyncio.get_running_loop().run_in_executor(None, function)
    cancellation: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancellation = error
    if cancellation is not None:
        future.exception()  # looked at, so that asyncio does not report it
        raise cancellation
    return future.result()
