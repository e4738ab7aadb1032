"""Blocking clean-up that nothing interrupts. Knows asyncio's native cancellation, which no anyio shield keeps out."""

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
    with anyio.CancelScope(shield=True):
        future = asyncio.get_running_loop().run_in_executor(None, function)
        cancellation: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancellation = error
        if cancellation is not None:
            raise cancellation
    return future.result()
