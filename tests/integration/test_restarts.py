"""Containers that the daemon itself starts again, as their policy says, until somebody stops them."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, Container, Image, Task, connect, deleting, json_file_log
from containerd_py.daemon import Daemon, open_daemon
from containerd_py.errors import InvalidArgumentError, NotFoundError, NotSupportedError
from containerd_py.services.tasks import TaskState

SLEEP = ["/bin/sleep", "1000"]
PATIENCE = 20.0  # seconds that something may take which the daemon does by itself
MONITORS = {
    "1.6": "io.containerd.internal.v1.restart",
    "1.7": "io.containerd.internal.v1.restart",
    "2.1": "io.containerd.monitor.container.v1.restart",
}


@pytest.fixture
async def daemon(daemon_line: str, daemon_bin: Path, tmp_path: Path) -> AsyncIterator[Daemon]:
    """Lend a daemon whose restart monitor does not take 10 seconds."""
    plugins = {MONITORS[daemon_line]: {"interval": "100ms"}}
    binary, log_path = daemon_bin / "containerd", tmp_path / "containerd.log"
    async with open_daemon(containerd=binary, log_path=log_path, plugins=plugins) as daemon:
        yield daemon


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


async def running_again(container: Container, before: int) -> Task:
    """Wait for the daemon to start it once more."""
    with anyio.fail_after(PATIENCE):
        while True:
            try:
                task = await container.load_task()
                if task.pid not in (0, before) and (await task.status()).state is TaskState.RUNNING:
                    return task
            except NotFoundError:
                pass  # between two tasks
            await anyio.sleep(0.05)


async def started(container: Container) -> Task:
    task = await container.create_task()
    await task.start()
    return task


async def test_it_runs_again_until_it_is_stopped(client: Client, busybox: Image):
    """A task that is killed comes back, time and again; one that is stopped does not, before it is started anew."""
    container = await client.create_container(image=busybox, args=SLEEP, restart="always")
    async with deleting(container):
        task = await started(container)
        await task.kill(signal.SIGKILL)
        second = await running_again(container, task.pid)
        await second.kill(signal.SIGKILL)
        third = await running_again(container, second.pid)
        assert (await third.stop(grace=0)).code == 137
        await stays_gone(container)
        fourth = await started(container)
        await fourth.kill(signal.SIGKILL)
        await (await running_again(container, fourth.pid)).delete(force=True)
        await stays_gone(container)


async def stays_gone(container: Container) -> None:
    """See the monitor look several times and do nothing."""
    await anyio.sleep(0.5)
    with pytest.raises(NotFoundError):
        await container.load_task()


@pytest.mark.lines("1.7", "2.1")
async def test_on_failure_counts(client: Client, busybox: Image):
    """A task that fails is started again so many times and no more; success is an end."""
    container = await client.create_container(
        image=busybox, args=shell("echo x >>/runs; exit 7"), restart="on-failure:2"
    )
    async with deleting(container):
        await started(container)
        with anyio.fail_after(PATIENCE):
            while (await container.labels()).get("containerd.io/restart.count") != "2":
                await anyio.sleep(0.05)
            while [status.state for status in await client.tasks.list()] != [TaskState.STOPPED]:
                await anyio.sleep(0.05)
        await anyio.sleep(0.5)
        task = await container.load_task()
        assert (await task.delete()).code == 7
        async with container.copy_out("/runs") as runs:
            assert b"x\nx\nx\n\0" in b"".join([piece async for piece in runs])
    container = await client.create_container(image=busybox, args=["/bin/true"], restart="on-failure")
    async with deleting(container), deleting(await container.create_task()) as task:
        await task.start()
        await task.wait()
        await anyio.sleep(0.5)
        assert (await container.load_task()).pid == task.pid


@pytest.mark.lines("1.6")
async def test_an_old_daemon_refuses_what_it_cannot_do(client: Client, busybox: Image):
    """containerd 1.6 would start it again whatever it ended with."""
    with pytest.raises(NotSupportedError, match=r"1\.7"):
        await client.create_container(image=busybox, args=SLEEP, restart="on-failure")
    assert await client.list_containers() == []


async def test_the_log_goes_on(client: Client, busybox: Image, tmp_path: Path):
    """What is written after the daemon has started it again is in the same log; programs may have gone meanwhile."""
    container = await client.create_container(image=busybox, args=shell("echo hello; exit 1"), restart="unless-stopped")
    async with deleting(container):
        task = await container.create_task(io=json_file_log(tmp_path / "log"))
        await task.start()
        with anyio.fail_after(PATIENCE):
            while (tmp_path / "log" / f"{container.id}-json.log").read_bytes().count(b"hello") < 3:
                await anyio.sleep(0.05)
        await task.delete(force=True)
        async with container.logs() as lines:
            assert {line.data async for line in lines} == {b"hello\n"}


@pytest.mark.lines("2.1")
async def test_after_a_daemons_restart(client: Client, busybox: Image, daemon: Daemon):
    """A task whose end the daemon could not see is started again when it is back."""
    container = await client.create_container(image=busybox, args=SLEEP, restart="unless-stopped")
    async with deleting(container):
        task = await started(container)
        await daemon.terminate()
        os.kill(task.pid, signal.SIGKILL)
        await daemon.restart()
        await (await running_again(container, task.pid)).stop(grace=0)


@pytest.mark.lines("2.1")
async def test_a_run_with_a_policy_ends_all_the_same(client: Client, busybox: Image):
    """What was lent is gone at the block's end, also where the daemon has started it again meanwhile."""
    async with client.open_run(busybox, SLEEP, restart="always") as task:
        container = await client.load_container(task.id)
        await task.kill(signal.SIGKILL)
        await running_again(container, task.pid)
    assert await client.list_containers() == []
    assert await client.tasks.list() == []


@pytest.mark.lines("2.1")
async def test_policies_that_are_none(client: Client, busybox: Image):
    """An unknown policy is refused before anything is made; "no" is none."""
    for policy in ("", "sometimes", "on-failure:", "on-failure:0", "always:3", "on-failure:x", "always\n"):
        with pytest.raises(InvalidArgumentError, match="policy"):
            await client.create_container(image=busybox, args=SLEEP, restart=policy)
    assert await client.list_containers() == []
    async with deleting(await client.create_container(image=busybox, args=SLEEP, restart="no")) as container:
        assert not [key for key in await container.labels() if "restart" in key]


@pytest.mark.lines("2.1")
async def test_a_daemon_without_a_monitor(daemon_bin: Path, seeded_images, tmp_path: Path, namespace: str):
    """Where nothing would start it again, that is told."""
    disabled = ["io.containerd.monitor.container.v1.restart"]
    async with (
        open_daemon(
            containerd=daemon_bin / "containerd", log_path=tmp_path / "log", disabled_plugins=disabled
        ) as daemon,
        connect(daemon.address, namespace=namespace) as client,
        deleting(await client.pull(seeded_images.busybox, via="client")) as image,
    ):
        with pytest.raises(NotSupportedError, match="restart"):
            await client.create_container(image=image, args=SLEEP, restart="always")
