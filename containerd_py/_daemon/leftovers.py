"""Clear what a stopped daemon leaves on the host: shims, their containers and sockets, cgroups, mounts.

Knows the state folder of containerd's runtime v2 and /proc; needs no daemon, and none must be running. Blocking: to be
called in a worker thread. Nothing is ever found by a mere name: shims by their daemon's address, mounts by their place.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from containerd_py._daemon.cgroups import remove_cgroups
from containerd_py._daemon.mountinfo import mount_points

TASKS: Final = "io.containerd.runtime.v2.task"
RUNC_ROOT: Final = Path("/run/containerd/runc")  # shims of runc keep its state there, whatever the daemon's state is
CGROUPS: Final = Path("/sys/fs/cgroup")
DEFAULT_SHIM: Final = "containerd-shim-runc-v2"
DELETE_LIMIT: Final = 10.0  # seconds for one shim's own clean-up
DELETE_WORKERS: Final = 8
DEATH_LIMIT: Final = 5.0  # seconds until a killed process is gone
KILL_ROUNDS: Final = 5  # what is about to die may start something else
MNT_DETACH: Final = 2  # umount2(2)
UNMOUNT_ROUNDS: Final = 3  # what was mounted twice shows again


def clear_state(state: Path, *, address: str, environment: Mapping[str, str]) -> list[str]:
    """Kill every task, end every shim of the daemon whose state folder this is; return what could not be cleared.

    `environment` must let the daemon's shims and runc be found (PATH).
    """
    bundles = sorted((state / TASKS).glob("*/*"))
    with ThreadPoolExecutor(max_workers=DELETE_WORKERS) as pool:
        list(pool.map(partial(_delete_bundle, address=address, environment=environment), bundles))
    problems = _end_shims(address)
    problems += unmount_under(state)
    remove_cgroups(f"/{bundle.parent.name}/{bundle.name}" for bundle in bundles)  # unless used, by another daemon's
    for namespace in {bundle.parent.name for bundle in bundles} | {path.name for path in (state / TASKS).glob("*")}:
        _remove_if_empty(RUNC_ROOT / namespace)
        for cgroup in (CGROUPS / namespace, *CGROUPS.glob(f"*/{namespace}")):
            _remove_if_empty(cgroup)
    return problems


def _delete_bundle(bundle: Path, *, address: str, environment: Mapping[str, str]) -> None:
    # What the daemon itself does with a shim it lost: the shim's binary kills and deletes the container at its runtime.
    shim = _read(bundle / "shim-binary-path") or DEFAULT_SHIM
    command = [shim, "-namespace", bundle.parent.name, "-id", bundle.name, "-address", address, "-bundle", str(bundle)]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [*command, "delete"],
            cwd=bundle,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DELETE_LIMIT,
            check=False,
        )


def _end_shims(address: str) -> list[str]:
    return [problem for shim in find_shims(address) for problem in end_shim(shim)]


def end_shim(shim: int) -> list[str]:
    """Kill a shim and all processes below it, and remove its sockets; return what could not be ended."""
    problems: list[str] = []
    sockets = list(_listening_sockets(shim))
    # Children first: a shim is the reaper of all its container's processes, and would leave them to init.
    for _ in range(KILL_ROUNDS):
        if not (family := _descendants(shim)):
            break
        problems += [f"process {pid} does not die" for pid in reversed(family) if not _kill(pid)]
    if not _kill(shim):
        problems.append(f"process {shim} does not die")
    for path in sockets:
        with contextlib.suppress(OSError):
            path.unlink()
    return problems


def find_shims(address: str) -> list[int]:
    """Return the process ids of the shims that serve the daemon at this address."""
    return [pid for pid in _all_pids() if _is_shim_of(_command(pid), address)]


def container_of(shim: int) -> tuple[str, str]:
    """Return the namespace and the ID that a shim was started for; empty where it has ended."""
    given = {flag.lstrip("-"): value for flag, value in pairwise(_command(shim))}
    return given.get("namespace", ""), given.get("id", "")


def containers_with_shims() -> set[tuple[str, str]]:
    """Return namespace and ID of what shims on this machine were started for, whichever daemon's they are."""
    return {
        container_of(pid) for pid in _all_pids() if Path((_command(pid) or [""])[0]).name.startswith("containerd-shim")
    }


def _is_shim_of(command: list[str], address: str) -> bool:
    if not command or not Path(command[0]).name.startswith("containerd-shim"):
        return False
    return any(flag.lstrip("-") == "address" and value == address for flag, value in pairwise(command))


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _command(pid: int) -> list[str]:
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")[:-1]
    except OSError:
        return []


def _parent(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[1])  # the command's name may hold anything, so count from its end


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for other in _all_pids():
        children.setdefault(_parent(other), []).append(other)
    found = list(children.get(pid, ()))
    for child in found:  # grows while it is walked
        found += children.get(child, ())
    return found


def _listening_sockets(pid: int) -> Iterator[Path]:
    inodes = set()
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    for line in os.fsdecode(Path("/proc/net/unix").read_bytes()).split("\n")[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[6] in inodes and fields[7].startswith("/"):
            yield Path(fields[7])


def _kill(pid: int) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
    deadline = time.monotonic() + DEATH_LIMIT
    while _is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"  # a zombie is its parent's business


def unmount_under(folder: Path) -> list[str]:
    """Unmount everything strictly below the folder, deepest first; return what could not be unmounted."""
    for _ in range(UNMOUNT_ROUNDS):
        points = mount_points_under(folder)
        for point in reversed(points):
            _unmount(point)
    return [f"{point} is still mounted" for point in mount_points_under(folder)]


def mount_points_under(folder: Path) -> list[str]:
    """Return the mount points strictly below the folder, in the order in which they were mounted."""
    prefix = f"{os.path.realpath(folder)}/"
    return [point for point in mount_points() if point.startswith(prefix)]


def _unmount(point: str) -> None:
    # Detached, as something in a container may still hold it open; Python has no umount of its own.
    ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(point), MNT_DETACH)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
