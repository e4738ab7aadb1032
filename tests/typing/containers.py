"""Checked by mypy, never run: what containers, tasks, runs and execs give."""

import signal
from collections.abc import Mapping
from typing import assert_type

from anyio.abc import ByteReceiveStream, ByteSendStream

from containerd_py import (
    Client,
    CompletedProcess,
    Container,
    ContainerRecord,
    ExitStatus,
    FifoIO,
    Health,
    HealthCheck,
    Image,
    IOConfig,
    Metrics,
    Probe,
    Process,
    ProcessInfo,
    ProcessStatus,
    Task,
    Timestamp,
    Volume,
    VolumeMount,
    deleting,
    for_each,
    log_file,
    open_fifos,
)
from containerd_py.oci.runtime_spec import Spec
from containerd_py.oci.spec_options import SpecOption, compose, with_env, with_memory_limit


async def containers(client: Client, image: Image) -> None:
    container = await client.create_container(
        "web",
        image=image,
        args=["sh"],
        env={"A": "1"},
        mounts=[{"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "ro"]}],
        spec_options=[with_memory_limit(64 * 2**20)],
        network="host",
    )
    assert_type(container, Container)
    assert_type(container.id, str)
    assert_type(await container.record(), ContainerRecord)
    assert_type(await container.spec(), Spec)
    assert_type(await container.image(), Image)
    assert_type(await container.labels(), Mapping[str, str])
    assert_type(await client.list_containers(), list[Container])
    await client.create_container(image=image, network=7)  # type: ignore[arg-type]


async def belongings(client: Client, image: Image) -> None:
    check = HealthCheck(command="test -e /ready", interval=0.5)
    volumes: list[VolumeMount | str] = [VolumeMount(destination="/data", name="keep"), "/own"]
    container = await client.create_container(
        image=image, name="web", volumes=volumes, image_volumes=True, restart="always", health_check=check
    )
    assert_type(await container.name(), str | None)
    assert_type(await client.load_container_named("web"), Container)
    assert_type(await container.wait_healthy(), Health)
    assert_type(await container.probe(check), Probe)
    assert_type(await client.volumes.create("keep", labels={"a": "b"}), Volume)
    assert_type(await client.volumes.list(), list[Volume])
    await client.create_container(image=image, restart=True)  # type: ignore[arg-type]


async def tasks(container: Container) -> None:
    async with open_fifos(stdin=False) as io:
        assert_type(io, FifoIO)
        assert_type(io.config, IOConfig)
        task = await container.create_task(io=io.config)
        assert_type(task, Task)
    assert_type(await container.create_task(io=log_file("/var/log/web.log")), Task)
    assert_type(await container.load_task(), Task)
    async with deleting(task) as lent:
        assert_type(lent, Task)
        assert_type(task.pid, int)
        assert_type(task.stdin, ByteSendStream | None)
        assert_type(task.stdout, ByteReceiveStream | None)
        await task.kill(signal.SIGHUP, all=True)
        assert_type(await task.status(), ProcessStatus)
        assert_type(await task.pids(), list[ProcessInfo])
        assert_type(await task.metrics(), Metrics)
        assert_type(await task.stop(signal="SIGINT", grace=5), ExitStatus)
    status = await task.wait()
    assert_type(status.code, int)
    assert_type(status.exited_at, Timestamp | None)


async def runs(client: Client, image: Image) -> None:
    completed = await client.run(image, ["cat"], input=b"hello", check=False, user="nobody", read_only=True)
    assert_type(completed, CompletedProcess)
    assert_type(completed.stdout, bytes)
    assert_type(completed.exited_at, Timestamp | None)
    async with client.open_run("alpine", ["cat"], stdin=True, terminal=True) as task:
        assert_type(task, Task)
        assert_type(await task.run_exec(["id"], env=["A=1"]), CompletedProcess)
        async with task.open_exec(["sh"], stdin=True) as process:
            assert_type(process, Process)
            assert_type(await process.delete(force=True), ExitStatus)
    await client.run(image, ["cat"], timeout=3)  # type: ignore[call-arg]


async def _exit_code(client: Client, number: int) -> int:
    return (await client.run("alpine", ["true"], id=f"job-{number}")).exit_code


async def many(client: Client) -> None:
    async def one(number: int) -> int:
        return await _exit_code(client, number)

    assert_type(await for_each(range(10), one, limit=3), list[int])


def options() -> None:
    option = compose(with_env({"A": "1"}), with_memory_limit(2**20))
    assert_type(option, SpecOption)
    assert_type(option({"ociVersion": "1.2.0"}), Spec)
