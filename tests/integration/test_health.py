"""Waiting for a container to do its work."""

import json

import anyio
import pytest

from containerd_py import Client, HealthCheck, Image, deleting
from containerd_py.errors import NotFoundError, UnhealthyError

FAST = {"interval": 0.05, "start_interval": 0.05}


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


async def test_it_becomes_healthy(client: Client, busybox: Image):
    """The check runs until it succeeds; what it found before is told."""
    check = HealthCheck(command="test -e /ready || { echo not yet >&2; exit 3; }", start_period=30, **FAST)
    args = shell("sleep 0.5; touch /ready; sleep 1000")
    async with (
        deleting(await client.create_container(image=busybox, args=args, health_check=check)) as container,
        deleting(await container.create_task()) as task,
    ):
        assert await container.health_check() == check
        label = json.loads((await container.labels())["nerdctl/healthcheck"])
        assert (label["Test"][:2], label["Interval"], label["Retries"]) == (["CMD", "/bin/sh"], 50_000_000, 3)
        await task.start()
        health = await container.wait_healthy()
        assert (health.status, health.failing_streak) == ("healthy", 0)
        assert health.probes[-1].exit_code == 0
        assert [probe.output for probe in health.probes[:-1]] == [b"not yet\n"] * (len(health.probes) - 1)
        assert (await container.wait_healthy()).status == "healthy"


@pytest.mark.lines("2.1")
async def test_what_makes_it_unhealthy(client: Client, busybox: Image):
    """So many failures in a row, a check that hangs or cannot be run: each is told, with what it said last."""
    async with (
        deleting(await client.create_container(image=busybox, args=["/bin/sleep", "1000"])) as container,
        deleting(await container.create_task()) as task,
    ):
        with pytest.raises(NotFoundError, match="no health check"):
            await container.wait_healthy()
        await task.start()
        with pytest.raises(UnhealthyError, match="ended with 4, 2 times in a row: out of order") as raised:
            await container.wait_healthy(HealthCheck(command="echo out of order; exit 4", retries=2, **FAST))
        assert (raised.value.exit_code, raised.value.failing_streak) == (4, 2)
        with pytest.raises(UnhealthyError, match=r"gave up after 0\.2 s"):
            await container.wait_healthy(HealthCheck(command="sleep 100", bound=0.2, retries=1, **FAST))
        with pytest.raises(UnhealthyError, match=r"could not be run.*no-such-command"):
            await container.wait_healthy(HealthCheck(command=["/no-such-command"], retries=1, **FAST))
        assert not (await container.probe(HealthCheck(command="exit 1"))).is_success
        assert (await container.probe(HealthCheck(command=["/bin/true"]))).is_success
        assert len(await task.pids()) == 1  # no check is left behind


@pytest.mark.lines("2.1")
async def test_a_task_that_ends_never_becomes_healthy(client: Client, busybox: Image):
    """The end of the task is noticed at once, not with the next check."""
    check = HealthCheck(command="exit 1", interval=1000, start_interval=1000)
    async with (
        deleting(await client.create_container(image=busybox, args=["/bin/sleep", "0.3"])) as container,
        deleting(await container.create_task()) as task,
    ):
        await task.start()
        with anyio.fail_after(20), pytest.raises(UnhealthyError, match="ended before"):
            await container.wait_healthy(check)
        with anyio.fail_after(20), pytest.raises(UnhealthyError, match="ended before"):
            await container.wait_healthy(check)
    with pytest.raises(NotFoundError):
        await container.wait_healthy(check)


@pytest.mark.lines("2.1")
async def test_a_paused_container_is_not_blamed(client: Client, busybox: Image):
    """While it is frozen no check is run; afterwards it goes on."""
    async with (
        deleting(await client.create_container(image=busybox, args=["/bin/sleep", "1000"])) as container,
        deleting(await container.create_task()) as task,
    ):
        await task.start()
        await task.pause()
        done = []

        async def wait() -> None:
            done.append(await container.wait_healthy(HealthCheck(command=["/bin/true"], retries=1, **FAST)))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(0.3)
            assert done == []
            await task.resume()
        assert len(done[0].probes) == 1
