"""A daemon whose files are not ours: what only needs its API works, what needs its files says so.

Another machine is played by a mount namespace in which the daemon's folders are hidden from us: the socket is all there
is.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from containerd_py import (
    Client,
    ContainerRecord,
    RemoteDaemonError,
    Runtime,
    TaskExit,
    connect,
    deleting,
    json_file_log,
    open_daemon,
    open_fifos,
    where,
)
from containerd_py.daemon import Daemon
from containerd_py.typeurl import RUNTIME_SPEC, TypedValue
from tests.conftest import SeededImages
from tests.harness.socket_proxy import open_proxy

RUNC = Runtime(name="io.containerd.runc.v2")
SPEC = TypedValue(type_url=RUNTIME_SPEC, value=b'{"ociVersion":"1.0.2","linux":{}}')
USER = 1000


@asynccontextmanager
async def hidden_daemon(daemon_bin: Path, folder: Path, hidden: Path) -> AsyncIterator[Daemon]:
    """Run a daemon in a mount namespace of its own, where `hidden` is a folder that nobody else sees."""
    root = folder / "root"
    for needed in (hidden, root):
        needed.mkdir(parents=True, exist_ok=True)
    wrapper = folder / "containerd"
    script = f'mount -t tmpfs -o mode=0700 tmpfs "{hidden}" && exec "{daemon_bin}/containerd" "$@"'
    wrapper.write_text(f"#!/bin/sh\nexec unshare --mount --propagation private sh -c '{script}' sh \"$@\"\n")
    wrapper.chmod(0o755)
    path = f"{daemon_bin}:{os.environ['PATH']}:/usr/sbin:/sbin"
    async with open_daemon(containerd=wrapper, root=root, env={"PATH": path}, log_path=folder / "log") as daemon:
        yield daemon


@pytest.fixture
async def remote(daemon_bin: Path, tmp_path: Path, namespace: str) -> AsyncIterator[Client]:
    """Lend a client, through a relay, of a daemon whose root it cannot see."""
    async with (
        hidden_daemon(daemon_bin, tmp_path, tmp_path / "root") as daemon,
        open_proxy(daemon.address) as relay,
        connect(relay.address, namespace=namespace) as client,
    ):
        yield client


async def test_the_api_works_from_afar(remote: Client, seeded_images: SeededImages, namespace: str) -> None:
    """Images, content, snapshots, records, leases and events need no files of the daemon's."""
    async with remote.events.subscribe(where("namespace").equals(namespace)) as envelopes:
        image = await remote.pull(seeded_images.busybox, via="client")
        assert await image.is_unpacked()
        async with remote.hold_lease() as leased:
            await leased.containers.create(ContainerRecord(id="afar", image=image.name, runtime=RUNC, spec=SPEC))
        (container,) = await remote.list_containers()
        assert (await container.record()).image == image.name
        await container.delete()
        await remote.events.publish("/tasks/exit", TaskExit(container_id="afar"))
        with anyio.fail_after(20):
            async for envelope in envelopes:
                if isinstance(envelope.event, TaskExit):
                    break
        await image.delete(synchronous=True)


async def test_what_needs_files_says_so(remote: Client, seeded_images: SeededImages) -> None:
    """Containers, FIFOs and copies are refused with one typed error, and nothing of them is left."""
    image = await remote.pull(seeded_images.busybox, via="client")
    with pytest.raises(RemoteDaemonError, match="not to be seen here"):
        await remote.create_container(image=image)
    with pytest.raises(RemoteDaemonError, match="another machine"):
        await remote.run(image, ["true"])
    await remote.containers.create(ContainerRecord(id="afar", image=image.name, runtime=RUNC, spec=SPEC))
    container = await remote.load_container("afar")
    async with open_fifos() as io:
        with pytest.raises(RemoteDaemonError, match="FIFOs"):
            await container.create_task(io=io.config)
    with pytest.raises(RemoteDaemonError, match="files"):
        async with container.copy_out("/etc/passwd"):
            pytest.fail("entered")
    with pytest.raises(RemoteDaemonError, match="files"):
        await container.changes()
    with pytest.raises(RemoteDaemonError, match="log is written"):
        await container.create_task(io=json_file_log())
    with pytest.raises(RemoteDaemonError, match="log is read"):
        async with container.logs():
            pytest.fail("entered")
    with pytest.raises(RemoteDaemonError, match="network"):
        await remote.networks.create("afar")
    assert (await container.record()).labels == {}
    assert await remote.tasks.list() == []
    await container.delete()
    await image.delete(synchronous=True)


async def test_a_relay_to_this_host_is_no_obstacle(daemon: Daemon, namespace: str, seeded_images: SeededImages) -> None:
    """What counts is whose files they are, not through how many hands the calls go."""
    async with (
        open_proxy(daemon.address) as relay,
        connect(relay.address, namespace=namespace) as client,
        deleting(await client.pull(seeded_images.busybox, via="client")) as image,
    ):
        assert (await client.run(image, ["echo", "hello"])).stdout == b"hello\n"


@pytest.mark.lines("2.1")
async def test_another_containerd_in_the_same_place(
    remote: Client, seeded_images: SeededImages, tmp_path: Path
) -> None:
    """A containerd of this machine with the same root as the far one is not taken for it."""
    uuid = tmp_path / "root" / "io.containerd.grpc.v1.introspection" / "uuid"
    uuid.parent.mkdir()
    uuid.write_text("00000000-0000-4000-8000-000000000000")
    image = await remote.pull(seeded_images.busybox, via="client")
    with pytest.raises(RemoteDaemonError, match="belongs to another containerd"):
        await remote.run(image, ["true"])
    await image.delete(synchronous=True)
    uuid.unlink()
    uuid.parent.rmdir()


@pytest.mark.lines("1.7", "2.1")
async def test_fifos_where_the_daemon_sees_others(
    daemon_bin: Path, tmp_path: Path, namespace: str, seeded_images: SeededImages
) -> None:
    """A daemon that shares its root with us but not the folder of FIFOs has that told; in another folder it works."""
    hidden, shared = tmp_path / "run", tmp_path / "shared"
    async with (
        hidden_daemon(daemon_bin, tmp_path, hidden) as daemon,
        connect(daemon.address, namespace=namespace) as client,
        deleting(await client.pull(seeded_images.busybox, via="client")) as image,
        deleting(await client.create_container(image=image, args=["true"])) as container,
    ):
        async with open_fifos(directory=hidden / "fifo") as io:
            with pytest.raises(RemoteDaemonError, match="mount namespace"):
                await container.create_task(io=io.config)
        async with open_fifos(directory=shared) as io:
            task = await container.create_task(io=io.config)
            await task.start()
            async with open_fifos(directory=hidden / "fifo") as other:
                with pytest.raises(RemoteDaemonError, match="mount namespace"):
                    await container.load_task(other.config)
            assert (await container.load_task()).io.stdout == io.config.stdout
            await task.wait()
            await task.delete()
