"""What tasks use, over time, and which processes they have."""

import anyio
import pytest

from containerd_py import Client, Image, InvalidArgumentError, NotFoundError, deleting
from containerd_py.oci.spec_options import with_memory_limit, with_memory_swap

BUSY = ["/bin/sh", "-c", "while :; do :; done"]
HUNGRY = ["/bin/sh", "-c", "sleep 0.5; x=0123456789abcdef; while :; do x=$x$x; done"]


async def test_a_busy_task_is_seen_busy(client: Client, busybox: Image):
    """A loop uses up to one CPU, as the counters say, and no sample comes before its interval is over."""
    async with client.open_run(busybox, BUSY) as task, task.stats(interval=0.3) as samples:
        seen = [await anext(samples) for _ in range(3)]
        seen_as = [(stats.cpu_cores, stats.elapsed, stats.pids, stats.memory) for stats in seen]
        assert all(0 < cores < 1.5 and elapsed > 0.2 for cores, elapsed, *_ in seen_as), seen_as
        used = sum(cores * elapsed for cores, elapsed, *_ in seen_as[1:])
        assert used == pytest.approx((seen[-1].metrics.cpu.total - seen[0].metrics.cpu.total) / 1e9)
        assert all(pids == 1 and memory > 0 for *_, pids, memory in seen_as), seen_as
        assert not samples.oom_killed


async def test_an_idle_task_is_seen_idle(client: Client, busybox: Image):
    """Who sleeps uses nothing, and its limit is known."""
    options = [with_memory_limit(64 * 2**20)]
    async with client.open_run(busybox, ["/bin/sleep", "1000"], spec_options=options) as task:
        async with task.stats(interval=0.2) as samples:
            stats = await anext(samples)
        assert stats.cpu_percent < 5
        assert stats.metrics.memory.limit == 64 * 2**20
        assert stats.memory_percent is not None
        assert 0 <= stats.memory_percent < 50


async def test_the_iteration_ends_with_the_task(client: Client, busybox: Image):
    """A task that ends ends the iteration, and is not found afterwards."""
    async with client.open_run(busybox, ["/bin/sleep", "1"]) as task:
        async with task.stats(interval=0.2) as samples:
            with anyio.fail_after(20):
                seen = [stats async for stats in samples]
        assert 1 <= len(seen) <= 6
        assert not samples.oom_killed
        await task.wait()
        with pytest.raises(NotFoundError):
            async with task.stats():
                pass


async def test_memory_that_runs_out_is_told(client: Client, busybox: Image):
    """The flag is there after the kernel has ended the task for want of memory."""
    options = [with_memory_limit(16 * 2**20), with_memory_swap(16 * 2**20)]
    async with client.open_run(busybox, HUNGRY, spec_options=options) as task:
        async with task.stats(interval=0.1) as samples:
            with anyio.fail_after(20):
                async for _ in samples:
                    pass
        assert (await task.wait()).code == 137
        assert samples.oom_killed


async def test_an_interval_is_a_time(client: Client, busybox: Image):
    """Nothing, or less, is no interval."""
    async with client.open_run(busybox, ["/bin/sleep", "1000"]) as task:
        for interval in (0, -1, float("nan"), float("inf")):
            with pytest.raises(InvalidArgumentError, match="interval"):
                async with task.stats(interval=interval):
                    pass


async def test_top_shows_all_processes(client: Client, busybox: Image):
    """The first process and its children are there, with their IDs inside and their arguments; execs are, too."""
    async with client.open_run(busybox, ["/bin/sh", "-c", "sleep 1000 & wait"]) as task:
        async with task.open_exec(["/bin/sleep", "2000"], user="1000:1000"):
            with anyio.fail_after(10):
                expected = {("sleep", "1000"), ("/bin/sleep", "2000")}  # before that, they are the runtime's
                entries = await task.top()
                while not expected <= {entry.args for entry in entries}:
                    await anyio.sleep(0.05)
                    entries = await task.top()
        first = next(entry for entry in entries if entry.pid == task.pid)
        child = next(entry for entry in entries if entry.args == ("sleep", "1000"))
        execed = next(entry for entry in entries if entry.args == ("/bin/sleep", "2000"))
        assert (first.pid_inside, first.args[0]) == (1, "/bin/sh")
        assert child.parent_pid == first.pid
        assert (child.user_id, execed.user_id) == (0, 1000)
        container = await client.load_container(task.id)
        assert [entry.pid for entry in await (await container.load_task()).top()] == [first.pid, child.pid]


async def test_top_of_nothing(client: Client, busybox: Image):
    """A task that is deleted has no processes."""
    async with deleting(await client.create_container(image=busybox, args=BUSY)) as container:
        task = await container.create_task()
        await task.delete(force=True)
        with pytest.raises(NotFoundError):
            await task.top()
