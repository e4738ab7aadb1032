"""Rates between two samples, and processes read from /proc."""

import os
import subprocess
import sys

import attrs
import pytest

from containerd_py._flows.process_table import read_entries
from containerd_py._flows.stats import stats_between
from containerd_py.services.metrics import CpuMetrics, IoMetrics, MemoryMetrics, Metrics, PidsMetrics
from containerd_py.types import Timestamp
from containerd_py.typeurl import TypedValue


def sample(at: Timestamp | None, *, cpu: int = 0, throttled: int = 0, read: int = 0, written: int = 0, ooms: int = 0):
    return Metrics(
        id="c",
        timestamp=at,
        cgroup_version=2,
        cpu=CpuMetrics(total=cpu, user=0, kernel=0, periods=0, throttled_periods=0, throttled_time=throttled),
        memory=MemoryMetrics(
            usage=300, limit=400, max_usage=0, inactive_file=100, swap_usage=0, swap_limit=None, oom_kills=ooms
        ),
        pids=PidsMetrics(current=3, limit=None),
        io=IoMetrics(read_bytes=read, written_bytes=written, reads=0, writes=0),
        raw=TypedValue(type_url="x"),
    )


START = Timestamp.from_parts(1000, 500_000_000)
TWO_LATER = Timestamp.from_parts(1002, 500_000_000)


def test_rates_are_per_second_of_the_daemons_time():
    """The samples' own times count, not when their answers came."""
    before = sample(START, cpu=10**9, throttled=10**9, read=1000, written=10)
    after = sample(TWO_LATER, cpu=4 * 10**9, throttled=2 * 10**9, read=5000, written=10)
    stats = stats_between(before, after, 7.0)
    assert stats.elapsed == 2.0
    assert (stats.cpu_cores, stats.cpu_percent, stats.throttled) == (1.5, 150.0, 0.5)
    assert (stats.read_rate, stats.write_rate) == (2000.0, 0.0)
    assert (stats.memory, stats.memory_percent, stats.pids) == (200, 50.0, 3)
    assert not stats.oom_killed


def test_without_times_the_callers_clock_counts():
    """A runtime that sends no times, or the same one twice, has rates as well."""
    after = sample(None, cpu=2 * 10**9)
    assert stats_between(sample(START), after, 4.0).cpu_cores == 0.5
    assert stats_between(sample(START), attrs.evolve(after, timestamp=START), 4.0).cpu_cores == 0.5


def test_counters_that_began_anew_are_no_negative_use():
    """A task that was made anew counts from zero."""
    assert stats_between(sample(START, cpu=10**12, read=99), sample(TWO_LATER), 2.0).cpu_cores == 0


@pytest.mark.parametrize(("known", "ooms", "told"), [(False, 0, False), (True, 0, True), (False, 1, True)])
def test_memory_that_ran_out_is_told(known: bool, ooms: int, told: bool):
    """Either an event said so before, or the sample does."""
    assert stats_between(sample(START), sample(TWO_LATER, ooms=ooms), 2.0, oom_killed=known).oom_killed is told


def test_no_limit_has_no_percentage():
    """Memory without a limit is no share of anything."""
    free = sample(TWO_LATER)
    free = attrs.evolve(free, memory=attrs.evolve(free.memory, limit=None))
    assert stats_between(sample(START), free, 2.0).memory_percent is None


def test_a_process_is_read_as_it_is():
    """IDs, user, state and use are those of the process; hostile names and arguments neither confuse nor steer."""
    code = "import sys; open('/proc/self/comm', 'w').write('a) S 1 (\\n'); print(flush=True); sys.stdin.read()"
    arguments = [sys.executable, "-c", code, "\x1b[31m", "", "é"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (entry,) = read_entries([process.pid])
    assert (entry.pid, entry.parent_pid, entry.user_id) == (process.pid, os.getpid(), os.geteuid())
    assert entry.args[3:] == ("\\x1b[31m", "", "é")
    assert entry.name == "a) S 1 (\\n"
    assert entry.state in {"S", "R"}
    assert entry.threads == 1
    assert entry.resident > 2**20
    assert 0 <= entry.cpu_time < 60
    assert 0 <= entry.running_for < 60


def test_who_has_gone_is_left_out():
    """A process that ended between the list and the look has no entry."""
    with subprocess.Popen(["true"]) as process:
        pass
    assert read_entries([process.pid]) == []


@pytest.mark.parametrize("name", [b"a\r\xff", b"\rVmRSS:zz", b"\rUid:\t7", b"a)\n(b\\"])
def test_a_name_is_no_more_than_a_name(name: bytes):
    """What a process calls itself is shown, and stands for nothing else that the kernel says of it."""
    script = f"import ctypes; ctypes.CDLL(None).prctl(15, {name!r}); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        (found,) = read_entries([process.pid])
        process.communicate(b"\n")
    assert (found.user_id, found.pid_inside) == (os.getuid(), process.pid)
    assert found.resident > 0
    assert found.name.isprintable()
