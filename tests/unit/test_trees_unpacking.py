"""Archives that come into a tree, from anybody: what goes where, and what is refused. No daemon."""

import io
import os
import random
import stat
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from containerd_py.errors import (
    ArchiveError,
    ContainerdError,
    FailedPreconditionError,
    InvalidArgumentError,
)
from containerd_py.oci.user_namespaces import UserNamespace
from tests.integration.copies import described, make_tree
from tests.unit.trees import pack, unpack


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make the root of a container, beside which there is what it must not reach."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "secret").write_text("secret")
    made = tmp_path / "root"
    made.mkdir()
    return made


def archive(*members: tuple[str, dict[str, object]]) -> bytes:
    """Make an archive: names with a slash at the end are folders, the rest files, unless `type` says otherwise."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, fields in members:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mode = 0o644
            data = b""
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            for field, value in fields.items():
                if field == "data":
                    data = value
                else:
                    setattr(info, field, value)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def link(name: str, target: str) -> tuple[str, dict[str, object]]:
    return name, {"type": tarfile.SYMTYPE, "linkname": target}


def host_of(root: Path) -> dict[str, tuple[object, ...]]:
    return described(root.parent / "host")


@pytest.mark.parametrize("step", [1, 511, 1 << 20])
def test_a_tree_survives_the_archive(root: Path, tmp_path: Path, step: int):
    """However the bytes are cut, what is unpacked is what was packed."""
    tree = make_tree(tmp_path)
    if step == 1:
        (tree / "plain").write_bytes(b"short")
        os.truncate(tree / "holes", 4096)
    unpack(pack(tmp_path, "/tree", "copy", is_sparse=True), root, step=step)
    before, after = described(tree), described(root / "copy")
    assert after == before


@pytest.mark.parametrize("options", [["--format=gnu"], ["--format=posix"], ["--sparse-version=0.1", "--format=posix"]])
def test_sparse_files_of_gnu_tar_are_read(root: Path, tmp_path: Path, options: list[str]):
    """GNU tar's sparse files get their holes back, in the old format and in those of pax."""
    with (tmp_path / "file").open("wb") as file:
        for index in range(40):
            file.seek(index << 20)
            file.write(b"data %d" % index)
        file.truncate(64 << 20)
    subprocess.run(["tar", "-C", tmp_path, "-S", *options, "-cf", tmp_path / "tar", "file"], check=True)
    assert (tmp_path / "tar").stat().st_size < 1 << 20
    unpack((tmp_path / "tar").read_bytes(), root)
    assert (root / "file").read_bytes() == (tmp_path / "file").read_bytes()
    assert (root / "file").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize(
    "members",
    [
        [("../out", {})],
        [("a/../../out", {})],
        [link("way", ".."), ("way/out", {})],
        [link("way", "/"), ("way/out", {})],
        [("a/", {}), link("a/way", "/"), ("a/way/b/c", {})],
        [link("way", "host"), ("way/", {})],
        [link("way", "/"), ("out", {"type": tarfile.LNKTYPE, "linkname": "way/file"})],
        [("out", {"type": tarfile.LNKTYPE, "linkname": "../host/secret"})],
        [("odd", {"type": b"Z"})],
        [("file", {}), ("file/below", {})],
        [("file", {"pax_headers": {"GNU.sparse.major": "3"}})],
        [("file", {"pax_headers": {"GNU.sparse.offset": "3"}})],
        [("file", {"pax_headers": {"GNU.sparse.map": "0,9999", "GNU.sparse.size": "5"}})],
        [("file", {"pax_headers": {"mtime": "soon"}})],
        [("file", {"pax_headers": {"uid": "99999999999"}})],
    ],
    ids=str,
)
@pytest.mark.parametrize("is_local", [False, True])
def test_hostile_archives_are_refused(root: Path, members, is_local: bool):
    """Paths that lead out, ways through links of the archive itself, nonsense: refused, and the host is as it was."""
    before = host_of(root)
    with pytest.raises(ContainerdError):
        unpack(archive(*members), root, is_local=is_local)
    assert host_of(root) == before
    assert not list(root.rglob(".containerd-py-*"))


def test_absolute_names_are_below_the_destination(root: Path):
    """As with every tar: a slash at the beginning says nothing."""
    (root / "sub").mkdir()
    unpack(archive(("/etc/", {}), ("/etc/file", {"data": b"x"})), root, "/sub")
    assert (root / "sub" / "etc" / "file").read_bytes() == b"x"


def test_links_of_the_container_end_at_its_root(root: Path):
    """In a container, an archive goes over the container's own links, and they lead nowhere else."""
    (root / "usr" / "lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    (root / "abs").symlink_to("/usr")
    (root / "up").symlink_to("../../../../../../..")
    unpack(archive(("lib/", {}), ("lib/one", {}), ("abs/two", {}), ("up/three", {})), root)
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == [
        "three",
        "usr/lib/one",
        "usr/two",
    ]
    assert (root / "lib").is_symlink()


@pytest.mark.parametrize("members", [[("way/", {}), ("way/file", {})], [("way/file", {})]], ids=["folder", "file"])
def test_on_this_machine_no_link_below_the_destination_is_followed(root: Path, members):
    """What an earlier copy left there may have been the same stranger's: a link it made leads nowhere."""
    (root / "way").symlink_to(root.parent / "host")
    before = host_of(root)
    with pytest.raises(FailedPreconditionError):
        unpack(archive(*members), root, is_local=True)
    assert host_of(root) == before


def test_who_makes_files_gives_away_no_rights(root: Path):
    """Without owners kept there are no set-ID bits, capabilities or devices, and files are this user's."""
    capability = b"\x01\x00\x00\x02" + bytes(16)
    pax = {"SCHILY.xattr.security.capability": capability.decode("latin-1")}
    unpack(
        archive(
            ("set", {"mode": 0o6755, "uid": 55, "gid": 66}),
            ("capable", {"pax_headers": pax}),
            ("disk", {"type": tarfile.BLKTYPE, "devmajor": 8}),
        ),
        root,
        is_local=True,
        keeps_owner=False,
    )
    status = (root / "set").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o755, os.geteuid(), os.getegid())
    assert os.listxattr(root / "capable") == []
    assert not (root / "disk").exists()


def test_what_does_not_fit_is_left(root: Path):
    """A file does not replace a directory, nor a directory a file; a file replaces a link, not what it leads to."""
    (root / "folder").mkdir()
    (root / "file").write_text("old")
    (root / "link").symlink_to("file")
    with pytest.raises(FailedPreconditionError):
        unpack(archive(("folder", {})), root)
    with pytest.raises(FailedPreconditionError):
        unpack(archive(("file/", {})), root)
    unpack(archive(("link", {"data": b"new"})), root)
    assert ((root / "file").read_text(), (root / "link").read_text(), (root / "link").is_symlink()) == (
        "old",
        "new",
        False,
    )


def test_users_are_mapped(root: Path):
    """Numbers in an archive are the container's; on the disk they are those of its user namespace."""
    ids = UserNamespace.of(100_000, 1000)
    unpack(archive(("file", {"uid": 7, "gid": 8})), root, ids=ids)
    assert ((root / "file").stat().st_uid, (root / "file").stat().st_gid) == (100_007, 100_008)
    with tarfile.open(fileobj=io.BytesIO(pack(root, "/file", "file", ids=ids))) as tar:
        assert [(member.uid, member.gid) for member in tar] == [(7, 8)]
    with pytest.raises(InvalidArgumentError, match="not mapped"):
        unpack(archive(("other", {"uid": 1000})), root, ids=ids)
    assert not list(root.rglob(".containerd-py-*"))


@pytest.mark.parametrize("cut", [0, 100, 512, 1000, 5000, 70_000])
def test_a_file_that_is_not_whole_is_not_there(root: Path, cut: int):
    """An archive that ends early leaves no half of a file, under no name."""
    data = archive(("first", {"data": b"1" * 3000}), ("second", {"data": os.urandom(100_000)}))
    with pytest.raises(ArchiveError, match="truncated"):
        unpack(data[:cut], root)
    assert {path.name for path in root.iterdir()} <= {"first"}


@pytest.mark.parametrize("seed", range(20))
def test_damage_is_told_or_harmless(root: Path, tmp_path: Path, seed: int):
    """Bytes changed at random raise this package's errors, or only change what files hold."""
    chance = random.Random(seed)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"x" * 1000)
    (tmp_path / "tree" / "long name").with_name("n" * 150).write_bytes(b"y")
    (tmp_path / "tree" / "link").symlink_to("file")
    data = bytearray(pack(tmp_path, "/tree", "tree"))
    for _ in range(10):
        data[chance.randrange(len(data))] = chance.randrange(256)
    before = host_of(root)
    with suppress(ContainerdError):
        unpack(bytes(data), root)
    assert host_of(root) == before
