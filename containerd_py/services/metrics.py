"""What a task uses, in one shape for both cgroup versions. Knows the two metrics messages; asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from containerd_py._generated.io.containerd.cgroups.v1 import CpuStat as CpuStat1
from containerd_py._generated.io.containerd.cgroups.v1 import CpuUsage, MemoryEntry, MemoryOomControl, Throttle
from containerd_py._generated.io.containerd.cgroups.v1 import MemoryStat as MemoryStat1
from containerd_py._generated.io.containerd.cgroups.v1 import Metrics as Metrics1
from containerd_py._generated.io.containerd.cgroups.v1 import PidsStat as PidsStat1
from containerd_py._generated.io.containerd.cgroups.v2 import CpuStat as CpuStat2
from containerd_py._generated.io.containerd.cgroups.v2 import MemoryEvents
from containerd_py._generated.io.containerd.cgroups.v2 import MemoryStat as MemoryStat2
from containerd_py._generated.io.containerd.cgroups.v2 import Metrics as Metrics2
from containerd_py._generated.io.containerd.cgroups.v2 import PidsStat as PidsStat2
from containerd_py.errors import NotFoundError
from containerd_py.services.tasks import MetricSample
from containerd_py.types import Timestamp
from containerd_py.typeurl import TypedValue

CGROUP2_METRICS: Final = "io.containerd.cgroups.v2.Metrics"
_NO_LIMIT: Final = 2**63 - 2**20  # cgroup v1 rounds "no limit" down to a page, v2 says 2^64 - 1


@attrs.frozen(kw_only=True)
class CpuMetrics:
    """CPU time used since the task began, and how often its quota held it up: nanoseconds and counts."""

    total: int
    user: int
    kernel: int
    periods: int
    throttled_periods: int
    throttled_time: int


@attrs.frozen(kw_only=True)
class MemoryMetrics:
    """Memory in bytes; a limit of None is no limit. `inactive_file` is page cache that would be given up first."""

    usage: int
    limit: int | None
    max_usage: int
    inactive_file: int
    swap_usage: int
    swap_limit: int | None
    oom_kills: int

    @property
    def working_set(self) -> int:
        """Bytes that cannot be given up: usage without inactive page cache."""
        return max(self.usage - self.inactive_file, 0)


@attrs.frozen(kw_only=True)
class PidsMetrics:
    """Number of processes and threads; a limit of None is no limit."""

    current: int
    limit: int | None


@attrs.frozen(kw_only=True)
class IoMetrics:
    """Bytes and operations on block devices, all devices together."""

    read_bytes: int
    written_bytes: int
    reads: int
    writes: int


@attrs.frozen(kw_only=True)
class Metrics:
    """What a task uses at one moment. `raw` is the whole message of the daemon, `cgroup_version` says which kind.

    Another runtime's own kind of metrics has version 0 and only `raw`.
    """

    id: str
    timestamp: Timestamp | None
    cgroup_version: int
    cpu: CpuMetrics
    memory: MemoryMetrics
    pids: PidsMetrics
    io: IoMetrics
    raw: TypedValue


def metrics_from_sample(id: str, samples: Sequence[MetricSample]) -> Metrics:  # noqa: A002
    """Return the metrics of the task among the samples.

    Raises:
        NotFoundError: There is none: the task does not run.
    """
    sample = next((sample for sample in samples if sample.id == id), None)
    if sample is None or sample.data is None:
        raise NotFoundError(f"the daemon has no metrics of task {id}: it does not run")
    match sample.data.name:
        case "io.containerd.cgroups.v1.Metrics":
            return _from_cgroup1(sample, sample.data)
        case "io.containerd.cgroups.v2.Metrics":
            return _from_cgroup2(sample, sample.data)
        case _:
            return attrs.evolve(
                _from_cgroup2(sample, TypedValue(type_url=CGROUP2_METRICS)), cgroup_version=0, raw=sample.data
            )


def _limit(value: int) -> int | None:
    return None if value == 0 or value >= _NO_LIMIT else value


def _from_cgroup1(sample: MetricSample, raw: TypedValue) -> Metrics:
    message = Metrics1.parse(raw.value)
    cpu = message.cpu or CpuStat1()
    usage, throttling = cpu.usage or CpuUsage(), cpu.throttling or Throttle()
    memory = message.memory or MemoryStat1()
    entry, swap = memory.usage or MemoryEntry(), memory.swap or MemoryEntry()
    pids = message.pids or PidsStat1()
    return Metrics(
        id=sample.id,
        timestamp=sample.timestamp,
        cgroup_version=1,
        cpu=CpuMetrics(
            total=usage.total,
            user=usage.user,
            kernel=usage.kernel,
            periods=throttling.periods,
            throttled_periods=throttling.throttled_periods,
            throttled_time=throttling.throttled_time,
        ),
        memory=MemoryMetrics(
            usage=entry.usage,
            limit=_limit(entry.limit),
            max_usage=entry.max,
            inactive_file=memory.total_inactive_file,
            swap_usage=max(swap.usage - entry.usage, 0),  # v1 counts memory and swap together
            swap_limit=_limit(swap.limit),
            oom_kills=(message.memory_oom_control or MemoryOomControl()).oom_kill,
        ),
        pids=PidsMetrics(current=pids.current, limit=_limit(pids.limit)),
        io=_io_of_cgroup1(message),
        raw=raw,
    )


def _io_of_cgroup1(message: Metrics1) -> IoMetrics:
    def total(entries: Sequence[object], operation: str) -> int:
        return sum(getattr(entry, "value", 0) for entry in entries if getattr(entry, "op", "").lower() == operation)

    bytes_moved = message.blkio.io_service_bytes_recursive if message.blkio else []
    operations = message.blkio.io_serviced_recursive if message.blkio else []
    return IoMetrics(
        read_bytes=total(bytes_moved, "read"),
        written_bytes=total(bytes_moved, "write"),
        reads=total(operations, "read"),
        writes=total(operations, "write"),
    )


def _from_cgroup2(sample: MetricSample, raw: TypedValue) -> Metrics:
    message = Metrics2.parse(raw.value)
    cpu, memory = message.cpu or CpuStat2(), message.memory or MemoryStat2()
    pids, devices = message.pids or PidsStat2(), message.io.usage if message.io else []
    return Metrics(
        id=sample.id,
        timestamp=sample.timestamp,
        cgroup_version=2,
        cpu=CpuMetrics(
            total=cpu.usage_usec * 1000,
            user=cpu.user_usec * 1000,
            kernel=cpu.system_usec * 1000,
            periods=cpu.nr_periods,
            throttled_periods=cpu.nr_throttled,
            throttled_time=cpu.throttled_usec * 1000,
        ),
        memory=MemoryMetrics(
            usage=memory.usage,
            limit=_limit(memory.usage_limit),
            max_usage=memory.max_usage,
            inactive_file=memory.inactive_file,
            swap_usage=memory.swap_usage,
            swap_limit=_limit(memory.swap_limit),
            oom_kills=(message.memory_events or MemoryEvents()).oom_kill,
        ),
        pids=PidsMetrics(current=pids.current, limit=_limit(pids.limit)),
        io=IoMetrics(
            read_bytes=sum(device.rbytes for device in devices),
            written_bytes=sum(device.wbytes for device in devices),
            reads=sum(device.rios for device in devices),
            writes=sum(device.wios for device in devices),
        ),
        raw=raw,
    )
