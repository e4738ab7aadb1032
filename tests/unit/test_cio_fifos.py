"""The FIFOs' folder and their configuration: private, checked, gone afterwards."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import stat
import subprocess
from functools import partial
from pathlib import Path

import anyio
import pytest

from containerd_py.cio import fifo_folder
from containerd_py.cio.config import NULL_IO, IOConfig, log_file
from containerd_py.cio.fifo_folder import FifoFolder, default_directory, open_fifo
from containerd_py.cio.fifos import FifoIO, attach_fifos, open_fifos
from containerd_py.errors import (
    ContainerdError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
)
from tests.harness.cancel import Tally, sweep

from .fifo_peers import open_descriptors

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")


async def test_fifos_are_private_and_gone_afterwards(tmp_path):
    """The folder is 0700, its FIFOs 0600 and named by their use; nothing is left, file or descriptor."""
    before = open_descriptors()
    async with open_fifos(directory=tmp_path) as io:
        paths = [Path(path) for path in (io.config.stdin, io.config.stdout, io.config.stderr)]
        assert [path.name.rpartition("-")[2] for path in paths] == ["stdin", "stdout", "stderr"]
        assert {path.parent.parent for path in paths} == {tmp_path}
        assert stat.S_IMODE(paths[0].parent.stat().st_mode) == 0o700
        assert {path.lstat().st_mode for path in paths} == {stat.S_IFIFO | 0o600}
        assert io.config.lent is io
    assert list(tmp_path.iterdir()) == []
    assert open_descriptors() == before


async def test_nothing_wanted_needs_no_folder(tmp_path):
    """Without any stream the process gets /dev/null and no folder is made."""
    async with open_fifos(stdin=False, stdout=False, stderr=False, directory=tmp_path / "none") as io:
        assert io.config == NULL_IO
        assert (io.stdin, io.stdout, io.stderr) == (None, None, None)
        await io.release()
        io.abandon()
    assert not (tmp_path / "none").exists()


async def test_an_unwanted_output_goes_to_dev_null(tmp_path):
    """The shim is told a path for both outputs always; the unwanted one is the null device."""
    async with open_fifos(stdin=False, stdout=False, directory=tmp_path) as io:
        assert (io.config.stdin, io.config.stdout) == ("", "/dev/null")
        assert io.stdout is None
        assert io.stderr is not None


async def test_a_terminal_has_no_stderr(tmp_path):
    """With a terminal there is no FIFO for stderr, and stdout always has a path."""
    async with open_fifos(terminal=True, directory=tmp_path) as io:
        assert io.config.terminal
        assert (io.config.stderr, io.stderr) == ("", None)
        assert len(list(Path(io.config.stdout).parent.iterdir())) == 2
    async with open_fifos(terminal=True, stdin=False, stdout=False, directory=tmp_path) as io:
        assert io.config == IOConfig(terminal=True, stdout="/dev/null")


async def test_missing_directories_are_made_private(tmp_path):
    """All directories that are missing are made, open to us only."""
    async with open_fifos(directory=tmp_path / "a" / "b"):
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


async def test_a_relative_directory_is_made_absolute(tmp_path, monkeypatch):
    """The shim has another working directory: it is told absolute paths."""
    monkeypatch.chdir(tmp_path)
    async with open_fifos(directory="rel/../fifo") as io:
        assert io.config.stdout.startswith(f"{tmp_path}/fifo/")


def symlink(path: Path) -> Path:
    (path / "real").mkdir(mode=0o700)
    (path / "link").symlink_to(path / "real")
    return path / "link"


def regular_file(path: Path) -> Path:
    (path / "file").write_bytes(b"")
    return path / "file"


def below_a_file(path: Path) -> Path:
    return regular_file(path) / "fifo"


def with_mode(mode: int):
    def make(path: Path) -> Path:
        (path / "open").mkdir()
        (path / "open").chmod(mode)
        return path / "open"

    return make


def below_world_writable(path: Path) -> Path:
    parent = with_mode(0o777)(path)
    (parent / "fifo").mkdir(mode=0o700)
    return parent / "fifo"


def too_long(path: Path) -> Path:
    return path / "/".join(["a" * 200] * 21)


def too_long_a_name(path: Path) -> Path:
    return path / ("a" * 256)


def with_nul(path: Path) -> str:
    return f"{path}/a\0b"


def empty(_path: Path) -> str:
    return ""


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (symlink, PermissionDeniedError),
        (regular_file, InvalidArgumentError),
        (below_a_file, InvalidArgumentError),
        (with_mode(0o770), PermissionDeniedError),
        (with_mode(0o1777), PermissionDeniedError),
        (below_world_writable, PermissionDeniedError),
        (too_long, InvalidArgumentError),
        (too_long_a_name, InvalidArgumentError),
        (with_nul, InvalidArgumentError),
        (empty, InvalidArgumentError),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_directory_others_could_change_is_refused(tmp_path, make, error):
    """Links, files, open modes and impossible paths are typed errors, and nothing is left."""
    directory = make(tmp_path)
    before = open_descriptors()
    with pytest.raises(error):
        async with open_fifos(directory=directory):
            pytest.fail("was opened")
    assert open_descriptors() == before
    assert not list(tmp_path.rglob("containerd-py-*"))


@needs_root
async def test_a_directory_of_somebody_else_is_refused(tmp_path):
    """Root does not put FIFOs where an ordinary user rules."""
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 12345, 12345)
    with pytest.raises(PermissionDeniedError, match="user 12345"):
        async with open_fifos(directory=tmp_path / "theirs"):
            pytest.fail("was opened")


@pytest.mark.parametrize("length", [4095, 4096])
def test_the_longest_path_is_the_kernels(tmp_path, length):
    """The directory is refused exactly where a FIFO's path would pass 4095 bytes."""
    room = length - 1 - fifo_folder._LONGEST_TAIL - len(os.fsencode(tmp_path)) - 1
    directory = tmp_path / "/".join(["a" * 99] * (room // 100) + ["b" * (room % 100)])
    folder = FifoFolder(directory)
    if length == 4096:
        directory = directory.with_name(directory.name + "b")
        with pytest.raises(InvalidArgumentError, match="too long"):
            FifoFolder(directory).create()
    else:
        folder.create()
        assert len(folder.make_fifo(f"{2**22}-stdout")) <= 4095
        folder.remove()


def test_the_default_directory_is_roots_or_the_users(monkeypatch, tmp_path):
    """Root has containerd's own; others have theirs below XDG_RUNTIME_DIR, or are told to set it."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_directory() == Path("/run/containerd/fifo")
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_directory() == tmp_path / "containerd" / "fifo"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(FailedPreconditionError, match="XDG_RUNTIME_DIR"):
        default_directory()


async def test_a_folder_deleted_meanwhile_is_no_failure(tmp_path):
    """Leaving after somebody removed the folder, or its FIFOs, is quiet."""
    async with open_fifos(directory=tmp_path) as io:
        folder = Path(io.config.stdout).parent
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        io.abandon()


async def test_another_folder_in_its_place_is_left_alone(tmp_path):
    """What somebody put in our folder's place is not ours to remove."""
    async with open_fifos(directory=tmp_path) as io:
        folder = Path(io.config.stdout).parent
        folder.rename(tmp_path / "moved")
        folder.mkdir()
        (folder / "theirs").write_bytes(b"")
    assert (folder / "theirs").exists()


async def test_removal_follows_no_links(tmp_path):
    """A link in the folder is removed, not what it points at."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").write_bytes(b"1")
    async with open_fifos(directory=tmp_path / "fifo") as io:
        (Path(io.config.stdout).parent / "link").symlink_to(tmp_path / "precious")
    assert (tmp_path / "precious" / "data").read_bytes() == b"1"
    assert list((tmp_path / "fifo").iterdir()) == []


async def test_a_failing_body_leaves_nothing(tmp_path):
    """An error inside goes through unchanged, and everything is gone."""
    before = open_descriptors()
    with pytest.raises(ZeroDivisionError):
        async with open_fifos(directory=tmp_path):
            raise ZeroDivisionError
    assert open_descriptors() == before
    assert list(tmp_path.iterdir()) == []


async def test_out_of_descriptors_is_typed_and_leaves_nothing(tmp_path):
    """Running out of descriptors at any of the opens undoes what was made (RLIMIT_NOFILE)."""
    async with open_fifos(directory=tmp_path):
        pass  # the worker thread and its wake-up exist now
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = open_descriptors()
    refused = 0
    for room in range(8):
        highest = max(map(int, before)) + 1
        fillers = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(highest - len(before))]
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + room, hard))
        try:
            async with open_fifos(directory=tmp_path):
                pass
        except ResourceExhaustedError:
            refused += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for filler in fillers:
                os.close(filler)
        assert list(tmp_path.iterdir()) == []
        assert open_descriptors() == before
    assert 0 < refused < 8


@pytest.mark.parametrize("again", [(), (1,), range(1, 1000)], ids=["once", "twice", "storm"])
async def test_cancelled_at_any_moment_nothing_is_left(tmp_path, again):
    """Wherever opening or leaving is cancelled, folder and descriptors go and the cancellation comes out."""
    before = open_descriptors()

    async def use() -> None:
        async with open_fifos(directory=tmp_path):
            await asyncio.sleep(0)

    tally = Tally()
    async for outcome in sweep(use, again=again):
        outcome.check()
        assert list(tmp_path.iterdir()) == []
        assert open_descriptors() == before
        tally.add(outcome)
    assert tally.delivered >= 3


async def test_children_inherit_nothing(tmp_path):
    """A program started meanwhile has none of our descriptors (all are close-on-exec)."""
    async with open_fifos(directory=tmp_path) as io:
        listing = await anyio.to_thread.run_sync(
            partial(subprocess.check_output, ["ls", "-l", "/proc/self/fd"], close_fds=False)
        )
        assert str(Path(io.config.stdout).parent).encode() not in listing


def test_only_own_fifos_are_opened(tmp_path):
    """A link, a file, nothing, or somebody else's FIFO is refused with its own error."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"")
    os.close(open_fifo(str(tmp_path / "fifo"), os.O_RDONLY))
    for name, error in {"link": PermissionDeniedError, "file": InvalidArgumentError, "none": NotFoundError}.items():
        with pytest.raises(error):
            open_fifo(str(tmp_path / name), os.O_RDONLY)


@needs_root
def test_a_fifo_of_somebody_else_is_refused(tmp_path):
    """Another user's FIFO could have another reader."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    os.chown(tmp_path / "fifo", 12345, 12345)
    with pytest.raises(PermissionDeniedError, match="user 12345"):
        open_fifo(str(tmp_path / "fifo"), os.O_RDONLY)


async def test_attaching_opens_only_fifos(tmp_path):
    """Log URIs, the null device and streams not opened have nothing to attach to; a relative path is a mistake."""
    async with attach_fifos(log_file("/var/log/x")) as io:
        assert (io.stdin, io.stdout, io.stderr) == (None, None, None)
        assert io.config == log_file("/var/log/x")
    async with attach_fifos(IOConfig(stdout="/dev/null")) as io:
        assert io.stdout is None
    with pytest.raises(InvalidArgumentError):
        async with attach_fifos(IOConfig(stdout="fifo")):
            pytest.fail("was opened")


async def test_attaching_leaves_the_folder_and_no_descriptor(tmp_path):
    """Attached FIFOs belong to who made them; ours are only the descriptors."""
    async with open_fifos(directory=tmp_path) as io:
        before = open_descriptors()
        async with attach_fifos(io.config) as again:
            assert again.config == io.config
            assert again.config.lent is again
        with pytest.raises(NotFoundError):
            async with attach_fifos(IOConfig(stdin=io.config.stdin, stdout=io.config.stdout, stderr="/none")):
                pytest.fail("was opened")
        assert open_descriptors() == before
        assert Path(io.config.stdout).exists()


def test_errors_without_a_type_of_ours_stay_what_they_are():
    """An operating system error nobody foresaw is not dressed up."""
    with pytest.raises(OSError, match="I/O") as caught, fifo_folder._typed_errors("x"):
        raise OSError(errno.EIO, "I/O")
    assert not isinstance(caught.value, ContainerdError)


def test_an_io_without_streams_can_be_settled():
    """Release and abandon are for whoever starts the process, whatever streams there are."""
    io = FifoIO()
    io.abandon()
    assert io.is_settled
