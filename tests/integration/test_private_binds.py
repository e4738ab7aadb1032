"""Directories and files of this machine mounted in a snapshot, where a container's links cannot mislead: no daemon."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from containerd_py.trees.binds import Bind
from containerd_py.trees.private_mounts import open_mounted
from containerd_py.types import Mount


@contextmanager
def mounted(folder: Path, binds: list[Bind], *, writable: bool, kind: str = "overlay") -> Iterator[Path]:
    """Mount a snapshot of two layers, made before, with binds; lend its root."""
    options = tuple(f"{name}={folder}/{place}" for name, place in [("upperdir", "upper"), ("workdir", "work")])
    snapshot = Mount(type="overlay", source="overlay", options=(*options, f"lowerdir={folder}/lower"))
    if kind == "bind":
        snapshot = Mount(type="bind", source=f"{folder}/lower", options=("rbind", "rw"))
    root = open_mounted([snapshot], writable=writable, binds=binds, owner=(12, 34))
    try:
        yield Path(f"/proc/self/fd/{root}")
    finally:
        os.close(root)


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    for name in ("upper", "work", "lower/etc", "lower/srv", "source/inner", "outside"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "source/file").write_text("volume")
    (tmp_path / "hosts").write_text("hosts")
    (tmp_path / "lower/etc/hosts").write_text("image")
    return tmp_path


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("kind", ["overlay", "bind"])
@pytest.mark.parametrize("writable", [True, False])
def test_binds_are_mounted_in_a_snapshot(layers: Path, kind: str, writable: bool):
    """Directories and files show in their places, one in another as well; what cannot be mounted is left out."""
    binds = [
        Bind(source=f"{layers}/source", destination="/srv"),
        Bind(source=f"{layers}/outside", destination="/srv/inner"),
        Bind(source=f"{layers}/hosts", destination="/etc/hosts"),
        Bind(source=f"{layers}/missing", destination="/etc"),
        Bind(source=f"{layers}/hosts", destination="/etc"),
        Bind(source=f"{layers}/hosts", destination="/etc/hosts/x"),
        Bind(source="/dev/null", destination="/etc"),
    ]
    (layers / "outside/deep").touch()
    with mounted(layers, binds, writable=writable, kind=kind) as root:
        assert (root / "srv/file").read_text() == "volume"
        assert (root / "etc/hosts").read_text() == "hosts"
        assert files(root) == ["etc", "etc/hosts", "srv", "srv/file", "srv/inner", "srv/inner/deep"]
        if writable:
            (root / "srv/new").touch()
            (root / "srv/new").unlink()
        else:
            with pytest.raises(OSError, match="Read-only"):
                (root / "srv/new").touch()
    assert files(layers / "lower") == ["etc", "etc/hosts", "srv"]
    assert files(layers / "upper") == []


def test_a_read_only_bind_cannot_be_written_to(layers: Path):
    """Whatever the copy is for."""
    binds = [Bind(source=f"{layers}/source", destination="/srv", read_only=True)]
    with mounted(layers, binds, writable=True) as root, pytest.raises(OSError, match="Read-only"):
        (root / "srv/new").touch()


def test_places_that_are_not_there(layers: Path):
    """To read, nothing is made in the snapshot; to write, they are made as the runtime would, for the given owner."""
    binds = [
        Bind(source=f"{layers}/source", destination="/var/lib/data"),
        Bind(source=f"{layers}/hosts", destination="/var/hosts"),
    ]
    for writable in (False, True):
        with mounted(layers, binds, writable=writable) as root:
            assert (root / "var/lib/data/file").read_text() == "volume"
            assert (root / "var/hosts").read_text() == "hosts"
        assert files(layers / "upper") == (["var", "var/hosts", "var/lib", "var/lib/data"] if writable else [])
    for path in files(layers / "upper"):
        status = (layers / "upper" / path).stat()
        assert (status.st_uid, status.st_gid) == (12, 34)
    with mounted(layers, [Bind(source=f"{layers}/source", destination="/no")], writable=False, kind="bind") as root:
        assert files(root) == ["etc", "etc/hosts", "srv"]


@pytest.mark.parametrize("writable", [True, False])
def test_links_of_the_container_lead_nowhere_else(layers: Path, writable: bool):
    """A destination over a link is what the link means inside of the root; nothing is made or mounted outside of it."""
    (layers / "lower/out").symlink_to(layers / "outside")
    (layers / "lower/up").symlink_to("../../../../../../../srv")
    binds = [
        Bind(source=f"{layers}/source", destination="/out/made"),
        Bind(source=f"{layers}/source", destination="/up"),
    ]
    with mounted(layers, binds, writable=writable) as root:
        assert (root / "srv/file").read_text() == "volume"
    assert files(layers / "outside") == []
    assert files(layers / "upper") == []
