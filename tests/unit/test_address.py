"""Which socket is meant, and what to tell when it cannot be used: distinct errors that say what to do."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerd_py._transport import address as address_module
from containerd_py._transport.address import DEFAULT_ADDRESS, MAX_SOCKET_PATH, explain, resolve_address
from containerd_py._transport.connection import Rpc, open_connection
from containerd_py._transport.scope import Scope
from containerd_py.errors import (
    DaemonConnectError,
    DaemonNotListeningError,
    InvalidArgumentError,
    SocketNotFoundError,
    SocketPermissionError,
)
from containerd_py.services.version import VersionService

NOBODY = 65534  # a uid and gid without rights


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONTAINERD_ADDRESS", "XDG_RUNTIME_DIR", "ROOTLESSKIT_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Lend a folder whose path leaves room for a socket's name, open to everybody."""
    with tempfile.TemporaryDirectory(prefix="addr-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolve as somebody who is not root would."""
    monkeypatch.setattr(os, "geteuid", lambda: 4242)


async def call(address: str) -> None:
    async with open_connection(resolve_address(address)) as connection:
        await VersionService(Rpc(connection, Scope(namespace="default"))).version()


# ── resolution ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ("/a/b.sock", "/a/b.sock"),
        ("unix:///a/b.sock", "/a/b.sock"),
        (Path("/a/b.sock"), "/a/b.sock"),
        ("/a b/ü.sock", "/a b/ü.sock"),
        ("unix:///a b/ü.sock", "/a b/ü.sock"),
        ("b.sock", str(Path.cwd() / "b.sock")),
        ("unix://b.sock", str(Path.cwd() / "b.sock")),
        (None, DEFAULT_ADDRESS),
    ],
)
def test_an_address_is_a_path_with_or_without_its_scheme(given: str | Path | None, resolved: str):
    """Paths and unix:// addresses name the same socket; relative ones count from the working directory."""
    assert resolve_address(given) == resolved


@pytest.mark.parametrize(
    "given",
    ["", "unix://", "tcp://127.0.0.1:1", "http://localhost/a", "npipe:////./pipe/containerd", "vsock://2:1", "/a\0b"],
)
def test_what_is_no_unix_socket_is_refused(given: str):
    """Other schemes, nothing, and NUL are refused with the form to use."""
    with pytest.raises(InvalidArgumentError, match=r"give a unix socket as /path/to/containerd\.sock or unix:///path"):
        resolve_address(given)


def test_linux_limits_a_sockets_path():
    """107 bytes fit into the kernel's structure, 108 do not, counted as bytes of the file system's encoding."""
    longest = "/" + "a" * (MAX_SOCKET_PATH - 1)
    assert resolve_address(longest) == longest
    for too_long in (longest + "a", "/" + "ü" * (MAX_SOCKET_PATH // 2 + 1)):
        with pytest.raises(InvalidArgumentError, match="longer than the 107 bytes Linux allows"):
            resolve_address(too_long)


def test_the_environment_decides_where_the_argument_does_not(monkeypatch: pytest.MonkeyPatch):
    """$CONTAINERD_ADDRESS stands in for a missing argument only, in both forms; empty counts as unset."""
    monkeypatch.setenv("CONTAINERD_ADDRESS", "unix:///from/env.sock")
    assert resolve_address(None) == "/from/env.sock"
    assert resolve_address("/given.sock") == "/given.sock"
    monkeypatch.setenv("CONTAINERD_ADDRESS", "")
    assert resolve_address(None) == DEFAULT_ADDRESS


def test_the_environment_is_checked_as_well(monkeypatch: pytest.MonkeyPatch):
    """A bad $CONTAINERD_ADDRESS is refused, not passed over."""
    monkeypatch.setenv("CONTAINERD_ADDRESS", "tcp://127.0.0.1:1")
    with pytest.raises(InvalidArgumentError, match=r"tcp://127\.0\.0\.1:1"):
        resolve_address(None)


# ── rootless daemons ────────────────────────────────────────────────────────────────────────────────────────────────


def listening(path: Path) -> socket.socket:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


def test_a_users_own_socket_comes_before_the_systems(short_path: Path, monkeypatch: pytest.MonkeyPatch, as_user: None):
    """Where $XDG_RUNTIME_DIR has a rootless daemon's socket, that one is meant; $CONTAINERD_ADDRESS still wins."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    path = short_path / "containerd" / "containerd.sock"
    assert resolve_address(None) == DEFAULT_ADDRESS
    with listening(path):
        assert resolve_address(None) == str(path)
        monkeypatch.setenv("CONTAINERD_ADDRESS", "/from/env.sock")
        assert resolve_address(None) == "/from/env.sock"


def test_rootlesskits_child_shows_its_socket(short_path: Path, monkeypatch: pytest.MonkeyPatch, as_user: None):
    """A daemon inside rootlesskit is reached through its child's root; a state that is not a pid is passed over."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path / "none"))
    monkeypatch.setenv("ROOTLESSKIT_STATE_DIR", str(short_path))
    seen: list[str] = []

    def access(path: os.PathLike[str], _mode: int) -> bool:
        seen.append(str(path))
        return str(path) == f"/proc/4711/root{DEFAULT_ADDRESS}"

    monkeypatch.setattr(os, "access", access)
    (short_path / "child_pid").write_text("4711\n")
    assert resolve_address(None) == f"/proc/4711/root{DEFAULT_ADDRESS}"
    (short_path / "child_pid").write_text("../1")
    assert resolve_address(None) == DEFAULT_ADDRESS
    assert not any("../1" in path for path in seen)


def test_rootlesskits_state_is_found_below_the_runtime_folder(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, as_user: None
):
    """Without $ROOTLESSKIT_STATE_DIR the usual folder is looked at."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    monkeypatch.setattr(os, "access", lambda path, _mode: str(path).startswith("/proc/4711/"))
    (short_path / "containerd-rootless").mkdir()
    (short_path / "containerd-rootless" / "child_pid").write_text("4711")
    assert resolve_address(None) == f"/proc/4711/root{DEFAULT_ADDRESS}"


def test_root_has_no_rootless_daemon(short_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Root, also the one inside rootlesskit's child, means the system's address."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    with listening(short_path / "containerd" / "containerd.sock"):
        assert resolve_address(None) == DEFAULT_ADDRESS


# ── what is told when it does not work ──────────────────────────────────────────────────────────────────────────────


async def test_no_socket_says_where_and_what_to_do(short_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A missing socket names its path and the ways out; Docker is not mentioned where it is not there."""
    monkeypatch.setattr(address_module, "DOCKER_ADDRESSES", (str(short_path / "docker.sock"),))
    path = str(short_path / "containerd.sock")
    with pytest.raises(SocketNotFoundError) as raised:
        await call(path)
    assert raised.value.address == path
    assert str(raised.value) == (
        f"there is no containerd socket at {path}: start containerd, or give its address "
        "(argument or $CONTAINERD_ADDRESS)"
    )
    assert isinstance(raised.value.__cause__, FileNotFoundError)


async def test_no_socket_names_dockers(short_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where Docker's own containerd is there and ours is not, its address and namespace are given."""
    dockers = short_path / "docker" / "containerd.sock"
    monkeypatch.setattr(address_module, "DOCKER_ADDRESSES", (str(dockers),))
    with listening(dockers), pytest.raises(SocketNotFoundError) as raised:
        await call(str(short_path / "containerd.sock"))
    assert f"Docker's own containerd is at {dockers} (namespace 'moby'), to be used with address='{dockers}'" in str(
        raised.value
    )


async def test_a_file_on_the_way_is_no_socket_either(short_path: Path):
    """A path through a file leads nowhere."""
    (short_path / "file").write_text("")
    with pytest.raises(SocketNotFoundError):
        await call(str(short_path / "file" / "containerd.sock"))


@pytest.mark.parametrize("kind", ["directory", "file", "fifo"])
async def test_what_is_no_socket_is_said_to_be_none(short_path: Path, kind: str):
    """A directory, file or FIFO in the socket's place is told apart from a dead daemon's socket."""
    path = short_path / "containerd.sock"
    {"directory": path.mkdir, "file": path.touch, "fifo": lambda: os.mkfifo(path)}[kind]()
    with pytest.raises(DaemonNotListeningError) as raised:
        await call(str(path))
    assert str(raised.value).startswith(f"nobody listens on {path}: it is not a socket; ")


async def test_a_stale_socket_says_that_the_daemon_has_gone(short_path: Path):
    """The socket file of a daemon that died refuses: start it again."""
    path = short_path / "containerd.sock"
    listening(path).close()
    assert stat.S_ISSOCK(path.stat().st_mode)
    with pytest.raises(DaemonNotListeningError) as raised:
        await call(str(path))
    assert str(raised.value) == f"nobody listens on {path}: containerd has stopped or crashed; start it again"
    assert raised.value.address == str(path)


async def test_a_datagram_socket_is_a_typed_error(short_path: Path):
    """A socket of another type is reported as what it is."""
    path = short_path / "containerd.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(DaemonConnectError, match=f"cannot connect to containerd at {path}: .*wrong type"):
            await call(str(path))


AS_NOBODY = f"""
import os, sys, anyio
from tests.unit.test_address import call
from containerd_py._generated.google.protobuf import Empty
from containerd_py.errors import DaemonConnectError
async def main():
    bytes(Empty())  # what is loaded when it is needed has to be loaded by somebody who may read it
    if os.geteuid() == 0:
        os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
    try:
        await call(sys.argv[1])
    except DaemonConnectError as error:
        print(os.geteuid(), os.getegid(), type(error).__name__, error.address, str(error), sep="\\n")
anyio.run(main)
"""


def test_without_permission_it_says_who_may(short_path: Path):
    """A user without rights learns who they are, whose socket it is, and the three ways out (root: as uid 65534)."""
    path = short_path / "containerd.sock"
    with listening(path):
        path.chmod(0o040)
        command = [sys.executable, "-c", AS_NOBODY, path]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    uid, gid, kind, address, text = done.stdout.splitlines()
    assert (kind, address) == ("SocketPermissionError", str(path))
    assert text.startswith(f"user {uid} (groups {gid}")
    assert text.endswith(
        f" may not use the containerd socket {path} (mode 0040, owner {os.getuid()}:{os.getgid()}): "
        "run as root, join the socket's group, or use a rootless containerd"
    )
    assert os.getuid() != 0 or uid == str(NOBODY)


def test_permission_without_a_look_at_the_socket(short_path: Path):
    """Where not even the mode can be read, the rest is said all the same."""
    made = explain(PermissionError(errno.EACCES, "Permission denied"), str(short_path / "unseen"))
    assert type(made) is SocketPermissionError
    assert f"may not use the containerd socket {short_path}/unseen: run as root" in str(made)


def test_any_other_failure_is_a_connect_error():
    """What nobody foresaw still says where and what."""
    made = explain(OSError(errno.EMFILE, "Too many open files"), "/a.sock")
    assert type(made) is DaemonConnectError
    assert str(made) == "cannot connect to containerd at /a.sock: [Errno 24] Too many open files"
