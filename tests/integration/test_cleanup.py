"""A cleanup undoes what lives in a daemon, in the order that it asks for."""

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from containerd_py import (
    Cleanup,
    Client,
    FailedPreconditionError,
    Image,
    InvalidArgumentError,
    deleting,
    json_file_log,
)
from tests.integration.other_program import open_other_program

SLEEP = ["/bin/sleep", "1000"]


async def is_empty(client: Client) -> bool:
    tasks, containers = await client.tasks.list(), await client.list_containers()
    active = [info.name for info in await client.snapshotter("overlayfs").list() if not info.is_committed]
    return not tasks and not containers and not active


async def test_everything_goes_in_order(client: Client, busybox: Image, tmp_path):
    """Running task, container, snapshots and state directory are gone afterwards, in whatever order they were added."""
    state = tmp_path / "state"
    state.mkdir()
    async with Cleanup() as cleanup:
        container = await client.create_container(image=busybox, args=SLEEP)
        task = cleanup.add(await container.create_task())
        cleanup.add(container)
        cleanup.add_directory(state)
        await task.start()
        await client.snapshotter("overlayfs").prepare("extra", parent=await busybox.chain_id())
        cleanup.add_snapshot(client.snapshotter("overlayfs"), "extra")
        assert not await is_empty(client)
    assert await is_empty(client)
    assert not state.exists()


async def test_what_cannot_be_deleted_is_refused_at_once(client: Client):
    """A forgotten await, or something else than a handle, is told before the block begins, not at its end."""
    with pytest.raises(InvalidArgumentError, match="load_container returns: await it first"):
        async with deleting(client.load_container("x")):  # type: ignore[type-var]
            pytest.fail("the block has begun")
    with pytest.raises(InvalidArgumentError, match="'x' has nothing to delete"):
        async with deleting("x"):  # type: ignore[type-var]
            pytest.fail("the block has begun")


async def test_an_exec_goes_before_its_task(client: Client, busybox: Image):
    """A running exec is killed and deleted while its task is still there."""
    async with Cleanup() as cleanup:
        container = cleanup.add(await client.create_container(image=busybox, args=SLEEP))
        task = cleanup.add(await container.create_task())
        await task.start()
        async with task.open_exec(SLEEP) as process:
            cleanup.add(process)
    assert await is_empty(client)


async def test_a_cancelled_block_is_undone(client: Client, busybox: Image):
    """A time limit that strikes in the block leaves nothing behind."""
    with anyio.move_on_after(0.5) as scope:
        async with Cleanup() as cleanup:
            container = cleanup.add(await client.create_container(image=busybox, args=SLEEP))
            await cleanup.add(await container.create_task()).start()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert await is_empty(client)


async def test_what_fails_is_told_and_the_rest_is_undone(client: Client, busybox: Image):
    """A container whose task nobody added cannot go: that is raised, and the other container has gone."""
    with pytest.raises(ExceptionGroup, match="1 of 2 things") as raised:
        async with Cleanup() as cleanup:
            container = cleanup.add(await client.create_container("stays", image=busybox, args=SLEEP))
            cleanup.add(await client.create_container("goes", image=busybox, args=SLEEP))
            task = await container.create_task()
    assert raised.group_contains(FailedPreconditionError)
    assert [left.id for left in await client.list_containers()] == ["stays"]
    await task.delete(force=True)
    await container.delete()


async def test_what_is_kept_stays(client: Client, busybox: Image):
    """After keep, the container outlives the block."""
    async with Cleanup() as cleanup:
        container = cleanup.add(await client.create_container(image=busybox, args=SLEEP))
        cleanup.keep()
    assert (await container.record()).id == container.id
    await container.delete()


@pytest.mark.lines("2.1")
async def test_what_a_container_has_outside_of_the_daemon_goes_too(client: Client, busybox: Image, data_root: Path):
    """Task, container, snapshot, own volume, directory with its log, and name: all are gone at the end of the block."""
    async with Cleanup() as cleanup:
        container = await client.create_container(image=busybox, args=SLEEP, name="web", volumes=["/own", "keep:/keep"])
        cleanup.add(container)
        await cleanup.add(await container.create_task(io=json_file_log())).start()
        assert [path.name for path in data_root.glob("*/names/*/*")] == ["web"]
    assert await is_empty(client)
    assert [path.name for path in data_root.glob("*/*/*/*")] == ["keep"]
    await client.volumes.delete("keep")


@pytest.mark.lines("2.1")
async def test_what_is_mounted_in_a_directory_is_told(client: Client, busybox: Image, data_root: Path):
    """A directory in which something is mounted stays with its container, in the group of failures; the rest goes."""
    with pytest.raises(ExceptionGroup, match="1 of 3 things") as raised:
        async with Cleanup() as cleanup:
            stays = cleanup.add(await client.create_container(image=busybox, args=SLEEP, name="stays"))
            cleanup.add(await client.create_container(image=busybox, args=SLEEP, name="goes", volumes=["/own"]))
            mounted = Path((await stays.labels())["nerdctl/state-dir"]) / "shm"
            mounted.mkdir()
            await anyio.run_process(["mount", "-t", "tmpfs", "none", str(mounted)])
            cleanup.add_step("counting", anyio.lowlevel.checkpoint)
    await anyio.run_process(["umount", str(mounted)])
    assert raised.group_contains(FailedPreconditionError, match="is mounted there")
    assert [left.id for left in await client.list_containers()] == [stays.id]
    assert [path.name for path in data_root.glob("*/names/*/*")] == ["stays"]
    await stays.delete()
    assert list(data_root.glob("*/*/*/*")) == []


@pytest.mark.lines("2.1")
async def test_a_namespace_that_a_killed_program_has_left(client: Client, busybox: Image, data_root: Path):
    """Whatever the predecessor was doing, its directories and own volumes are cleared away with its containers."""
    step = "containerd_py.services.containers:ContainersService.create:before"
    async with open_other_program(client, "create", busybox.name, "half", step) as program:
        assert await program.go() == ""
    async with open_other_program(client, "live", busybox.name, "web") as program:
        await program.kill_after(0.6)
    await client.create_container(image=busybox, args=SLEEP, name="whole", volumes=["/own"])
    own = await client.volumes.create()
    await anyio.sleep(0.5)  # for what the killed one had asked for
    async with Cleanup() as cleanup:
        await cleanup.add_namespace(client.services)
    assert await is_empty(client)
    assert own not in await client.volumes.list()
    assert list(data_root.glob("*/containers/*/*")) == []
    assert list(data_root.glob("*/volumes/*/*")) == []
