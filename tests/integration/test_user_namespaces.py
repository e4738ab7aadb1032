"""Containers whose root is nobody on the host, on all lines: with ID maps or a copy, as the snapshotter can."""

import os
import struct
from pathlib import Path

import pytest

from containerd_py import (
    Client,
    FailedPreconditionError,
    Image,
    InvalidArgumentError,
    NotSupportedError,
    PermissionDeniedError,
    UserNamespace,
    deleting,
)
from containerd_py._flows import remapped_snapshot
from tests.harness.cancel import cancel_at as cancel_at_point
from tests.integration.copies import resting, running

IDS = UserNamespace.of(100_000)
LOOK = "id -u; cat /proc/self/uid_map; stat -c '%u:%g %a' / /bin/busybox; echo x > /made; stat -c %u:%g /made"


async def test_root_is_somebody_else(client: Client, busybox: Image):
    """Inside it is root and owns the image's files; its output is its own, too."""
    completed = await client.run(
        busybox, ["/bin/sh", "-c", f"{LOOK}; echo again > /dev/stdout"], user_namespace=IDS, check=False
    )
    lines = completed.stdout.decode().split("\n")
    assert completed.exit_code == 0, completed.stderr
    assert lines[1].split() == ["0", "100000", "65536"]
    assert [lines[0], *lines[2:]] == ["0", "0:0 755", "0:0 755", "0:0", "again", ""]


@pytest.mark.lines("2.1")
async def test_the_host_sees_an_unprivileged_process(client: Client, busybox: Image):
    """Outside, the process and what it makes are the mapped user's."""
    async with running(client, busybox, user_namespace=IDS) as (_, task):
        await task.run_exec(["/bin/touch", "/made"])
        status = Path(f"/proc/{task.pid}/status").read_text()
        assert "Uid:\t100000\t100000\t100000\t100000" in status
        assert Path(f"/proc/{task.pid}/root/made").stat().st_uid == 100_000


async def test_the_copy_is_shared_and_collected(client: Client, busybox: Image):
    """Where files must be copied, containers with the same maps share one copy, and it goes after the last of them."""
    snapshots = client.snapshotter("overlayfs")
    async with resting(client, busybox, user_namespace=IDS), resting(client, busybox, user_namespace=IDS) as second:
        copies = [info.name for info in await snapshots.list() if info.name.startswith("containerd-py-remapped-")]
        (plugin,) = await client.introspection.plugins(["type==io.containerd.snapshotter.v1,id==overlayfs"])
        assert len(copies) == (0 if "remap-ids" in plugin.capabilities else 1)
        info = await snapshots.stat((await second.record()).snapshot_key)
        assert info.parent == (copies[0] if copies else await busybox.chain_id())
        report = await client.cleanup_snapshots("overlayfs", dry_run=True)
        assert not report.removed
    await client.cleanup_snapshots("overlayfs")
    assert not [info for info in await snapshots.list() if info.name.startswith("containerd-py-remapped-")]


@pytest.mark.lines("1.7")
async def test_set_id_bits_stay_and_capabilities_are_the_namespaces(client: Client, busybox: Image, tmp_path: Path):
    """In a copy set-ID programs keep their bit, and capabilities of files hold in the container alone."""
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "probe").write_text("x")
    (folder / "probe").chmod(0o4755)
    os.link(folder / "probe", folder / "other")
    (folder / "capable").write_text("x")
    os.setxattr(folder / "capable", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
    async with resting(client, busybox) as builder:
        await builder.copy_from_local(folder, "/new", owner="source")
        image = await client.commit(builder, "example.com/set-id:1")
    async with deleting(image), running(client, image, user_namespace=IDS) as (_, task):
        seen = await task.run_exec(["/bin/stat", "-c", "%u %a", "/new/probe", "/new/other"])
        capability = os.getxattr(f"/proc/{task.pid}/root/new/capable", "security.capability")
    assert seen.stdout == b"0 4755\n0 4755\n"
    assert struct.unpack("<IIIIII", capability) == (0x03000001, 1 << 10, 0, 0, 0, 100_000)


@pytest.mark.parametrize("cancel_at", range(1, 60, 12))
@pytest.mark.lines("1.7")
async def test_a_copy_that_is_cancelled_leaves_nothing(client: Client, busybox: Image, cancel_at: int):
    """Wherever the creation of a container with a copied image is cancelled, no snapshot stays."""
    namespace = UserNamespace.of(200_000)

    async def create() -> None:
        async with deleting(await client.create_container(image=busybox, user_namespace=namespace)):
            pass

    outcome = await cancel_at_point(create, cancel_at)
    outcome.check()
    await client.cleanup_snapshots("overlayfs")
    assert [info.name for info in await client.snapshotter("overlayfs").list()] == [await busybox.chain_id()]


@pytest.mark.lines("2.1")
async def test_multiple_ranges(client: Client, busybox: Image):
    """Root may be one host user and everybody else from another range."""
    ranges = [
        {"containerID": 0, "hostID": 50_000, "size": 1},
        {"containerID": 1, "hostID": 300_000, "size": 1000},
    ]
    several = UserNamespace(uids=ranges, gids=ranges)
    async with running(client, busybox, user_namespace=several) as (container, task):
        await task.run_exec(["/bin/sh", "-c", "echo x > /tmp/mine; chown 7:8 /tmp/mine"])
        status = Path(f"/proc/{task.pid}/root/tmp/mine").stat()
        assert (status.st_uid, status.st_gid) == (300_006, 300_007)
        async with container.copy_out("/tmp/mine") as archive:
            assert archive.status.owner == (7, 8)


@pytest.mark.parametrize(
    "ranges",
    [
        [],
        [{"containerID": 1, "hostID": 1, "size": 10}],
        [{"containerID": 0, "hostID": 1, "size": 0}],
        [{"containerID": 0, "hostID": 2**32 - 2, "size": 2}],
        [{"containerID": 0, "hostID": 1, "size": 10}, {"containerID": 5, "hostID": 100, "size": 10}],
        [{"containerID": 0, "hostID": 1, "size": 10}, {"containerID": 10, "hostID": 5, "size": 10}],
    ],
)
def test_maps_the_kernel_would_refuse_are_refused(ranges):
    """Ranges that are none, overlap, or leave root out are found before anything is made."""
    with pytest.raises(InvalidArgumentError):
        UserNamespace(uids=ranges, gids=ranges).checked()


@pytest.mark.lines("1.7")
async def test_what_cannot_be_done_is_told(client: Client, busybox: Image, monkeypatch: pytest.MonkeyPatch):
    """Where the snapshotter maps nothing and this program may not mount, the error says what would help."""

    def refuse(mounts: object, *, writable: bool) -> int:
        raise PermissionDeniedError("mounting: Operation not permitted")

    monkeypatch.setattr(remapped_snapshot, "open_mounted", refuse)
    with pytest.raises(NotSupportedError, match=r"Linux 5\.19"):
        await client.create_container(image=busybox, user_namespace=UserNamespace.of(300_000))
    assert [info.name for info in await client.snapshotter("overlayfs").list()] == [await busybox.chain_id()]


@pytest.mark.lines("2.1")
async def test_no_image_is_made_of_mapped_files(client: Client, busybox: Image):
    """An image with the host's users for owners would be of no use: a commit says so."""
    async with resting(client, busybox, user_namespace=IDS) as container:
        with pytest.raises(FailedPreconditionError, match="user namespace"):
            await client.commit(container, "example.com/mapped:1")
