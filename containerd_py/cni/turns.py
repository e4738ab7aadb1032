"""Plugins take turns: one container at a time, in this program and among all that take nerdctl's lock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
from anyio.lowlevel import RunVar

from containerd_py._completion import run_stoppable, run_to_completion
from containerd_py.cni.locks import locked
from containerd_py.cni.settings import CONCURRENCY_LOCK, NetworkSettings
from containerd_py.cni.stopping import Stop

T = TypeVar("T")
_QUEUES = RunVar[dict[Path, anyio.Lock]]("network turns")


async def take_turn(settings: NetworkSettings, function: Callable[[Stop], T]) -> T:
    """Call the function in a worker thread when it is its turn; a cancellation stops it, and is raised at its end.

    Raises:
        FailedPreconditionError: Another program holds the lock for too long.
    """
    async with _queue(settings):
        with Stop() as stop:
            return await run_stoppable(partial(_hold, settings, stop, partial(function, stop)), stop.set)


async def take_last_turn(settings: NetworkSettings, function: Callable[[], T]) -> T:
    """Call the function as `take_turn` does, and let nothing stop it: it undoes what another one did.

    Raises:
        FailedPreconditionError: Another program holds the lock for too long.
    """
    async with _queue(settings):
        return await run_to_completion(partial(_hold, settings, None, function))


def _hold(settings: NetworkSettings, stop: Stop | None, function: Callable[[], T]) -> T:
    with locked(settings.conf_dir / CONCURRENCY_LOCK, stop=stop):
        return function()


def _queue(settings: NetworkSettings) -> anyio.Lock:
    try:
        queues = _QUEUES.get()
    except LookupError:
        queues = {}
        _QUEUES.set(queues)
    return queues.setdefault(settings.conf_dir, anyio.Lock())
