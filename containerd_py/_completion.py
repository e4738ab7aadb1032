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


async def run_stoppable(function: Callable[[], ResultT], stop: Callable[[], None]) -> ResultT:
    """Run the function in a thread; on cancellation call `stop`, wait for the function's end, and raise it then.

    The function must end by itself, and soon once `stop` was called.
    """
    future = asyncio.get_running_loop().run_in_executor(None, function)
    cancellation: asyncio.CancelledError | None = None
    while not future.done():
        with anyio.CancelScope(shield=cancellation is not None):
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancellation = error
                stop()
    if cancellation is not None:
        future.exception()  # looked at, so that asyncio does not report it
        raise cancellation
    return future.result()
