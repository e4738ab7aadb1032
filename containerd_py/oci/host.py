"""What this machine has to give to containers: capabilities, devices, cgroups. Reads; changes nothing.

Useful where the daemon runs on the same machine with the same rights. Calls block, but for `current_capabilities`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.oci.capabilities import KNOWN_CAPABILITIES
from containerd_py.oci.runtime_spec import Device

_KINDS: Final = {stat.S_IFBLK: "b", stat.S_IFCHR: "c", stat.S_IFIFO: "p"}
# Containers get their own of these; the last three are other container engines' and udev's.
_SKIPPED_DIRECTORIES: Final = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})


def current_capabilities() -> list[str]:
    """Return the capabilities this process has (its effective set)."""
    status = _own_status().decode()
    mask = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    return [name for bit, name in enumerate(KNOWN_CAPABILITIES) if mask >> bit & 1]


def supports_seccomp() -> bool:
    """Tell whether this machine's kernel can filter system calls. Blocks for a moment."""
    return b"\nSeccomp:" in _own_status()


def uses_cgroup2() -> bool:
    """Tell whether this machine has cgroup v2 alone, for `default_spec`. Blocks."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def _own_status() -> bytes:
    with open("/proc/self/status", "rb", buffering=0) as file:  # noqa: PTH123  # one unbuffered read of the kernel's text
        return file.read()


def device_at(path: str, *, container_path: str | None = None, follow_links: bool = False) -> Device:
    """Describe the device node at a path, under the same or another path in the container. Blocks.

    `follow_links` describes what a link leads to, at the link's path.

    Raises:
        NotFoundError: There is nothing at the path.
        InvalidArgumentError: It is not a device.
    """
    try:
        status = os.stat(path, follow_symlinks=follow_links)  # noqa: PTH116  # one call for both
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no device at {path!a}") from error
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        raise InvalidArgumentError(f"{path!a} is not a device")
    return {
        "path": container_path or path,
        "type": kind,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def devices_below(directory: str = "/dev", *, container_directory: str | None = None) -> list[Device]:
    """Describe the devices in a directory and below, but for terminals, FIFOs and what this user may not see. Blocks.

    Raises:
        NotFoundError: There is no such directory.
    """
    if not Path(directory).is_dir():
        raise NotFoundError(f"there is no directory at {directory!a}")
    return list(_walk(directory, container_directory or directory))


def _walk(directory: str, inside: str) -> Iterator[Device]:
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except (PermissionError, FileNotFoundError):
        return
    for entry in entries:
        inside_path = f"{inside.rstrip('/')}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _SKIPPED_DIRECTORIES:
                yield from _walk(entry.path, inside_path)
        elif entry.name != "console":
            try:
                device = device_at(entry.path, container_path=inside_path)
            except (InvalidArgumentError, NotFoundError, PermissionError):
                continue  # no device, or gone meanwhile
            if device["type"] != "p":
                yield device
