"""Learning how a process ended, through lost connections and daemon restarts. Knows the Tasks service only."""

from __future__ import annotations

from typing import Final

import anyio
import anyio.lowlevel

from containerd_py.errors import (
    ClientClosedError,
    ConnectionLostError,
    ContainerdError,
    DaemonConnectError,
    NotFoundError,
    TaskLostError,
)
from containerd_py.services.bundle import Services
from containerd_py.services.tasks import ExitStatus

_PATIENCE: Final = 60.0  # seconds a daemon may be away before a wait gives up on it


async def wait_for_exit(services: Services, container_id: str, exec_id: str = "") -> ExitStatus:
    """Wait until the process has ended and return how; a daemon that restarts meanwhile is asked again.

    Raises:
        TaskLostError: The daemon knows the process no longer: how it ended cannot be learned.
        DaemonConnectError: The daemon has been away for a minute.
    """
    name = f"exec {exec_id} of {container_id}" if exec_id else f"task {container_id}"
    while True:
        try:
            return await services.tasks.wait(container_id, exec_id=exec_id)
        except NotFoundError as error:
            raise TaskLostError(
                f"the daemon no longer knows {name}: it was deleted, or ended while the daemon was down"
            ) from error
        except (ConnectionLostError, DaemonConnectError):
            await services.connection.comeback.wait(_PATIENCE)


class ExitWatch:
    """A wait that was begun before the process was started, so that its exit cannot be missed; any number may join."""

    def __init__(self) -> None:
        self._has_ended = anyio.Event()
        self._status: ExitStatus | None = None
        self._error: ContainerdError | None = None
        self._scope = anyio.CancelScope()

    @property
    def has_ended(self) -> bool:
        """Whether the wait is over."""
        return self._has_ended.is_set()

    async def wait(self) -> ExitStatus:
        """Return how the process ended.

        Raises:
            TaskLostError: The daemon can no longer tell.
        """
        await self._has_ended.wait()
        if self._status is not None:
            return self._status
        assert self._error is not None
        raise type(self._error)(str(self._error)) from self._error

    async def follow(self, services: Services, container_id: str, exec_id: str) -> None:
        """Wait on behalf of everybody; runs in the connection's background."""
        try:
            with self._scope:
                try:
                    status = await wait_for_exit(services, container_id, exec_id)
                    self._status = self._status or status
                except ContainerdError as error:
                    self._error = error
        finally:  # also when the connection ends under us: nobody may wait for a wait that is over
            self._error = self._error or ClientClosedError("the client was closed before the process ended")
            self._has_ended.set()

    def settle(self, status: ExitStatus) -> None:
        """Stop waiting: how the process ended was learned otherwise, by deleting it."""
        self._status = self._status or status
        self._has_ended.set()
        self._scope.cancel()

    def abandon(self) -> None:
        """Stop waiting for a process that was not started."""
        self._error = TaskLostError("the process was not started")
        self._has_ended.set()
        self._scope.cancel()


async def watch_exit(services: Services, container_id: str, exec_id: str = "") -> ExitWatch:
    """Begin to wait for the end of a process that is about to be started."""
    watch = ExitWatch()
    services.connection.background.start_soon(watch.follow, services, container_id, exec_id)
    try:
        await anyio.lowlevel.checkpoint()  # lets the wait be sent: requests on one connection arrive in order
    except BaseException:
        watch.abandon()
        raise
    return watch
