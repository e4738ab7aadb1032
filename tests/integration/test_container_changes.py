"""What became of a container's files: as paths and as a layer, on all lines."""

import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from containerd_py import Client, FailedPreconditionError, Image, UserNamespace
from containerd_py.oci.spec_options import with_process_args
from tests.integration.copies import resting, running

# On the layers of the image `layered`: /data has first, second and link, /opt has script.
CHANGE = """
echo new > /data/new; mkdir -p /made/deep; echo x > /made/deep/x
echo changed > /data/second; rm /data/link
chmod 700 /bin/busybox
rm -r /opt; mkdir /opt; echo other > /opt/other
touch -d 2001-01-01 /etc/passwd; touch /finished
"""
EXPECTED = {
    "/bin": "modified",
    "/bin/busybox": "modified",
    "/data": "modified",
    "/data/link": "deleted",
    "/data/new": "added",
    "/data/second": "modified",
    "/etc": "modified",
    "/etc/passwd": "modified",
    "/finished": "added",
    "/made": "added",
    "/made/deep": "added",
    "/made/deep/x": "added",
    "/opt": "modified",
    "/opt/other": "added",
    "/opt/script": "deleted",
}


async def test_changes_are_told_by_path(client: Client, layered: Image):
    """Added, modified, deleted; directories above a change; nothing else."""
    await check_changes(client, layered, "overlayfs")


@pytest.mark.lines("2.1")
async def test_snapshotters_without_layers_tell_the_same(client: Client, layered: Image):
    """Where a snapshot is a whole copy, it is compared with the image's files one by one."""
    await check_changes(client, layered, "native")


async def check_changes(client: Client, layered: Image, snapshotter: str) -> None:
    if not await layered.is_unpacked(snapshotter):
        await layered.unpack(snapshotter)
    async with resting(client, layered, snapshotter=snapshotter) as container:
        assert await container.changes() == []
    command = with_process_args(["/bin/sh", "-c", f"{CHANGE} exec sleep 1000"])
    options = {"user": "0", "snapshotter": snapshotter, "spec_options": [command]}
    async with running(client, layered, args=None, **options) as (container, task):
        await task.run_exec(["/bin/sh", "-c", "until test -e /finished; do sleep 0.1; done"], user="0")
        found = {change.path: str(change.kind) for change in await container.changes()}
    assert found == EXPECTED


async def test_nothing_has_changed_at_first(client: Client, busybox: Image):
    """A container that nobody wrote to is as its image, and a read-only look at it changes nothing."""
    async with resting(client, busybox, user_namespace=UserNamespace.of(100_000)) as container:
        assert await container.changes() == []
        async with container.copy_out("/") as archive:
            assert [piece async for piece in archive]
        assert await container.changes() == []
        await container.copy_in("/", one_file("etc/new"))
        assert [(change.path, str(change.kind)) for change in await container.changes()] == [
            ("/etc", "modified"),
            ("/etc/new", "added"),
        ]


@pytest.mark.lines("2.1")
async def test_what_looks_the_same_is_read(client: Client, busybox: Image, tmp_path: Path):
    """Content of another kind behind the same size and time is a change; a touch that changes nothing is none."""
    async with resting(client, busybox) as container:
        await container.copy_to_local("/etc/passwd", tmp_path / "passwd", owner="source")
        await container.copy_from_local(tmp_path / "passwd", "/etc/passwd", owner="source")
        assert await container.changes() == []
        status = (tmp_path / "passwd").stat()
        (tmp_path / "passwd").write_bytes(b"#" * status.st_size)
        os.utime(tmp_path / "passwd", ns=(status.st_mtime_ns, status.st_mtime_ns))
        await container.copy_from_local(tmp_path / "passwd", "/etc/passwd", owner="source")
        assert [change.path for change in await container.changes()] == ["/etc", "/etc/passwd"]


@pytest.mark.lines("2.1")
@pytest.mark.parametrize("compression", ["gzip", "none"])
async def test_the_layer_has_just_the_changes(client: Client, busybox: Image, compression: str):
    """The daemon stores a layer of what is new; without a lease there is no sense in that."""
    async with resting(client, busybox) as container:
        await container.copy_in("/", one_file("etc/new"))
        with pytest.raises(FailedPreconditionError, match="hold_lease"):
            await container.diff()
        async with client.hold_lease() as leased:
            layer = await (await leased.load_container(container.id)).diff(compression=compression)
            data = await leased.read_blob(layer)
        assert layer.media_type.endswith("gzip" if compression == "gzip" else "tar")
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            assert tar.getnames() == ["etc", "etc/new"]


async def one_file(path: str) -> AsyncIterator[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(path)
        info.size = 4
        tar.addfile(info, io.BytesIO(b"new\n"))
    yield out.getvalue()
