"""Limits of a container, changed for the task that runs and for the next one."""

import pytest

from containerd_py import Client, ContainerdError, Image, NotFoundError, deleting
from containerd_py.oci.spec_options import with_memory_limit, with_pids_limit

SLEEP = ["/bin/sleep", "1000"]
LIMITS = [with_pids_limit(100), with_memory_limit(64 * 2**20)]


async def test_limits_change_now_and_later(client: Client, busybox: Image):
    """The running task has the new limits, the next one too, and what was not mentioned stays."""
    async with deleting(await client.create_container(image=busybox, args=SLEEP, spec_options=LIMITS)) as container:
        async with deleting(await container.create_task()) as task:
            await task.start()
            spec = await container.update_resources({"pids": {"limit": 50}})
            assert spec == await container.spec()
            assert (await task.metrics()).pids.limit == 50
        async with deleting(await container.create_task()) as task:
            await task.start()
            metrics = await task.metrics()
            assert (metrics.pids.limit, metrics.memory.limit) == (50, 64 * 2**20)


async def test_limits_change_without_a_task(client: Client, busybox: Image):
    """A container that does not run, or whose task has ended, has its limits for the next time."""
    container = await client.create_container(image=busybox, args=["/bin/true"], spec_options=LIMITS)
    async with deleting(container):
        async with deleting(await container.create_task()) as task:
            await task.start()
            await task.wait()
            await container.update_resources({"pids": {"limit": 60}})
        await container.update_resources({"memory": {"limit": 32 * 2**20}})
        resources = (await container.spec())["linux"]["resources"]
        assert (resources["pids"], resources["memory"]["limit"]) == ({"limit": 60}, 32 * 2**20)
    with pytest.raises(NotFoundError):
        await container.update_resources({"pids": {"limit": 1}})


async def test_what_is_refused_is_not_written_down(client: Client, busybox: Image):
    """Limits that the kernel cannot set leave the spec as it was."""
    async with (
        deleting(await client.create_container(image=busybox, args=SLEEP, spec_options=LIMITS)) as container,
        deleting(await container.create_task()) as task,
    ):
        await task.start()
        before = await container.spec()
        with pytest.raises(ContainerdError):
            await container.update_resources({"cpu": {"cpus": "100000"}})
        assert await container.spec() == before
