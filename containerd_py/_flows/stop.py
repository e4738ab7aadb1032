"""Stopping a task as its image wants it, then by force; and what the restart monitor has to be told before."""

from __future__ import annotations

import signal as signals
from contextlib import suppress
from functools import partial
from typing import Final

import anyio

from containerd_py._flows.killed import KILL_BOUND, dies, sends
from containerd_py._flows.restarts import halt_restarts
from containerd_py.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, StopTimeoutError
from containerd_py.labels import STOP_SIGNAL
from containerd_py.oci.signals import parse_signal
from containerd_py.process import Process
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord
from containerd_py.services.tasks import ExitStatus, TaskState

DEFAULT_GRACE: Final = 10.0  # seconds, as Docker and nerdctl give


async def stop(
    services: Services, task: Process, *, signal: int | str | None = None, grace: float = DEFAULT_GRACE
) -> ExitStatus:
    """Send the stop signal, wait `grace` seconds, send SIGKILL, delete the task; return how it ended."""
    if grace < 0:
        raise InvalidArgumentError(f"a grace of {grace} seconds is no time: give 0 or more")
    record = await services.containers.get(task.id)
    await halt_restarts(services, record)
    status = await task.status()
    if status.state not in {TaskState.STOPPED, TaskState.CREATED}:
        if status.state in {TaskState.PAUSED, TaskState.PAUSING}:
            with suppress(NotFoundError, FailedPreconditionError):
                await services.tasks.resume(task.id)
        await _end(services, task, _stop_signal(record) if signal is None else signal, grace)
    return await task.delete(force=True)  # it has ended, but for one never started; what nobody reads is dropped


def _stop_signal(record: ContainerRecord) -> int | str:
    """Return what the image wants to be stopped with; what is no signal there is no reason not to stop."""
    wanted = record.labels.get(STOP_SIGNAL, "")
    try:
        return parse_signal(wanted)
    except InvalidArgumentError:
        return signals.SIGTERM


async def _end(services: Services, task: Process, signal: int | str, grace: float) -> None:
    if grace > 0:
        with suppress(NotFoundError):  # it has ended by itself: the wait tells
            await sends(services, task.id, partial(task.kill, signal))
        with anyio.move_on_after(grace):
            await task.wait()
            return
    with suppress(NotFoundError):
        await sends(services, task.id, partial(task.kill, signals.SIGKILL, all=True))
    if not await dies(services, task.id, task.wait):
        raise StopTimeoutError(f"{task!r} survived SIGKILL for {KILL_BOUND:g} s: it hangs in the kernel")
