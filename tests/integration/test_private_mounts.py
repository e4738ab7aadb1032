"""Snapshots mounted where nobody else sees them, by the kernel itself: no daemon."""

import os
from pathlib import Path

import pytest

from containerd_py.errors import FailedPreconditionError
from containerd_py.trees.private_mounts import in_private_namespace, open_mounted
from containerd_py.types import Mount


def overlay(folder: Path, count: int) -> Mount:
    """Make layers with one file each, and return the overlay of them as a snapshotter hands it out."""
    layers = []
    folder = folder / ("a-long-name-as-snapshotters-have-them" * 3)
    folder.mkdir()
    for index in range(count):
        layer = folder / str(index) / "fs"
        layer.mkdir(parents=True)
        (layer / f"file-{index}").write_text(str(index))
        (layer / "top").write_text(str(index))
        layers.append(str(layer))
    for name in ("upper", "work"):
        (folder / name).mkdir()
    options = (f"workdir={folder}/work", f"upperdir={folder}/upper", f"lowerdir={':'.join(layers)}", "index=off")
    return Mount(type="overlay", source="overlay", options=options)


@pytest.mark.parametrize("count", [1, 2, 60])
def test_overlays_are_mounted_however_many_layers_there_are(tmp_path: Path, count: int):
    """Options longer than a page are shortened; whoever asked keeps its working directory and sees no mount."""
    mount = overlay(tmp_path, count)
    before = (Path.cwd(), Path("/proc/self/mountinfo").read_text().count(str(tmp_path)))
    for writable in (True, False):
        root = open_mounted([mount], writable=writable)
        try:
            names = set(os.listdir(f"/proc/self/fd/{root}"))  # noqa: PTH208
            assert {f"file-{index}" for index in range(count)} <= names
            assert Path(f"/proc/self/fd/{root}/top").read_text() == "0"
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            if writable:
                os.close(os.open("written", flags, dir_fd=root))
            else:
                with pytest.raises(OSError, match="Read-only"):
                    os.open("refused", flags, dir_fd=root)
            after = (Path.cwd(), Path("/proc/self/mountinfo").read_text().count(str(tmp_path)))
            assert after == before
        finally:
            os.close(root)
    assert [path.name for path in tmp_path.glob("*/upper/*")] == ["written"]


def test_bind_mounts_are_read_only_where_asked(tmp_path: Path):
    """A snapshot that is a directory is not written to by whoever only reads, and what is below comes along."""
    (tmp_path / "file").write_text("x")
    root = open_mounted([Mount(type="bind", source=str(tmp_path), options=("rbind", "rw"))], writable=False)
    try:
        with pytest.raises(OSError, match="Read-only"):
            os.open("file", os.O_WRONLY, dir_fd=root)
        assert Path(f"/proc/self/fd/{root}/file").read_text() == "x"
    finally:
        os.close(root)


@pytest.mark.parametrize(
    "mounts",
    [
        [],
        [Mount(type="fuse3.sshfs", source="host:/")],
        [Mount(type="ext4", source="/image", options=("loop",))],
        [Mount(type="bind", source="/nowhere/at/all", options=("rbind",))],
        [Mount(type="bind", source="/tmp", target="/sub", options=("rbind",))],
        [Mount(type="mkfs/ext4", source="/image")],
    ],
)
def test_what_cannot_be_mounted_is_told(mounts: list[Mount]):
    """Kinds of mounts this program does not know, and what is not on this machine, are errors of ours."""
    with pytest.raises((FailedPreconditionError, LookupError)):
        open_mounted(mounts, writable=True)


def test_the_namespace_ends_with_its_thread():
    """What is mounted in the private namespace is seen there alone, and nothing is left of it."""
    inside = in_private_namespace(lambda: Path("/proc/thread-self/mountinfo").read_text())
    outside = Path("/proc/self/mountinfo").read_text()
    assert " /sys rw,nosuid,nodev,noexec" in inside
    assert len(inside.splitlines()) == len(outside.splitlines()) + 1
