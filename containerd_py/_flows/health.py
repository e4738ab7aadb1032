"""Waiting for a container to be healthy: its check run as an exec, again and again. Knows tasks and execs."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Literal

import anyio
import attrs

from containerd_py._flows.exec_process import run_exec
from containerd_py._flows.exits import wait_for_exit
from containerd_py._flows.health_labels import labelled_health_check
from containerd_py.errors import ContainerdError, NotFoundError, TaskLostError, UnavailableError, UnhealthyError
from containerd_py.oci.health_check import HealthCheck
from containerd_py.services.bundle import Services
from containerd_py.services.tasks import TaskState

_MAX_OUTPUT: Final = 4096  # bytes of each stream that are kept of a probe, as Docker
_MAX_PROBES: Final = 5  # that a state remembers, as Docker


@attrs.frozen(kw_only=True)
class Probe:
    """One run of a health check. `exit_code` is None where it was given up, or could not be started: `output` tells."""

    started_at: datetime
    ended_at: datetime
    exit_code: int | None
    output: bytes

    @property
    def is_success(self) -> bool:
        """Whether it found the container healthy."""
        return self.exit_code == 0


@attrs.frozen(kw_only=True)
class Health:
    """What probes have found of a container: `failing_streak` counts failures in a row, `probes` are the last five."""

    status: Literal["starting", "healthy", "unhealthy"] = "starting"
    failing_streak: int = 0
    probes: tuple[Probe, ...] = ()

    def after(self, probe: Probe, check: HealthCheck, *, in_start_period: bool) -> Health:
        """Return what is known with one more probe."""
        probes = (*self.probes, probe)[-_MAX_PROBES:]
        if probe.is_success:
            return Health(status="healthy", probes=probes)
        if in_start_period and self.status == "starting":
            return attrs.evolve(self, probes=probes)
        streak = self.failing_streak + 1
        status = "unhealthy" if streak >= check.retries else self.status
        return Health(status=status, failing_streak=streak, probes=probes)


async def health_check_of(services: Services, container_id: str) -> HealthCheck:
    """Return a container's check.

    Raises:
        NotFoundError: It has none, or was deleted.
    """
    record = await services.containers.get(container_id)
    check = labelled_health_check(record.labels)
    if check is None:
        raise NotFoundError(
            f"container {container_id} has no health check: give one, here, when it is created, or in its image"
        )
    return check


async def probe(services: Services, container_id: str, check: HealthCheck) -> Probe:
    """Run the check once.

    Raises:
        UnavailableError: The daemon cannot be reached.
    """
    started_at = datetime.now(UTC)
    exit_code: int | None = None
    with anyio.move_on_after(check.bound) as scope:
        try:
            done = await run_exec(services, container_id, check.command, check=False, capture_limit=_MAX_OUTPUT)
            exit_code, output = done.exit_code, done.stdout + done.stderr
        except UnavailableError:
            raise
        except ContainerdError as error:
            output = str(error).encode(errors="replace")
    if scope.cancelled_caught:
        output = f"gave up after {check.bound:g} s".encode()
    return Probe(started_at=started_at, ended_at=datetime.now(UTC), exit_code=exit_code, output=output)


async def wait_healthy(services: Services, container_id: str, check: HealthCheck) -> Health:
    """Probe until the container is healthy, and return what was found.

    Raises:
        UnhealthyError: It is unhealthy, or its task has ended.
        NotFoundError: It has no task.
    """
    health = Health()
    start_ends = anyio.current_time() + check.start_period
    while True:
        state = (await services.tasks.get(container_id)).state
        in_start_period = anyio.current_time() < start_ends
        if state is TaskState.RUNNING:
            found = await probe(services, container_id, check)
            health = health.after(found, check, in_start_period=in_start_period)
        if health.status == "healthy":
            return health
        if health.status == "unhealthy":
            raise _unhealthy(container_id, health)
        pause = check.start_interval if in_start_period else check.interval
        if state is TaskState.STOPPED or await _ends_within(services, container_id, pause):
            raise UnhealthyError(
                f"the task of container {container_id} ended before it was healthy",
                failing_streak=health.failing_streak,
            )


async def _ends_within(services: Services, container_id: str, seconds: float) -> bool:
    with anyio.move_on_after(seconds):
        with suppress(TaskLostError):
            await wait_for_exit(services, container_id)
        return True
    return False


def _unhealthy(container_id: str, health: Health) -> UnhealthyError:
    last = health.probes[-1]
    how = "could not be run" if last.exit_code is None else f"ended with {last.exit_code}"
    told = last.output.decode(errors="replace").strip()[:200]
    return UnhealthyError(
        f"container {container_id} is unhealthy: its check {how}, {health.failing_streak} times in a row: {told}",
        failing_streak=health.failing_streak,
        exit_code=last.exit_code,
        output=last.output,
    )
