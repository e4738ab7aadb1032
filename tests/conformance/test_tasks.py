"""Tasks: started, watched, killed and deleted, each step by itself."""

import os
import signal
from collections.abc import Sequence

import anyio
import pytest

from containerd_py import Client, Image, Task
from containerd_py.errors import ContainerdError, FailedPreconditionError, NotFoundError
from containerd_py.oci.spec_options import SpecOption, with_host_namespace
from containerd_py.services.event_types import TaskExit
from containerd_py.services.tasks import TaskState
from tests.conformance.made import are_gone, created

SLEEP = ["/bin/sleep", "1000"]
FAMILY = ["/bin/sh", "-c", "sleep 1000 & sleep 1000 & wait"]


async def has_processes(task: Task, count: int) -> list[int]:
    """Wait until so many processes are in the container and return their IDs."""
    with anyio.fail_after(20):
        while len(found := [process.pid for process in await task.pids()]) != count:
            await anyio.sleep(0.02)
    return found


async def test_the_code_of_a_task_is_told_twice(client: Client, busybox: Image):
    """A started task has a process ID; waiting and deleting both tell its exit code and the time of its end."""
    async with created(client, busybox, ["/bin/sh", "-c", "exit 7"]) as task:
        await task.start()
        assert task.pid > 0
        waited = await task.wait()
        ended = await task.status()
        deleted = await task.delete()
    assert (waited.code, ended.exit_code, deleted.code) == (7, 7, 7)
    assert waited.exited_at == ended.exited_at == deleted.exited_at


async def test_the_end_comes_after_the_beginning(client: Client, busybox: Image):
    """The time of the end is later than the start, and there is none before."""
    async with created(client, busybox, ["/bin/true"]) as task:
        assert (await task.status()).exited_at is None
        record = await (await client.load_container(task.id)).record()
        await task.start()
        status = await task.wait()
        assert record.created_at is not None
        assert status.exited_at is not None
        assert status.exited_at > record.created_at


async def test_a_process_that_ends_at_once_had_an_id(client: Client, busybox: Image):
    """However short a process lives, its ID is known, from creation on."""
    async with created(client, busybox, ["/bin/true"]) as task:
        before = task.pid
        await task.start()
        assert before > 0
        assert task.pid == before


async def test_who_waits_no_longer_disturbs_nobody(client: Client, busybox: Image):
    """A wait that was cancelled spoils neither the next one nor the end; who has ended is killed no more."""
    async with created(client, busybox, SLEEP) as task:
        await task.start()
        found = await (await client.load_container(task.id)).load_task()
        for waiting in (task, found):
            with anyio.move_on_after(0.05) as scope:
                await waiting.wait()
            assert scope.cancelled_caught
        await found.kill(signal.SIGKILL)
        assert (await found.wait()).code == (await task.wait()).code == 137
        with pytest.raises(NotFoundError):
            await task.kill(signal.SIGKILL)


async def test_a_running_task_is_deleted_by_force_only(client: Client, busybox: Image):
    """A running task is not deleted unless that kills it; after that it has neither status nor metrics."""
    async with created(client, busybox, SLEEP) as task:
        await task.start()
        with pytest.raises(FailedPreconditionError, match="force=True"):
            await task.delete()
        assert (await task.delete(force=True)).code == 137
        for question in (task.status, task.metrics, task.pids):
            with pytest.raises(NotFoundError):
                await question()


async def test_all_processes_are_listed(client: Client, busybox: Image):
    """The container's processes are listed by their IDs on this machine, its first among them."""
    async with client.open_run(busybox, ["/bin/sh", "-c", "sleep 1000 & wait"]) as task:
        assert task.pid in await has_processes(task, 2)


@pytest.mark.parametrize("options", [(), (with_host_namespace("pid"),)], ids=["private", "host"])
@pytest.mark.parametrize("everyone", [False, True], ids=["first", "all"])
async def test_who_kills_the_first_kills_its_children(
    client: Client, busybox: Image, options: Sequence[SpecOption], everyone: bool
):
    """SIGKILL, to the first process alone too, leaves no child, in whichever namespace the process IDs are."""
    async with created(client, busybox, FAMILY, spec_options=options) as task:
        await task.start()
        family = await has_processes(task, 3)
        await task.kill(signal.SIGKILL, all=everyone)
        assert (await task.wait()).code == 137
        await task.delete()
        assert await are_gone(family)


async def test_a_task_killed_before_its_start_is_no_riddle(client: Client, busybox: Image):
    """A process that somebody killed before it was started is reported as ended, is not started, and can be deleted."""
    async with created(client, busybox, SLEEP) as task:
        assert (await task.status()).state is TaskState.CREATED
        os.kill(task.pid, signal.SIGKILL)
        with anyio.fail_after(20):
            while (await task.status()).state is not TaskState.STOPPED:
                await anyio.sleep(0.02)
        with pytest.raises(ContainerdError):
            await task.start()
        await task.delete(force=True)


async def test_one_end_is_one_event(client: Client, busybox: Image):
    """A task's end is told once, and the end of one whose command does not exist not at all."""
    ends: list[TaskExit] = []
    chosen = f"namespace=={client.namespace},topic~=|^/tasks/exit|"
    with pytest.raises(ContainerdError):
        await client.run(busybox, ["/bin/no-such-command"])
    async with client.events.subscribe(chosen) as envelopes:
        with pytest.raises(ContainerdError):
            await client.run(busybox, ["/bin/no-such-command"])
        await client.run(busybox, ["/bin/true"], id="one")
        await client.run(busybox, ["/bin/true"], id="last")
        async for envelope in envelopes:
            assert isinstance(envelope.event, TaskExit)
            ends.append(envelope.event)
            if envelope.event.container_id == "last":
                break
    assert [end.container_id for end in ends] == ["one", "last"]


async def test_a_task_tells_the_spec_it_runs_with(client: Client, busybox: Image):
    """A task tells its container's spec, to whoever finds it as well."""
    async with created(client, busybox, SLEEP) as task:
        found = await (await client.load_container(task.id)).load_task()
        assert (await found.spec()) == (await task.spec())
        assert (await found.spec())["process"]["args"] == SLEEP
