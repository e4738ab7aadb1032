"""Snapshots as file systems: what a child sees of its parents, and what becomes of names, kinds and times.

Each restates parts of the suite that containerd holds its own snapshotters to.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from containerd_py import Client, Mount, SnapshotKind, where
from containerd_py.errors import (
    AlreadyExistsError,
    ContainerdError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from containerd_py.services.snapshots import SnapshotsService

MANY = 128


@pytest.fixture
async def leased(client: Client) -> AsyncIterator[Client]:
    """Lend a client whose snapshots no collection takes until the test is over."""
    async with client.hold_lease() as leased:
        yield leased


@pytest.fixture
def snapshots(leased: Client, daemon_line: str) -> SnapshotsService:
    """Lend the snapshots of one of the snapshotters that work everywhere: overlayfs, on one line native."""
    return leased.snapshotter("native" if daemon_line == "1.7" else "overlayfs")


@contextmanager
def mounted(mounts: Sequence[Mount], folder: Path) -> Iterator[Path]:
    """Mount a snapshot on a folder for as long as the block lasts."""
    folder.mkdir(exist_ok=True)
    for mount in mounts:
        options = ",".join(option for option in mount.options if option)
        command = ["mount", "-t", mount.type, "-o", options or "defaults", mount.source, folder]
        subprocess.run(command if mount.type != "bind" else [*command[:1], *command[3:]], check=True)
    try:
        yield folder
    finally:
        for _ in mounts:
            subprocess.run(["umount", folder], check=True)


async def layer(snapshots: SnapshotsService, name: str, parent: str, folder: Path, change) -> None:
    """Make a committed snapshot by changing files on top of its parent."""
    with mounted(await snapshots.prepare(f"{name}-active", parent=parent), folder) as root:
        change(root)
    await snapshots.commit(name, f"{name}-active")


async def seen(snapshots: SnapshotsService, parent: str, folder: Path) -> dict[str, str]:
    """Return the files in a committed snapshot, with their content."""
    mounts = await snapshots.view(f"view-of-{parent}", parent=parent)
    try:
        with mounted(mounts, folder) as root:
            files = [path for path in sorted(root.rglob("*")) if path.is_file()]
            return {str(path.relative_to(root)): path.read_text() for path in files}
    finally:
        await snapshots.remove(f"view-of-{parent}")


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


async def test_kinds_and_parents_are_told(snapshots: SnapshotsService):
    """Active, committed and view are what stat, list and filters say; names are unique across kinds."""
    await snapshots.prepare("base-active", labels={"a": "b"})
    active = await snapshots.stat("base-active")
    assert (active.kind, active.parent, active.labels) == (SnapshotKind.ACTIVE, "", {"a": "b"})
    await snapshots.commit("base", "base-active", labels={"c": "d"})
    await snapshots.prepare("child-active", parent="base")
    await snapshots.view("child-view", parent="base")
    with pytest.raises(NotFoundError):
        await snapshots.stat("base-active")
    found = {info.name: (info.kind, info.parent) for info in await snapshots.list()}
    assert found == {
        "base": (SnapshotKind.COMMITTED, ""),
        "child-active": (SnapshotKind.ACTIVE, "base"),
        "child-view": (SnapshotKind.VIEW, "base"),
    }
    assert [await snapshots.stat(info.name) for info in await snapshots.list()] == await snapshots.list()
    assert (await snapshots.stat("base")).labels == {"c": "d"}
    views = await snapshots.list([where("kind").equals("view"), where("name").equals("base")])
    assert sorted(info.name for info in views) == ["base", "child-view"]
    for name in ("child-active", "child-view", "base"):
        with pytest.raises(AlreadyExistsError):
            await snapshots.prepare(name, parent="base")
        with pytest.raises(AlreadyExistsError):
            await snapshots.view(name)


async def test_only_what_is_committed_is_stood_on(snapshots: SnapshotsService):
    """Neither an active snapshot, nor a view, nor one that is not there is a parent; a view is not committed."""
    await snapshots.prepare("active")
    await snapshots.view("view")
    for parent in ("active", "view", "nobody"):
        with pytest.raises((InvalidArgumentError, NotFoundError)):
            await snapshots.prepare("child", parent=parent)
        with pytest.raises((InvalidArgumentError, NotFoundError)):
            await snapshots.view("child", parent=parent)
    with pytest.raises(ContainerdError):
        await snapshots.commit("committed-view", "view")
    with pytest.raises(NotFoundError):
        await snapshots.commit("committed", "nobody")
    await snapshots.commit("committed", "active")
    with pytest.raises(ContainerdError):
        await snapshots.mounts("committed")


async def test_what_others_stand_on_is_not_removed(snapshots: SnapshotsService):
    """A snapshot in the middle stays until what is above has gone; then it can go, and once only."""
    for number, parent in enumerate(("", "layer-0", "layer-1")):
        await snapshots.prepare(f"active-{number}", parent=parent)
        await snapshots.commit(f"layer-{number}", f"active-{number}")
    for name in ("layer-0", "layer-1"):
        with pytest.raises(FailedPreconditionError):
            await snapshots.remove(name)
    for name in ("layer-2", "layer-1", "layer-0"):
        await snapshots.remove(name)
        with pytest.raises(NotFoundError):
            await snapshots.remove(name)
    assert await snapshots.list() == []


async def test_labels_change_and_times_move(snapshots: SnapshotsService):
    """Labels change one by one or all, the creation's time stays, the change's time moves."""
    await snapshots.prepare("active", labels={"a": "b", "c": "d"})
    before = await snapshots.stat("active")
    after = await snapshots.update("active", {"a": "", "e": "f"})
    assert after.labels == {"c": "d", "e": "f"}
    assert (after.created_at, after.kind) == (before.created_at, SnapshotKind.ACTIVE)
    assert before.updated_at is not None
    assert after.updated_at is not None
    assert after.updated_at > before.updated_at
    assert (await snapshots.update("active", {"only": "one"}, replace=True)).labels == {"only": "one"}
    with pytest.raises(NotFoundError):
        await snapshots.update("nobody", {"a": "b"})


async def test_a_child_sees_what_was_changed_last(snapshots: SnapshotsService, tmp_path: Path):
    """Files added, changed, deleted, moved and replaced in a layer are so in its children, and not in its parents."""

    def begin(root: Path) -> None:
        write(root, same="1", changed="1", deleted="1", moved="1", folder__inside="1", gone__deep__file="1")

    def go_on(root: Path) -> None:
        write(root, changed="2", added="2")
        (root / "deleted").unlink()
        (root / "moved").rename(root / "elsewhere")
        shutil.rmtree(root / "gone")
        write(root, gone__other="2")

    await layer(snapshots, "lower", "", tmp_path / "at", begin)
    before = await seen(snapshots, "lower", tmp_path / "at")
    await layer(snapshots, "upper", "lower", tmp_path / "at", go_on)
    assert await seen(snapshots, "upper", tmp_path / "at") == {
        "same": "1",
        "changed": "2",
        "added": "2",
        "elsewhere": "1",
        "folder/inside": "1",
        "gone/other": "2",
    }
    assert await seen(snapshots, "lower", tmp_path / "at") == before


async def test_owners_and_modes_are_kept(snapshots: SnapshotsService, tmp_path: Path):
    """Owners and modes of files and folders come through layers and commits; a new root is for all to read."""

    def begin(root: Path) -> None:
        assert stat.S_IMODE(root.stat().st_mode) == 0o755
        write(root, owned__file="1")
        os.chown(root / "owned" / "file", 1234, 5678)
        (root / "owned").chmod(0o2770)
        (root / "owned" / "file").chmod(0o640)

    await layer(snapshots, "lower", "", tmp_path / "at", begin)
    await layer(snapshots, "upper", "lower", tmp_path / "at", lambda root: os.chown(root / "owned", 42, 43))
    with mounted(await snapshots.view("view", parent="upper"), tmp_path / "at") as root:
        file, folder = (root / "owned" / "file").stat(), (root / "owned").stat()
        assert (file.st_uid, file.st_gid, stat.S_IMODE(file.st_mode)) == (1234, 5678, 0o640)
        assert (folder.st_uid, folder.st_gid, stat.S_IMODE(folder.st_mode)) == (42, 43, 0o2770)
        assert stat.S_IMODE(root.stat().st_mode) == 0o755


async def test_a_view_is_not_written_to(snapshots: SnapshotsService, tmp_path: Path):
    """The mounts of a view are read-only, those of an active snapshot are asked for again and are the same."""
    await layer(snapshots, "lower", "", tmp_path / "at", lambda root: write(root, file="1"))
    with mounted(await snapshots.view("view", parent="lower"), tmp_path / "at") as root:
        assert (root / "file").read_text() == "1"
        with pytest.raises(OSError, match="Read-only"):
            (root / "other").write_text("2")
    mounts = await snapshots.prepare("active", parent="lower")
    assert await snapshots.mounts("active") == mounts


async def test_usage_grows_with_what_is_written(snapshots: SnapshotsService, tmp_path: Path):
    """A snapshot's usage is its own, without its parents', and stays what it was when it is committed."""
    with mounted(await snapshots.prepare("active"), tmp_path / "at") as root:
        empty = await snapshots.usage("active")
        (root / "file").write_bytes(bytes(1_000_000))
        full = await snapshots.usage("active")
    assert full.size >= empty.size + 1_000_000
    assert full.inodes == empty.inodes + 1
    await snapshots.commit("layer", "active")
    assert (await snapshots.usage("layer")).size == full.size
    await snapshots.prepare("child", parent="layer")
    if snapshots.snapshotter == "overlayfs":  # native copies the parent
        assert (await snapshots.usage("child")).size < 1_000_000


@pytest.mark.lines("2.1")
async def test_many_layers_are_mounted(leased: Client, tmp_path: Path):
    """A snapshot on 128 layers shows what is in each of them."""
    snapshots = leased.snapshotter("overlayfs")
    parent = ""
    for number in range(MANY):
        (mount,) = await snapshots.prepare("active", parent=parent)
        uppers = [option.removeprefix("upperdir=") for option in mount.options if option.startswith("upperdir=")]
        (Path(uppers[0] if uppers else mount.source) / f"file-{number:03}").write_text(str(number))
        parent = f"layer-{number}"
        await snapshots.commit(parent, "active")
    mounts = await snapshots.view("view", parent=parent)
    lowers = next(option for option in mounts[0].options if option.startswith("lowerdir="))
    assert lowers.count(":") == MANY - 1
    files = [next(Path(folder).iterdir()).name for folder in lowers.removeprefix("lowerdir=").split(":")]
    assert files == [f"file-{number:03}" for number in reversed(range(MANY))]
