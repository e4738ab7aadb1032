"""The leak oracle sees everything a client can leave in a daemon and on its host, and can wipe it away."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from grpclib.client import Channel

from containerd_py._generated.containerd.services.content.v1 import ContentStub, WriteAction, WriteContentRequest
from containerd_py.daemon import Daemon
from containerd_py.testing.images import busybox_layout
from tests.harness.leaks import (
    LeakError,
    assert_namespace_empty,
    leak_oracle,
    list_namespace,
    namespace_is_empty,
    wipe_namespace,
)

pytestmark = pytest.mark.anyio
Ctr = Callable[..., Awaitable[str]]
IMAGE = "localhost/busybox:latest"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack a small image as an archive that ctr imports."""
    folder = tmp_path_factory.mktemp("archive")
    layout = busybox_layout(folder / "busybox")
    archive = folder / "busybox.tar"
    anyio.run(anyio.run_process, ["tar", "--directory", str(layout.folder), "--create", "--file", str(archive), "."])
    return archive


async def test_a_clean_body_passes(daemon: Daemon, namespace: str, ctr: Ctr, archive: Path) -> None:
    """Whoever removes what he made leaks nothing, garbage that the daemon collects by itself included."""
    async with leak_oracle(daemon=daemon, namespace=namespace):
        await ctr("images", "import", str(archive))
        await ctr("images", "delete", IMAGE)
    await wipe_namespace(daemon, namespace)


async def test_a_lease_is_found(daemon: Daemon, namespace: str, ctr: Ctr) -> None:
    """A lease left behind is named in the error."""
    with pytest.raises(LeakError, match=r"lease: forgotten") as caught:
        async with leak_oracle(daemon=daemon, namespace=namespace, settle=0.1):
            await ctr("leases", "create", "--id", "forgotten")
    assert set(caught.value.found) == {"lease"}
    await wipe_namespace(daemon, namespace)
    assert await namespace_is_empty(daemon, namespace)


async def test_an_image_is_found_with_what_it_holds(daemon: Daemon, namespace: str, ctr: Ctr, archive: Path) -> None:
    """An image keeps its content and snapshots, so they are leaks as well."""
    with pytest.raises(LeakError) as caught:
        async with leak_oracle(daemon=daemon, namespace=namespace, settle=0.1):
            await ctr("images", "import", str(archive))
    assert set(caught.value.found) == {"image", "content", "snapshot"}
    assert set(caught.value.found["image"]) == {IMAGE}
    with pytest.raises(LeakError):
        await assert_namespace_empty(daemon, namespace, settle=0.1)
    await assert_namespace_empty(daemon, namespace, allow=("image", "content", "snapshot"))
    await wipe_namespace(daemon, namespace)
    await assert_namespace_empty(daemon, namespace)
    assert namespace not in (await ctr("namespaces", "list", "--quiet")).split()


async def test_an_ingest_is_found(daemon: Daemon, namespace: str) -> None:
    """A half-written blob is a leak."""

    channel = Channel(path=daemon.address)
    request = WriteContentRequest(action=WriteAction.WRITE, ref="half", total=100, data=b"x" * 50)
    with pytest.raises(LeakError, match=r"ingest: half  \(50 of 100 bytes\)"):
        async with leak_oracle(daemon=daemon, namespace=namespace, settle=0.1):
            content = ContentStub(channel, metadata={"containerd-namespace": namespace})
            offsets = {response.offset async for response in content.write([request])}
            channel.close()
    assert offsets == {50}
    await wipe_namespace(daemon, namespace)
    await assert_namespace_empty(daemon, namespace)


async def test_a_running_container_is_found_and_wiped(daemon: Daemon, namespace: str, ctr: Ctr, archive: Path) -> None:
    """A container left running shows as task, container, snapshot, shim, mount and cgroup; a wipe ends them all."""
    await ctr("images", "import", str(archive))
    with pytest.raises(LeakError) as caught:
        async with leak_oracle(daemon=daemon, namespace=namespace, settle=0.1):
            await ctr("run", "--null-io", "--detach", IMAGE, "left", "/bin/sleep", "1000")
    found = caught.value.found
    assert set(found) >= {"task", "container", "snapshot", "shim", "mount"}
    assert list(found["task"]) == ["left"]
    assert "RUNNING" in found["task"]["left"]
    assert any(name.endswith("left/rootfs") for name in found["mount"])
    assert [name for name in found["cgroup"] if name.endswith(f"{namespace}/left")]

    await ctr("tasks", "pause", "left")
    await wipe_namespace(daemon, namespace)

    await assert_namespace_empty(daemon, namespace)
    assert await list_namespace(daemon, namespace) == {}


async def test_expected_leftovers_pass(daemon: Daemon, namespace: str, ctr: Ctr) -> None:
    """A test may say what it leaves."""
    async with leak_oracle(daemon=daemon, namespace=namespace) as oracle:
        oracle.expect("lease", "mine")
        await ctr("leases", "create", "--id", "mine-1")
    await wipe_namespace(daemon, namespace)


async def test_other_namespaces_are_told(daemon: Daemon, namespace: str, ctr: Ctr) -> None:
    """A namespace that a test made besides its own is a leak."""
    other = f"{namespace}-other"
    with pytest.raises(LeakError, match=f"namespace: {other}"):
        async with leak_oracle(daemon=daemon, namespace=namespace, settle=0.1):
            await ctr("namespaces", "create", other)
    await ctr("namespaces", "remove", other)


async def test_a_dead_daemon_cannot_be_declared_clean(daemon: Daemon, namespace: str, tmp_path: Path) -> None:
    """When the daemon cannot be asked, the oracle fails."""

    class Elsewhere:
        address = str(tmp_path / "nothing")
        root = tmp_path
        state = tmp_path

    with pytest.raises(OSError, match="No such file"):
        async with leak_oracle(daemon=Elsewhere(), namespace=namespace):
            pass
