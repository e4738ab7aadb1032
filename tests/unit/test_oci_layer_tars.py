"""Layers as tar streams: of directories, always the same; of daemons, with no time after a bound."""

import io
import os
import socket
import tarfile
from pathlib import Path

import pytest

from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.oci.directory_tar import CHUNK_SIZE, TarOptions, tar_of_directory
from containerd_py.oci.tar_times import TimeClamp


def read(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive.getmembers()}


def pack(root: Path, **options) -> bytes:
    return b"".join(tar_of_directory(str(root), TarOptions(**options)))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with everything a layer can hold that needs no privilege."""
    root = tmp_path / "tree"
    (root / "b" / "inner").mkdir(parents=True)
    (root / "b" / "inner" / "file").write_bytes(b"content")
    (root / "a").write_bytes(b"x" * 1000)
    (root / "link").symlink_to("/etc/passwd")
    (root / "c").hardlink_to(root / "a")
    (root / ("long" * 60)).touch()
    (root / "ümläut").touch()
    os.mkfifo(root / "fifo")
    for path in (root, *root.rglob("*")):
        os.utime(path, (100.75, 100.75), follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o750)
    return root


def test_a_directory_is_packed_in_order(tree: Path):
    """Entries are sorted, owned as asked, with whole seconds, and nothing of the host is in them."""
    members = read(pack(tree))
    assert [*members] == ["a", "b", "b/inner", "b/inner/file", "c", "fifo", "link", "long" * 60, "ümläut"]
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members.values()} == {(0, 0, "", "", 100)}
    assert (members["c"].type, members["c"].linkname) == (tarfile.LNKTYPE, "a")
    assert (members["link"].type, members["link"].linkname) == (tarfile.SYMTYPE, "/etc/passwd")
    assert members["fifo"].type == tarfile.FIFOTYPE
    assert members["b"].mode == members["a"].mode == 0o750


def test_the_same_tree_gives_the_same_bytes(tree: Path, tmp_path: Path):
    """Neither the place nor the order of making matters, nor times below the bound."""
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for path in sorted(tree.rglob("*"), reverse=True):
        target = copy / path.relative_to(tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            target.symlink_to(path.readlink())
        elif path.is_dir():
            target.mkdir(exist_ok=True)
        elif path.is_fifo():
            os.mkfifo(target)
        elif path.name == "c":
            target.write_bytes(path.read_bytes())
        elif path.name == "a":
            target.hardlink_to(copy / "c")
        else:
            target.write_bytes(path.read_bytes())
    for path in copy.rglob("*"):
        os.utime(path, (99_999, 99_999), follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o750)
    assert pack(tree, latest=100) == pack(copy, latest=100)
    assert pack(tree, mtime=7) == pack(copy, mtime=7)
    assert pack(tree) != pack(copy)


def test_a_prefix_is_the_directory_itself(tree: Path):
    """With a prefix, the directory has an entry of its own; names and links are below it."""
    members = read(pack(tree, prefix="opt/app", exclude=["b/*", "long*"]))
    assert [*members] == ["opt/app", *(f"opt/app/{name}" for name in ("a", "b", "c", "fifo", "link", "ümläut"))]
    assert members["opt/app"].isdir()
    assert members["opt/app/c"].linkname == "opt/app/a"


def test_owners_can_be_kept(tree: Path):
    """None keeps the files' own owners."""
    members = read(pack(tree, owner=None))
    assert (members["a"].uid, members["a"].gid) == (
        (tree / "a").stat().st_uid,
        (tree / "a").stat().st_gid,
    )
    assert read(pack(tree, owner=(5, 6)))["a"].gid == 6


def test_large_files_come_in_pieces(tmp_path: Path):
    """No more than about 1 MiB is held at a time."""
    (tmp_path / "large").write_bytes(os.urandom(3 * CHUNK_SIZE + 5))
    pieces = [*tar_of_directory(str(tmp_path), TarOptions())]
    assert max(map(len, pieces)) <= 2 * CHUNK_SIZE
    assert read(b"".join(pieces))["large"].size == 3 * CHUNK_SIZE + 5


def test_what_no_layer_can_hold(tmp_path: Path, caplog):
    """A socket is left out with a warning; a name that would hide others is refused; so is what is not there."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        assert read(pack(tmp_path)) == {}
    assert "is a socket" in caplog.text
    (tmp_path / "s").unlink()
    (tmp_path / ".wh.x").touch()
    with pytest.raises(InvalidArgumentError, match="hides"):
        pack(tmp_path)
    with pytest.raises(InvalidArgumentError, match="no directory"):
        pack(tmp_path / ".wh.x")
    with pytest.raises(NotFoundError):
        pack(tmp_path / "absent")


def test_names_that_are_no_text(tmp_path: Path):
    """Any bytes that Linux takes for a name survive."""
    (tmp_path / os.fsdecode(b"\xff\xfe")).touch()
    (name,) = read(pack(tmp_path))
    assert os.fsencode(name) == b"\xff\xfe"


# ── times ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def archive(*members: tuple[str, float, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as made:
        for name, mtime, data in members:
            entry = tarfile.TarInfo(name)
            entry.mtime, entry.size = mtime, len(data)
            made.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize("step", [1, 511, 512, 513, 10_000_000])
@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_times_are_bounded_however_the_stream_is_cut(step: int, format: int):  # noqa: A002
    """Younger entries get the bound, older ones keep their time, whiteouts get none; content is untouched."""
    name = "n" * 150 + "/" + "x" * 90 if format == tarfile.PAX_FORMAT else "plain"
    data = archive(
        ("old", 5, b"1" * 700), (name, 2_000, b"2" * 512), ("d/.wh.gone", 3_000, b""), ("e", 1_001, b"3"), format=format
    )
    clamp = TimeClamp(1_000)
    made = b"".join(clamp.feed(data[start : start + step]) for start in range(0, len(data), step))
    clamp.end()
    members = read(made)
    assert {key: member.mtime for key, member in members.items()} == {
        "old": 5,
        name: 1_000,
        "d/.wh.gone": 0,
        "e": 1_000,
    }
    assert len(made) == len(data)
    with tarfile.open(fileobj=io.BytesIO(made)) as reader:
        assert reader.extractfile(name).read() == b"2" * 512


def test_sizes_in_extended_headers_count():
    """A size that only the extended header tells is the one that is skipped."""
    data = bytearray(archive(("x", 5_000, b"4" * 600)))
    header = tarfile.TarInfo("x")
    header.size, header.mtime = 600, 5_000
    header.pax_headers = {"size": "600"}
    plain = header.tobuf(tarfile.PAX_FORMAT)
    extended, entry = plain[:1024], bytearray(plain[1024:])
    entry[124:136] = b"00000000000\0"
    entry[148:156] = b" " * 8
    entry[148:156] = b"%06o\0 " % sum(entry)
    clamp = TimeClamp(1_000)
    made = clamp.feed(extended + bytes(entry) + bytes(data[512:]))
    clamp.end()
    assert read(made)["x"].mtime == 1_000


def test_a_name_that_looks_like_a_record_is_a_name():
    """A file that somebody called so that its name reads like a size, or any other record, changes no other's bytes."""
    name, content = "ü\n10 size=0\n10 size=512\n", bytes(range(256)) * 4
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as writer:
        for each in (name, "after"):
            header = tarfile.TarInfo(each)
            header.size, header.mtime = len(content), 5
            writer.addfile(header, io.BytesIO(content))
    clamp = TimeClamp(1_000)
    assert clamp.feed(made.getvalue()) == made.getvalue()
    clamp.end()


@pytest.mark.parametrize("records", [b"x", b"11 size=6\n", b"9 size=60", b"08 size=6\n", b"2 \n", b"99999999999 a=b\n"])
def test_records_without_their_length_are_refused(records: bytes):
    """Where a PAX record ends is for its length to say; one that says it wrong is no record."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    with pytest.raises(InvalidArgumentError, match="PAX record"):
        TimeClamp(1).feed(header.tobuf(tarfile.USTAR_FORMAT) + records.ljust(512, b"\0"))


@pytest.mark.parametrize("digits", [b"0o7", b"1_0", b"+7", b"-7", b"8"])
def test_numbers_are_octal_digits(digits: bytes):
    """What Python takes for a number beyond that is none in a tar header."""
    header = bytearray(tarfile.TarInfo("x").tobuf())
    header[124:136] = digits.rjust(11, b" ") + b"\0"
    with pytest.raises(InvalidArgumentError, match="no number"):
        TimeClamp(1).feed(bytes(header))


def test_what_is_no_archive_is_refused():
    """Broken headers and archives that end in mid-entry are typed errors."""
    clamp = TimeClamp(1)
    clamp.feed(archive(("x", 1, b"5" * 600))[:700])
    with pytest.raises(InvalidArgumentError, match="ends in the middle"):
        clamp.end()
    with pytest.raises(InvalidArgumentError, match="no number"):
        TimeClamp(1).feed(b"\xee" * 124 + b"not octal..." + b"y" * 376)
