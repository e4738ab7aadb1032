"""A cleanup undoes what lives in a daemon, in the order that it asks for."""

import anyio
import pytest

from containerd_py import Cleanup, Client, FailedPreconditionError, Image

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
