"""What a task uses over time: samples at intervals, and what has changed between two of them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

import anyio
import attrs

from containerd_py.errors import ContainerdError, InvalidArgumentError, NotFoundError
from containerd_py.services.bundle import Services
from containerd_py.services.metrics import Metrics, metrics_from_sample
from containerd_py.services.tasks import TaskState

if TYPE_CHECKING:
    from containerd_py.services.event_types import Envelope

_OOM_TOPIC: Final = "/tasks/oom"
_LAST_LOOK: Final = 0.2  # seconds for the news of what ended the task, which comes by another way than its end


@attrs.frozen(kw_only=True)
class Stats:
    """What a task uses: `metrics` at one moment, and rates since the sample before, `elapsed` seconds ago.

    `cpu_cores` counts whole CPUs, as 1.5. `oom_killed` says whether the kernel has killed anything in the task, so far,
    because memory ran out.
    """

    metrics: Metrics
    elapsed: float
    cpu_cores: float
    throttled: float  # seconds per second that its CPU quota held it up, all its threads together
    read_rate: float  # bytes per second, from block devices
    write_rate: float  # bytes per second
    oom_killed: bool

    @property
    def cpu_percent(self) -> float:
        """CPU use as `top` and `docker stats` count: 100 is one whole CPU."""
        return self.cpu_cores * 100

    @property
    def memory(self) -> int:
        """Bytes that cannot be given up."""
        return self.metrics.memory.working_set

    @property
    def memory_percent(self) -> float | None:
        """How much of its limit that is; None without a limit."""
        limit = self.metrics.memory.limit
        return None if limit is None else 100 * self.memory / limit

    @property
    def pids(self) -> int:
        """Number of processes and threads."""
        return self.metrics.pids.current


def stats_between(before: Metrics, after: Metrics, elapsed: float, *, oom_killed: bool = False) -> Stats:
    """Return the use between two samples, `elapsed` seconds apart unless their timestamps say it better."""
    if before.timestamp is not None and after.timestamp is not None:
        nanoseconds = _nanoseconds(after) - _nanoseconds(before)
        elapsed = nanoseconds / 1e9 if nanoseconds > 0 else elapsed

    def rate(first: int, second: int) -> float:
        return max(second - first, 0) / elapsed  # counters of a task that was made anew begin anew

    return Stats(
        metrics=after,
        elapsed=elapsed,
        cpu_cores=rate(before.cpu.total, after.cpu.total) / 1e9,
        throttled=rate(before.cpu.throttled_time, after.cpu.throttled_time) / 1e9,
        read_rate=rate(before.io.read_bytes, after.io.read_bytes),
        write_rate=rate(before.io.written_bytes, after.io.written_bytes),
        oom_killed=oom_killed or after.memory.oom_kills > 0,
    )


def _nanoseconds(metrics: Metrics) -> int:
    assert metrics.timestamp is not None
    seconds, nanos = metrics.timestamp.parts
    return seconds * 10**9 + nanos


class StatsStream:
    """Iterates over a task's use, until the task has ended. Whoever reads slowly gets fewer and longer intervals."""

    def __init__(
        self, services: Services, container_id: str, interval: float, envelopes: AsyncIterator[Envelope], first: Metrics
    ) -> None:
        self._services = services
        self._id = container_id
        self._interval = interval
        self._envelopes = envelopes
        self._last = first
        self._sampled_at = anyio.current_time()
        self._oom_killed = first.memory.oom_kills > 0

    @property
    def oom_killed(self) -> bool:
        """Whether the kernel has killed anything in the task because memory ran out, also once the task has ended."""
        return self._oom_killed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Stats:
        await self._listen(self._sampled_at + self._interval - anyio.current_time())
        try:
            metrics = await _sample_running(self._services, self._id)
        except NotFoundError:
            await self._listen(0 if self._oom_killed else _LAST_LOOK)
            raise StopAsyncIteration from None
        now = anyio.current_time()
        stats = stats_between(self._last, metrics, now - self._sampled_at, oom_killed=self._oom_killed)
        self._last, self._sampled_at, self._oom_killed = metrics, now, stats.oom_killed
        return stats

    async def _listen(self, seconds: float) -> None:
        """Let time pass, and hear meanwhile of memory that ran out."""
        with anyio.move_on_after(max(seconds, 0)):
            try:
                async for envelope in self._envelopes:
                    self._oom_killed = self._oom_killed or envelope.topic == _OOM_TOPIC
            except ContainerdError:
                pass  # no more news; the samples tell as well
            await anyio.sleep_forever()


async def sample_metrics(services: Services, container_id: str) -> Metrics:
    """Return what a task uses now.

    Raises:
        NotFoundError: It does not run.
    """
    return metrics_from_sample(container_id, await services.tasks.metrics([f"id=={container_id}"]))


async def _sample_running(services: Services, container_id: str) -> Metrics:
    metrics = await sample_metrics(services, container_id)
    if (await services.tasks.get(container_id)).state is TaskState.STOPPED:  # daemons have metrics of these as well
        raise NotFoundError(f"task {container_id} has ended")
    return metrics


@asynccontextmanager
async def open_stats(services: Services, container_id: str, *, interval: float) -> AsyncIterator[StatsStream]:
    """Lend the stream of a task's use."""
    if not (interval > 0 and math.isfinite(interval)):
        raise InvalidArgumentError(f"an interval of {interval} seconds: give a number above 0")
    news = f'namespace=={services.namespace},topic=="{_OOM_TOPIC}",event.container_id=="{container_id}"'
    async with services.events.subscribe(news) as envelopes:
        first = await _sample_running(services, container_id)
        yield StatsStream(services, container_id, interval, envelopes, first)
