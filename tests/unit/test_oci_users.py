"""Users of hostile images: numbers stay numbers, names are looked up in the image, nobody becomes root by accident."""

import os
import stat
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.oci.rootfs import MAX_FILE_SIZE, RootFS, open_rootfs
from containerd_py.oci.users import User, UserReference, parse_user, resolve_groups, resolve_user
from containerd_py.types import Mount

PASSWD = """\
root:x:0:0:root:/root:/bin/ash
bin:x:1:1:bin:/bin:/sbin/nologin
daemon:x:2:2:daemon:/sbin:/sbin/nologin
  guest:x:405:100:guest:/dev/null:/sbin/nologin
twin:x:405:200::/:
4294967296:x:0:0:::
2147483648:x:0:0:::
-1:x:0:0:::
1_000:x:77:78:::
\u0663:x:79:80:::
"""
GROUP = """\
# comment:x:9:bin
root:x:0:root
bin:x:1:root,bin,daemon
daemon:x:2:root,bin,daemon

sys:x:3:root,bin,adm
guest:x:100:guest
games:x:300:twin,guest
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


def rootfs_at(path: Path) -> RootFS:
    return open_rootfs([Mount(type="bind", source=str(path))])


RESOLVED = {
    "": (0, 0, [0, 1, 2, 3]),
    "0": (0, 0, [0, 1, 2, 3]),
    "root": (0, 0, [0, 1, 2, 3]),
    "root:root": (0, 0, [0, 1, 2, 3]),
    "bin": (1, 1, [1, 2, 3]),
    "guest": (405, 100, [100, 300]),
    "guest:guest": (405, 100, [100, 300]),
    "guest:300": (405, 300, [300]),
    "guest:": (405, 0, [0, 300]),
    "twin": (405, 200, [200, 300]),  # groups by number go to the first of that number: guest
    "405": (405, 100, [100, 300]),
    "405:100": (405, 100, [100, 300]),
    "405:games": (405, 300, [300]),
    "1000": (1000, 0, [0]),
    "1000:": (1000, 0, [0]),
    "1000:1000": (1000, 1000, [1000]),
    "2147483647:2147483647": (2147483647, 2147483647, [2147483647]),
    ":": (0, 0, [0, 1, 2, 3]),
    ":guest": (0, 100, [100, 1, 2, 3]),
    ":5": (0, 5, [5, 1, 2, 3]),
    "+405": (405, 100, [100, 300]),
    "-0": (0, 0, [0, 1, 2, 3]),
    "0405": (405, 100, [100, 300]),
    "1_000": (77, 78, [78]),
    "\u0663": (79, 80, [80]),
}


@pytest.mark.parametrize(("user", "expected"), RESOLVED.items())
def test_resolve(root: Path, user: str, expected: tuple[int, int, list[int]]):
    """Every notation gives the user, the group and the supplementary groups the Go client gives."""
    uid, gid, gids = expected
    assert resolve_user(user, rootfs_at(root)) == User(uid=uid, gid=gid, additional_gids=tuple(gids))


def test_primary_group_comes_first(root: Path):
    """The primary group is put before the others unless it is among them (CVE-2023-25173)."""
    assert resolve_user("bin", rootfs_at(root)) == User(uid=1, gid=1, additional_gids=(1, 2, 3))
    assert resolve_user("bin:sys", rootfs_at(root)) == User(uid=1, gid=3, additional_gids=(2, 3))


OUT_OF_RANGE = [
    "2147483648",
    "4294967295",
    "4294967296",
    "-1",
    "-1000",
    "99999999999999999999",
    "9" * 5000,
    "+" + "9" * 30,
    "0:2147483648",
    "0:-1",
    "root:99999999999999999999",
]


@pytest.mark.parametrize("user", OUT_OF_RANGE)
def test_numbers_out_of_range(root: Path, user: str):
    """A number that fits nowhere is refused, though passwd has a name of those digits (CVE-2024-40635)."""
    with pytest.raises(InvalidArgumentError, match="out of range"):
        resolve_user(user, rootfs_at(root))


@pytest.mark.parametrize("user", ["a:b:c", "::", "1:2:3", "root\0"])
def test_bad_notation(root: Path, user: str):
    """At most two parts, and no NUL."""
    with pytest.raises(InvalidArgumentError):
        resolve_user(user, rootfs_at(root))


@pytest.mark.parametrize(
    "user", ["nobody", " 0", "0 ", "0x0", "1e3", "root:wheel", "1000:wheel", "root ", "GUEST", "\u0660"]
)
def test_unknown_names(root: Path, user: str):
    """A name that is not in the image's files is an error, never root."""
    with pytest.raises(NotFoundError, match="there is no"):
        resolve_user(user, rootfs_at(root))


def test_missing_files(tmp_path: Path):
    """Without the files numbers work alone and names do not."""
    rootfs = rootfs_at(tmp_path)
    assert resolve_user("", rootfs) == User(uid=0, gid=0, additional_gids=(0,))
    assert resolve_user("5", rootfs) == User(uid=5, gid=0, additional_gids=(0,))
    assert resolve_user("5:6", rootfs) == User(uid=5, gid=6, additional_gids=(6,))
    for user in ("root", "5:root", "root:5"):
        with pytest.raises(NotFoundError):
            resolve_user(user, rootfs)


def test_missing_group_file(root: Path):
    """Without a group file there are no supplementary groups but the primary one."""
    (root / "etc/group").unlink()
    assert resolve_user("guest", rootfs_at(root)) == User(uid=405, gid=100, additional_gids=(100,))


def test_missing_passwd_file(root: Path):
    """Without a passwd file an image without a user still gets root's groups."""
    (root / "etc/passwd").unlink()
    assert resolve_user("", rootfs_at(root)).additional_gids == (0, 1, 2, 3)
    assert resolve_user("0", rootfs_at(root)).additional_gids == (0,)


@pytest.mark.parametrize(
    "entry",
    ["evil:x:abc:5", "evil:x::5", "evil:x:4294967296:5", "evil:x:-1:5", "evil:x:99999999999999999999:5", "evil:x:5:abc",
     "evil:x:5", "evil:x", "evil", "evil:x:5:4294967296", "evil:x:0x0:0", "evil:x: 0:0"],
)  # fmt: skip
def test_malformed_entry_asked_for(root: Path, entry: str):
    """An entry whose numbers are none is refused, where others would make its user root."""
    (root / "etc/passwd").write_text(entry + "\n" + PASSWD)
    with pytest.raises(InvalidArgumentError, match=r"etc/passwd: the entry 'evil' has no usable number in field [34]"):
        resolve_user("evil", rootfs_at(root))


def test_malformed_entries_passed_over(root: Path):
    """Comments and garbage in front of root's entry are not taken for root's."""
    (root / "etc/passwd").write_text("# users\nevil:x:abc:7\n+::::::\n:\n\n" + PASSWD)
    (root / "etc/group").write_text("evil:x:abc:root\nevil2:x:4294967296:root\nevil3\n" + GROUP)
    assert resolve_user("0", rootfs_at(root)).additional_gids == (0, 1, 2, 3)


def test_malformed_group_asked_for(root: Path):
    """A group whose number is none is refused."""
    (root / "etc/group").write_text("evil:x:abc:\n")
    with pytest.raises(InvalidArgumentError, match=r"etc/group: the entry 'evil'"):
        resolve_user("0:evil", rootfs_at(root))


def test_files_in_other_encodings(root: Path):
    """Bytes that are no UTF-8, NULs and carriage returns do no harm."""
    (root / "etc/passwd").write_bytes(b"\xff\xfe:x:7:7:::\r\nnul\0:x:8:8:::\n\xc2\xa0odd:x:9:9:::\r\n")
    assert resolve_user("odd", rootfs_at(root)).uid == 9
    assert resolve_user("7", rootfs_at(root)).gid == 7
    with pytest.raises(NotFoundError):
        resolve_user("nul", rootfs_at(root))


@pytest.mark.parametrize(("file", "limit"), [("passwd", 64 * 1024), ("group", 1024 * 1024)])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_line_limits(root: Path, file: str, limit: int, extra: int):
    """A line and its newline fit into the Go client's buffer, or are refused."""
    line = "x" * (limit - 1 + extra)
    (root / "etc" / file).write_text(line + "\n")
    if extra > 0:
        with pytest.raises(InvalidArgumentError, match=f"etc/{file}: line 1 is longer"):
            resolve_user("", rootfs_at(root)) if file == "group" else resolve_user("5", rootfs_at(root))
    else:
        assert resolve_user("5", rootfs_at(root)).uid == 5


@pytest.mark.parametrize("kind", ["fifo", "device", "socket", "directory", "loop"])
@pytest.mark.parametrize("file", ["passwd", "group"])
def test_no_regular_file(root: Path, file: str, kind: str):
    """FIFOs do not block, devices are not opened, and what is no file is not taken for a missing one."""
    path = root / "etc" / file
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o666)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(file)
    with pytest.raises(InvalidArgumentError, match="rootfs: "):
        resolve_user("5" if file == "passwd" else "", rootfs_at(root))


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_file_size_limit(root: Path, extra: int):
    """10 MiB are read to the last entry, one byte more is refused."""
    last = b"last:x:42:43:::"
    line = b"#" * 1023 + b"\n"
    content = (line * (MAX_FILE_SIZE // len(line)))[: MAX_FILE_SIZE + extra - len(last) - 1] + b"\n" + last
    content = content.rjust(MAX_FILE_SIZE + extra, b"#")
    (root / "etc/passwd").write_bytes(content)
    if extra > 0:
        with pytest.raises(InvalidArgumentError, match="larger than 10485760 bytes"):
            resolve_user("last", rootfs_at(root))
    else:
        assert resolve_user("last", rootfs_at(root)).gid == 43


def test_a_million_groups(root: Path):
    """Memory stays near the size of the file (CVE-2026-47262)."""
    (root / "etc/group").write_bytes(b"g:x:1:ab\n" * 1_000_000 + b"last:x:2:root\n")
    tracemalloc.start()
    try:
        assert resolve_user("", rootfs_at(root)).additional_gids == (0, 2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


def test_resolve_groups(root: Path):
    """Numbers are taken as they are, up to 32 bits; names are looked up."""
    rootfs = rootfs_at(root)
    assert resolve_groups(["games", "7", "4294967295", "007"], rootfs) == (300, 7, 4294967295, 7)
    for unknown in ("wheel", "4294967296", "-1", "+5", "", " 5"):
        with pytest.raises(NotFoundError, match="there is no group"):
            resolve_groups([unknown], rootfs)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("app", UserReference(user="app")),
        ("7", UserReference(user=7)),
        ("7:app", UserReference(user=7, group="app")),
        ("app:", UserReference(user="app", group=0)),
        (":", UserReference(user=0, group=0)),
        ("", UserReference(user="")),
    ],
)
def test_parse(text: str, reference: UserReference):
    """The notation is understood without any file."""
    assert parse_user(text) == reference


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_are_taken_literally(root: Path, uid: int, gid: int):
    """Two numbers are what runs, whatever the files say."""
    resolved = resolve_user(f"{uid}:{gid}", rootfs_at(root))
    assert (resolved.uid, resolved.gid) == (uid, gid)


@given(st.text(max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_gives_a_user_or_a_typed_error(root: Path, text: str):
    """Whatever an image writes, IDs are in range and errors are ours; what Python alone calls a number is a name."""
    try:
        resolved = resolve_user(text, rootfs_at(root))
    except (InvalidArgumentError, NotFoundError):
        return
    assert 0 <= resolved.uid < 2**31
    assert 0 <= resolved.gid < 2**31
