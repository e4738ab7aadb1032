"""Execs: made, started, found again, ended and deleted, each step by itself."""

import pytest

from containerd_py import Client, Image, attach_fifos, open_fifos
from containerd_py.errors import ContainerdError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from containerd_py.services.tasks import TaskState

SLEEP = ["/bin/sleep", "1000"]


async def test_the_code_of_an_exec_is_told_twice(client: Client, busybox: Image):
    """Waiting and deleting both tell the exec's exit code, and when it ended."""
    async with client.open_run(busybox, SLEEP) as task:
        process = await task.create_exec(["/bin/sh", "-c", "exit 6"])
        await process.start()
        waited = await process.wait()
        deleted = await process.delete()
        assert (waited.code, deleted.code) == (6, 6)
        assert waited.exited_at == deleted.exited_at
        assert waited.exited_at is not None


async def test_an_exec_that_has_ended_is_waited_for(client: Client, busybox: Image):
    """Whoever asks after the end, by a handle that knows nothing of it, learns the same."""
    async with client.open_run(busybox, SLEEP) as task:
        process = await task.create_exec(["/bin/sh", "-c", "exit 3"], id="ended")
        await process.start()
        await process.wait()
        found = await task.load_exec("ended")
        assert (await found.status()).state is TaskState.STOPPED
        assert (await found.wait()).code == 3
        await found.delete()


async def test_an_exec_that_runs_is_deleted_by_force_only(client: Client, busybox: Image):
    """A running exec is not deleted unless that kills it, and then it is gone."""
    async with client.open_run(busybox, SLEEP) as task:
        process = await task.create_exec(SLEEP)
        await process.start()
        with pytest.raises(FailedPreconditionError, match="force=True"):
            await process.delete()
        assert (await process.delete(force=True)).code == 137
        assert len(await task.pids()) == 1


async def test_an_exec_never_started_is_deleted(client: Client, busybox: Image):
    """What was created and not started is told as such, and goes without more."""
    async with client.open_run(busybox, SLEEP) as task:
        process = await task.create_exec(SLEEP, id="idle")
        assert (await process.status()).state is TaskState.CREATED
        assert (await process.delete()).code == 0
        with pytest.raises(NotFoundError):
            await task.load_exec("idle")


async def test_an_exec_that_is_not_there(client: Client, busybox: Image):
    """An unknown exec is not found, and the empty ID stands for no exec."""
    async with client.open_run(busybox, SLEEP) as task:
        with pytest.raises(NotFoundError):
            await task.load_exec("no-such-exec")
        with pytest.raises(InvalidArgumentError):
            await task.load_exec("")


async def test_an_exec_that_cannot_start_says_so(client: Client, busybox: Image):
    """A missing command lets the exec be created and fails its start, by name; its pumps come to their end."""
    async with client.open_run(busybox, SLEEP) as task, open_fifos(stdin=False) as io:
        process = await task.create_exec(["/bin/no-such-command"], io=io.config)
        with pytest.raises(ContainerdError, match="no-such-command"):
            await process.start()
        assert io.stdout is not None
        assert [chunk async for chunk in io.stdout] == []
        await process.delete(force=True)


async def test_an_argument_may_be_long(client: Client, busybox: Image):
    """20,000 characters in one argument arrive as they are."""
    async with client.open_run(busybox, SLEEP) as task:
        argument = "long" * 5_000
        assert (await task.run_exec(["/bin/echo", "-n", argument])).stdout == argument.encode()


async def test_an_exec_is_attached_to_by_its_id(client: Client, busybox: Image):
    """Another reader finds the exec by its ID, goes on with its input and output, and ends its input."""
    async with client.open_run(busybox, SLEEP) as task, open_fifos() as io:
        process = await task.create_exec(["/bin/cat"], io=io.config, id="shared")
        await process.start()
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(b"first\n")
        assert await process.stdout.receive() == b"first\n"
        recorded = (await task.load_exec("shared")).io
        io.close()
        async with attach_fifos(recorded) as attached:
            found = await task.load_exec("shared", attached.config)
            assert found.pid == process.pid
            assert found.stdin is not None
            assert found.stdout is not None
            await found.stdin.send(b"second\n")
            await found.close_stdin()
            assert b"".join([chunk async for chunk in found.stdout]) == b"second\n"
            assert (await found.wait()).code == 0
            await found.delete()
