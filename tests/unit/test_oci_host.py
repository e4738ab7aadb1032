"""What this machine has is described as it is."""

import os
import stat
from pathlib import Path

import pytest

from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.oci.host import current_capabilities, device_at, devices_below, supports_seccomp, uses_cgroup2

NULL = {"path": "/dev/null", "type": "c", "major": 1, "minor": 3}


def test_device():
    """A node's kind, numbers, mode and owner are told."""
    status = Path("/dev/null").stat()
    more = {"fileMode": stat.S_IMODE(status.st_mode), "uid": status.st_uid, "gid": status.st_gid}
    assert device_at("/dev/null") == NULL | more
    assert device_at("/dev/null", container_path="/dev/x") == NULL | more | {"path": "/dev/x"}


def test_no_device(tmp_path: Path):
    """Files, links and nothing are no devices."""
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(InvalidArgumentError, match="is not a device"):
            device_at(str(path))
    with pytest.raises(NotFoundError):
        device_at(str(tmp_path / "missing"))


def test_devices_below(tmp_path: Path):
    """Devices are found in subdirectories; terminals, FIFOs, links and files are left out."""
    for directory in ("a", "pts", "shm", ".udev"):
        (tmp_path / directory).mkdir()
    for name in ("console", "null", "a/zero", "pts/0", "shm/x", ".udev/y"):
        os.mknod(tmp_path / name, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("null")
    found = devices_below(str(tmp_path), container_directory="/dev/")
    assert [device["path"] for device in found] == ["/dev/a/zero", "/dev/null"]
    assert [device["path"] for device in devices_below(str(tmp_path))] == [f"{tmp_path}/a/zero", f"{tmp_path}/null"]


def test_devices_of_this_machine():
    """/dev has at least null, and no console."""
    paths = {device["path"] for device in devices_below()}
    assert "/dev/null" in paths
    assert "/dev/console" not in paths


def test_no_directory(tmp_path: Path):
    """A missing directory is an error, not an empty list."""
    with pytest.raises(NotFoundError):
        devices_below(str(tmp_path / "missing"))


def test_capabilities_and_cgroups():
    """Both are read from the kernel."""
    assert all(name.startswith("CAP_") for name in current_capabilities())
    assert uses_cgroup2() is Path("/sys/fs/cgroup/cgroup.controllers").exists()


def test_seccomp_is_what_the_kernel_says():
    """The kernel tells of a filter, even of none, if it can have one."""
    assert supports_seccomp() is Path("/proc/sys/kernel/seccomp").is_dir()
