"""Where copies go, by the rules of `docker cp`, and what of a tree is packed. No daemon."""

import io
import os
import socket
import tarfile
from pathlib import Path

import pytest

from containerd_py.errors import ContainerdError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from containerd_py.trees.packing import Packer, PackOptions
from containerd_py.trees.places import name_of, place_for
from containerd_py.trees.walking import MAX_DEPTH
from tests.unit.trees import pack, root_at


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "to-folder").symlink_to("/folder")
    (tmp_path / "to-file").symlink_to("to-again")
    (tmp_path / "to-again").symlink_to("folder/../file")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "is_folder", "folder", "name"),
    [
        ("/new", False, "/", "new"),
        ("/new", True, "/", "new"),
        ("/new/", True, "/", "new"),
        ("/folder", False, "/folder", "source"),
        ("/folder/", False, "/folder/", "source"),
        ("/folder", True, "/folder", "source"),
        ("/folder/new", False, "/folder", "new"),
        ("/file", False, "/", "file"),
        ("/to-folder", False, "/to-folder", "source"),
        ("/to-folder/new", True, "/to-folder", "new"),
        ("/to-file", False, "/folder/..", "file"),
        ("/", True, "/", "source"),
        (".", True, ".", "source"),
    ],
)
def test_copies_go_where_docker_puts_them(root: Path, path: str, is_folder: bool, folder: str, name: str):
    """Into a directory that is there; else as what is named, behind links where there are some."""
    with root_at(root) as tree:
        place = place_for(tree, path, name="source", is_folder=is_folder)
    assert (place.folder, place.name) == (folder, name)


@pytest.mark.parametrize(
    ("path", "is_folder", "error"),
    [
        ("/new/", False, NotFoundError),
        ("/missing/new", False, NotFoundError),
        ("/file/new", False, NotFoundError),
        ("/file/", False, NotFoundError),
        ("/file", True, FailedPreconditionError),
        ("/to-file", True, FailedPreconditionError),
        ("/dangling", False, FailedPreconditionError),
        ("/circle", False, FailedPreconditionError),
        ("", False, InvalidArgumentError),
        ("/a\0b", False, InvalidArgumentError),
    ],
)
def test_what_docker_refuses_is_refused(root: Path, path: str, is_folder: bool, error: type[ContainerdError]):
    """Directories that are not there, files in their place, links that lead nowhere."""
    with root_at(root) as tree, pytest.raises(error):
        place_for(tree, path, name="source", is_folder=is_folder)


@pytest.mark.parametrize(
    ("path", "name"),
    [("/a/b", "b"), ("/a/b/", "b"), ("/a/b/.", "."), ("/", "."), (".", "."), ("a/..", "."), ("/a/../b", "b")],
)
def test_copies_are_called_as_their_source(path: str, name: str):
    """By the last name of the path, "." standing for the content alone."""
    assert name_of(path) == name


def names_of(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return sorted(tar.getnames())


def test_sockets_are_left_out(root: Path):
    """No archive can hold a socket: the rest of the directory is packed."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "folder" / "socket"))
        (root / "folder" / "file").touch()
        assert names_of(pack(root, "/folder", "folder")) == ["folder", "folder/file"]


def test_depth_is_bounded(tmp_path: Path):
    """Directories without end are an error that says so, and no descriptor stays open."""
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(MAX_DEPTH + 1):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FailedPreconditionError, match="directories deep"):
        pack(tmp_path, "/d", "d")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_cannot_be_in_an_archive_is_told(tmp_path: Path):
    """A file that gets shorter while it is read ends the copy."""
    (tmp_path / "file").write_bytes(b"x" * (3 << 20))
    with root_at(tmp_path) as root, root.opened("/file") as descriptor:
        pieces = Packer(root, descriptor, "file", PackOptions()).pieces()
        next(pieces)
        os.truncate(tmp_path / "file", 1 << 20)
        with pytest.raises(FailedPreconditionError, match="became shorter"):
            list(pieces)
