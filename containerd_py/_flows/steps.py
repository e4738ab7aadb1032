"""Long blocking work in steps: a worker thread does one after the other, and a cancellation stops it in between."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TypeVar

from anyio.lowlevel import checkpoint_if_cancelled

from containerd_py._completion import run_to_completion

ResultT = TypeVar("ResultT")


async def run_steps(steps: Generator[None, None, ResultT]) -> ResultT:
    """Run a generator to its end and return what it returns; it is closed where it does not come to that."""
    results: list[ResultT] = []
    try:
        while await run_to_completion(partial(_step, steps, results)):
            await checkpoint_if_cancelled()
    finally:
        await run_to_completion(steps.close)
    return results[0]


def _step(steps: Generator[None, None, ResultT], results: list[ResultT]) -> bool:
    try:
        next(steps)
    except StopIteration as end:
        results.append(end.value)
        return False
    return True
