"""What became of a container's files: as paths and as a layer, on all lines."""

import gzip
import io
import tarfile

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


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
async def test_changes_are_told_by_path(client: Client, layered: Image, snapshotter: str):
    """Added, modified, deleted; directories above a change; nothing else; the same of every snapshotter."""
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
