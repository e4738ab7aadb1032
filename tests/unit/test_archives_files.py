"""Layouts in folders and archives in files: no link is followed, and nothing half-written is left."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import stat
import threading
from pathlib import Path

import anyio
import pytest

from containerd_py.archives.image_writers import open_folder, open_tar
from containerd_py.archives.layout_folder import open_layout
from containerd_py.archives.sinks import open_file_sink
from containerd_py.archives.sources import open_source
from containerd_py.errors import AlreadyExistsError, ArchiveError, InvalidArgumentError, NotFoundError

HEX = "a" * 64
DIGEST = f"sha256:{HEX}"


def names_in(folder: Path | str) -> list[str]:
    """List a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """Make a folder with one blob."""
    blobs = tmp_path / "layout" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / HEX).write_bytes(b"content")
    (tmp_path / "layout" / "oci-layout").write_bytes(b"{}")
    return tmp_path / "layout"


def test_files_of_a_layout_are_read(layout: Path):
    """By path and by digest, with their size; the layout's own path may be a link."""
    (layout.parent / "link").symlink_to(layout)
    for path in (layout, layout.parent / "link", str(layout)):
        with open_layout(path) as folder:
            assert folder.read("oci-layout", 2) == b"{}"
            file = folder.open_blob(DIGEST)
            assert (file.size, file.read(3), file.read(100), file.read(1)) == (7, b"con", b"tent", b"")
            file.close()


def test_limits_of_files_hold(layout: Path):
    """One byte too many is refused, also when the file grows after it was looked at."""
    with open_layout(layout) as folder, pytest.raises(ArchiveError, match="more than the 1 bytes"):
        folder.read("oci-layout", 1)


def test_missing_files_are_missing(layout: Path):
    """A file or folder that is not there is NotFoundError; a layout that is not there is the system's own error."""
    with open_layout(layout) as folder:
        for path in ("index.json", "blobs/sha512/x", "no/such/folder"):
            with pytest.raises(NotFoundError):
                folder.read(path, 1)
    with pytest.raises(FileNotFoundError), open_layout(layout / "nowhere"):
        pass
    with pytest.raises(NotADirectoryError), open_layout(layout / "oci-layout"):
        pass


@pytest.mark.parametrize("kind", ["link", "folder link", "fifo", "folder", "socket"])
def test_only_regular_files_are_read(layout: Path, kind: str):
    """Links, FIFOs, folders and sockets in the place of a blob are refused, and do not hold anybody up."""
    blob = layout / "blobs" / "sha256" / HEX
    blob.unlink()
    match kind:
        case "link":
            blob.symlink_to("/etc/passwd")
        case "folder link":
            (layout / "elsewhere").mkdir()
            (layout / "elsewhere" / HEX).write_bytes(b"content")
            blob.parent.rmdir()
            blob.parent.symlink_to(layout / "elsewhere")
        case "fifo":
            os.mkfifo(blob)
        case "folder":
            blob.mkdir()
        case "socket":
            os.mknod(blob, stat.S_IFSOCK | 0o600)
    before = len(names_in("/proc/self/fd"))
    with open_layout(layout) as folder, pytest.raises(ArchiveError, match="regular file"):
        folder.open_blob(DIGEST)
    assert len(names_in("/proc/self/fd")) == before


# ── sources ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_files_and_streams_are_sources(tmp_path: Path):
    """A file is read in pieces, anything that can be iterated over is taken as it is, and a generator is closed."""
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    async with open_source(tmp_path / "file") as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"x" * 3_000_000
    closed = False

    async def generated():
        nonlocal closed
        try:
            yield b"a"
            yield b"b"
        finally:
            closed = True

    async with open_source(generated()) as chunks:
        assert await anext(chunks) == b"a"
    assert closed
    async with await anyio.open_file(tmp_path / "file", "rb") as file, open_source(file) as chunks:
        assert len(b"".join([chunk async for chunk in chunks])) == 3_000_000


async def test_what_is_no_file_is_no_source(tmp_path: Path):
    """A FIFO would hold us up for ever; a file that is not there is the system's own error."""
    os.mkfifo(tmp_path / "fifo")
    with anyio.fail_after(2):
        with pytest.raises(ArchiveError, match="no file"):
            async with open_source(tmp_path / "fifo"):
                pass
    with pytest.raises(FileNotFoundError):
        async with open_source(tmp_path / "nowhere"):
            pass


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_file_appears_whole(tmp_path: Path):
    """Until the end there is the old file, and beside it an unfinished one; then there is the new one alone."""
    path = tmp_path / "archive.tar"
    path.write_bytes(b"old")
    async with open_file_sink(path) as sink:
        await sink.send(b"new ")
        await sink.send(b"content")
        assert path.read_bytes() == b"old"
        assert len(names_in(tmp_path)) == 2
    assert path.read_bytes() == b"new content"
    assert names_in(tmp_path) == ["archive.tar"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


async def test_a_failure_leaves_what_was(tmp_path: Path):
    """Whatever ends the block, nothing unfinished is left, and the file that was there is there."""
    path = tmp_path / "archive.tar"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        async with open_file_sink(path) as sink:
            await sink.send(b"new")
            raise ZeroDivisionError
    with anyio.CancelScope() as scope:
        async with open_file_sink(path) as sink:
            await sink.send(b"new")
            scope.cancel()
            await anyio.sleep(1)
    assert (names_in(tmp_path), path.read_bytes()) == (["archive.tar"], b"old")


async def test_links_are_replaced_not_followed(tmp_path: Path):
    """A link in the place of the file is itself replaced; what it led to stays."""
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "archive.tar").symlink_to("target")
    async with open_file_sink(tmp_path / "archive.tar") as sink:
        await sink.send(b"new")
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert not (tmp_path / "archive.tar").is_symlink()


async def test_only_files_are_replaced(tmp_path: Path):
    """A folder, a FIFO or a device is not written over."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/null")):
        with pytest.raises(InvalidArgumentError, match="no file"):
            async with open_file_sink(path):
                pass
    with pytest.raises(FileNotFoundError):
        async with open_file_sink(tmp_path / "no" / "folder"):
            pass


async def test_a_full_disk_leaves_nothing(tmp_path: Path):
    """What cannot be written is the system's own error, and the unfinished file is gone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError):
            async with open_file_sink(tmp_path / "archive.tar") as sink:
                await sink.send(b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert names_in(tmp_path) == []


# ── folders ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_folder_appears_whole(tmp_path: Path):
    """A new one and one that was empty are there once all is written."""
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        async with open_folder(tmp_path / name) as writer:
            await writer.folder("blobs")
            await writer.file("blobs/a", 3, 0o444)
            await writer.write(b"abc")
            await writer.end_file()
            assert not (tmp_path / name / "blobs").exists()
        assert (tmp_path / name / "blobs" / "a").read_bytes() == b"abc"
    assert names_in(tmp_path) == ["empty", "new"]


async def test_a_folder_that_fails_is_not_there(tmp_path: Path):
    """Nothing is left of it, not even a file that was open."""
    with pytest.raises(ZeroDivisionError):
        async with open_folder(tmp_path / "new") as writer:
            await writer.file("a", 3, 0o444)
            raise ZeroDivisionError
    assert names_in(tmp_path) == []


async def test_nothing_is_merged(tmp_path: Path):
    """A folder with something in it, or a file, is left alone."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    for path in (tmp_path / "full", tmp_path / "full" / "a"):
        with pytest.raises(AlreadyExistsError):
            async with open_folder(path):
                pass
    assert names_in(tmp_path / "full") == ["a"]


async def test_a_sink_is_anything_that_sends():
    """What has an asynchronous send gets the archive's bytes."""

    class Sink:
        data = b""

        async def send(self, item: bytes) -> None:
            self.data += item

    sink = Sink()
    async with open_tar(sink, "none") as writer:
        await writer.file("a", 1, 0o644)
        await writer.write(b"x")
        await writer.end_file()
    assert len(sink.data) == 512 * 4


@pytest.mark.parametrize("kind", ["file", "folder"])
async def test_what_was_half_written_is_removed_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    """Removing gigabytes takes a while, during which the event loop has other things to do."""
    threads: list[int] = []
    for owner, name in ((Path, "unlink"), (shutil, "rmtree")):
        remove = getattr(owner, name)

        def noted(*args, remove=remove, **options):
            threads.append(threading.get_ident())
            return remove(*args, **options)

        monkeypatch.setattr(owner, name, noted)
    opened = open_file_sink(tmp_path / "image") if kind == "file" else open_folder(tmp_path / "image")
    with pytest.raises(ZeroDivisionError):
        async with opened:
            raise ZeroDivisionError
    monkeypatch.undo()
    assert names_in(tmp_path) == []
    assert threads
    assert threading.get_ident() not in threads
