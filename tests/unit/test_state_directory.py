"""Where the things of containers lie, and which labels are believed about it."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from containerd_py._flows.directory_locks import DirectoryLock, locked_directory, make_private_directory, try_lock
from containerd_py._flows.state_directory import StateDirectory, data_store, recorded_state_directory
from containerd_py._transport.connection import Connection
from containerd_py.errors import InvalidArgumentError


def connection(address: str, data_root: str | None = None) -> Connection:
    made: Any = Connection.__new__(Connection)
    made.address, made.data_root = address, data_root
    return made


@pytest.mark.parametrize(
    ("address", "store"),
    [
        ("/run/containerd/containerd.sock", "1935db59"),
        ("/run/k3s/containerd/containerd.sock", "dbb19c5e"),
        ("/run/docker/containerd/containerd.sock", "55e780ce"),
        ("/proc/4711/root/run/containerd/containerd.sock", "1935db59"),
    ],
)
def test_the_store_is_nerdctls(address: str, store: str):
    """A daemon's store is where nerdctl looks for it, inside and outside of a rootless daemon's namespaces."""
    assert data_store(connection(address, "/data")) == f"/data/{store}"


def test_links_lead_to_the_same_store(tmp_path: Path):
    """A daemon has one store, whatever its socket is called."""
    (tmp_path / "socket").touch()
    (tmp_path / "link").symlink_to(tmp_path / "socket")
    assert data_store(connection(f"{tmp_path}/link", "/d")) == data_store(connection(f"{tmp_path}/socket", "/d"))


def test_data_roots(monkeypatch: pytest.MonkeyPatch):
    """The argument, else our variable, else nerdctl's place: the system's for root, the user's where rootless."""
    socket = "/run/containerd/containerd.sock"
    monkeypatch.delenv("CONTAINERD_PY_DATA_ROOT", raising=False)
    monkeypatch.delenv("ROOTLESSKIT_STATE_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert data_store(connection(socket)) == "/var/lib/nerdctl/1935db59"
    monkeypatch.setenv("ROOTLESSKIT_STATE_DIR", "/run/user/1000/containerd-rootless")
    monkeypatch.setenv("XDG_DATA_HOME", "/home/user/data")
    assert data_store(connection(socket)) == "/home/user/data/nerdctl/1935db59"
    monkeypatch.setenv("CONTAINERD_PY_DATA_ROOT", "/elsewhere")
    assert data_store(connection(socket)) == "/elsewhere/1935db59"
    assert data_store(connection(socket, "/given")) == "/given/1935db59"


@pytest.mark.parametrize(
    "label",
    [
        "",
        "/",
        "/containers/ns/id",
        "relative/containers/ns/id",
        "/store/../containers/ns/id",
        "/store//containers/ns/id",
        "/store/containers/ns/id/",
        "/store/containers/ns/other",
        "/store/containers/other/id",
        "/store\0/containers/ns/id",
    ],
)
def test_labels_that_are_not_believed(label: str):
    """A label that names anything but this very container's directory is as good as none."""
    assert recorded_state_directory("ns", "id", {"nerdctl/state-dir": label}) is None


def test_a_label_that_is_believed():
    """The directory and its store are found again."""
    found = recorded_state_directory("ns", "id", {"nerdctl/state-dir": "/store/containers/ns/id"})
    assert found == StateDirectory(store="/store", namespace="ns", container_id="id")
    assert found.hosts == "/store/etchosts/ns/id"


def test_private_directories(tmp_path: Path):
    """All that is made below the root is its user's alone; a file or a link in the way is told."""
    assert make_private_directory(f"{tmp_path}/root/a/b", below=f"{tmp_path}/root")
    assert not make_private_directory(f"{tmp_path}/root/a/b", below=f"{tmp_path}/root")
    for place in ("root", "root/a", "root/a/b"):
        assert (tmp_path / place).stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        with pytest.raises(InvalidArgumentError):
            make_private_directory(f"{tmp_path}/{path}", below=str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path / "root")
    with pytest.raises(InvalidArgumentError, match="no directory"):
        DirectoryLock(f"{tmp_path}/link").try_take()


async def test_one_at_a_time(tmp_path: Path):
    """Who holds a directory keeps others out, of the same program as well."""
    inside = 0

    async def enter() -> None:
        nonlocal inside
        async with locked_directory(f"{tmp_path}/a/b", below=str(tmp_path)):
            inside += 1
            assert inside == 1
            await anyio.sleep(0.001)
            inside -= 1

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(enter)


def test_a_lock_is_on_what_has_the_name(tmp_path: Path):
    """A directory that was removed and made anew is locked anew."""
    path = tmp_path / "held"
    path.mkdir()
    first, second = DirectoryLock(str(path)), DirectoryLock(str(path))
    assert first.try_take()
    assert not second.try_take()
    path.rmdir()
    assert not second.try_take()
    path.mkdir()
    assert second.try_take()
    first.release()
    second.release()


async def test_a_lock_taken_while_its_task_is_cancelled_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever is cancelled while a thread takes a lock knows afterwards that it is held, and can give it back."""
    begun, may_go_on = threading.Event(), threading.Event()
    take = DirectoryLock.try_take

    def slow(lock: DirectoryLock) -> bool:
        begun.set()
        may_go_on.wait(10)
        return take(lock)

    monkeypatch.setattr(DirectoryLock, "try_take", slow)
    lock, seen = DirectoryLock(str(tmp_path)), []

    async def hold() -> None:
        try:
            await try_lock(lock)
        finally:
            seen.append(lock.is_held)
            lock.release()

    task = asyncio.get_running_loop().create_task(hold())
    await anyio.to_thread.run_sync(begun.wait)
    task.cancel()
    await anyio.sleep(0.01)
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [True]
