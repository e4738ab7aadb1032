"""Files in and out of containers that run and that do not, on all lines."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from containerd_py import Client, Image
from tests.integration.copies import described, make_tree, resting, running


def run_tar(*arguments) -> None:
    subprocess.run(["tar", *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.parametrize("state", ["resting", "running"])
async def test_a_tree_comes_back_as_it_went(client: Client, busybox: Image, tmp_path: Path, state: str):
    """Into a container and out again: content, modes, owners, times, links, holes and attributes are the same."""
    tree = make_tree(tmp_path)
    async with running(client, busybox) if state == "running" else resting(client, busybox) as lent:
        container = lent[0] if state == "running" else lent
        await container.copy_from_local(tree, "/tmp", owner="source")
        await container.copy_to_local("/tmp/tree", tmp_path / "back", owner="source")
    assert described(tmp_path / "back") == described(tree)


async def test_streams_are_tar(client: Client, busybox: Image, tmp_path: Path):
    """What comes out is an archive that others read, and what others write goes in."""
    tree = make_tree(tmp_path)
    packed = tmp_path / "in.tar"
    run_tar("-C", tmp_path, "-S", "-cf", packed, "tree")
    async with resting(client, busybox) as container:
        await container.copy_in("/tmp", packed)
        async with container.copy_out("/tmp/tree", sparse=True) as archive:
            data = b"".join([piece async for piece in archive])
    (tmp_path / "out").mkdir()
    (tmp_path / "out.tar").write_bytes(data)
    run_tar("-C", tmp_path / "out", "-xpf", tmp_path / "out.tar")
    mine, theirs = described(tmp_path / "out" / "tree"), described(tree)
    assert {name: value[:4] for name, value in mine.items() if name != "plain"} == {
        name: (*value[:2], value[2] // 10**9 * 10**9, value[3]) for name, value in theirs.items() if name != "plain"
    }
    with tarfile.open(fileobj=io.BytesIO(data)) as read:
        assert read.getnames()[0] == "tree"
