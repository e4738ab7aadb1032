"""Cgroups that a container has left. Blocking; knows how the hierarchies are mounted, asks no daemon and no runtime.

runc makes a container's cgroups before it writes down that there is a container: killed in between, it leaves cgroups
that no later runc knows of. Nothing is killed here, and what has a process in it stays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
_KINDS: Final = {"cgroup", "cgroup2"}
_MAX_PATH: Final = 4096  # PATH_MAX
_PART: Final = re.compile(r"[^/\0]{1,255}")  # NAME_MAX


def cgroup_place(path: str) -> str:
    """Return where below each hierarchy a spec's cgroup path leads; empty where that is not for us to tell.

    A path that is not absolute is below the cgroup of whoever started runc, or "slice:prefix:name" and systemd's.
    """
    parts = path.removeprefix("/").split("/")
    if not path.startswith("/") or len(path) >= _MAX_PATH:
        return ""
    return "/".join(parts) if all(_PART.fullmatch(part) and part not in {".", ".."} for part in parts) else ""


def hierarchies(mountinfo: str) -> list[Path]:
    """Return where the hierarchies are, of either version; `mountinfo` is what /proc/self/mountinfo says."""
    found: dict[Path, None] = {}
    for line in filter(None, mountinfo.split("\n")):  # names of mount points are anybody's: no splitlines()
        fields = line.split(" ")
        point = Path(fields[4])
        if fields[fields.index("-") + 1] in _KINDS and (point == ROOT or ROOT in point.parents):
            found[point] = None
    return list(found)


def remove_cgroups(paths: Iterable[str]) -> list[str]:
    """Remove the cgroups, with those in them, that specs' paths lead to; return those that could not be removed."""
    mounted = hierarchies(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))
    places = [place for place in map(cgroup_place, paths) if place]
    return [problem for place in places for root in mounted for problem in remove_tree(root / place)]


def remove_tree(cgroup: Path) -> list[str]:
    """Remove one cgroup with those in it, unless a process is in any of them; tell what is in the way."""
    tree = [Path(folder) for folder, _, _ in os.walk(cgroup)]
    if processes := [process for folder in tree for process in _processes(folder)]:
        return [f"{cgroup} is in use by {', '.join(processes)}"]
    for folder in reversed(tree):  # a cgroup comes after the one it is in
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            return [f"{cgroup} stays: {error.strerror}"]
    return []


def _processes(cgroup: Path) -> list[str]:
    try:
        return [f"process {pid}" for pid in (cgroup / "cgroup.procs").read_text().split()]
    except FileNotFoundError:
        return []  # gone meanwhile
    except OSError as error:  # a threaded cgroup tells no processes
        return [f"threads ({error.strerror})"]
