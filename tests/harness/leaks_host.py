"""What a daemon and its tasks leave on the host: processes, mounts, cgroups."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.harness.leaks_daemon import Found

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")


def shims(address: str, namespace: str | None = None) -> dict[str, str]:
    """List the shims that serve the daemon at ``address``, by pid."""
    return {
        pid: " ".join(arguments)
        for pid, arguments in _command_lines()
        if os.path.basename(arguments[0]).startswith("containerd-shim")  # noqa: PTH119
        and _option(arguments, "address") == address
        and namespace in (None, _option(arguments, "namespace"))
    }


def children() -> dict[str, str]:
    """List the child processes of this one, zombies included, by pid and start time."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = rest.split()
        if int(fields[1]) == os.getpid():
            state = "zombie" if fields[0] == "Z" else "running"
            found[f"{path.parent.name} since {fields[19]}"] = f"{name.partition('(')[2]} {state}"
    return found


def mounts(folders: Iterable[Path]) -> dict[str, str]:
    """List the mounts in and under ``folders``, by mount point."""
    roots = tuple(str(folder) for folder in folders)
    return {
        point: kind for point, kind in _mounts() if any(point == root or point.startswith(f"{root}/") for root in roots)
    }


def network_namespaces() -> dict[str, str]:
    """List the network namespaces that are kept by a mount, those of `network_host` apart.

    These are looked after by their fixture; other workers of the same run make some at any time.
    """
    return {point: kind for point, kind in _mounts() if kind == "nsfs" and "/network-host/" not in point}


def cgroups(namespace: str) -> dict[str, str]:
    """List the cgroups below the one that bears the namespace's name, in every hierarchy."""
    found = {}
    for parent in _namespace_cgroups(namespace):
        for folder in sorted(parent.rglob("*/")):
            processes = (folder / "cgroup.procs").read_text().split() if folder.exists() else []
            found[str(folder)] = f"processes {processes}"
    return found


def remove_empty_cgroups(namespace: str) -> None:
    """Remove the namespace's own cgroups, which runc makes as parents and never removes."""
    for parent in _namespace_cgroups(namespace):
        try:
            parent.rmdir()
        except OSError:
            continue  # a task is in it: that is for the oracle to tell


def look(address: str, folders: Iterable[Path], namespace: str | None) -> Found:
    """Look at everything on the host that belongs to one daemon and namespace."""
    found = {
        "shim": shims(address, namespace),
        "mount": mounts(folders),
        "cgroup": cgroups(namespace) if namespace else {},
    }
    return {kind: names for kind, names in found.items() if names}


def _namespace_cgroups(namespace: str) -> Iterator[Path]:
    for hierarchy in (CGROUP_ROOT, *CGROUP_ROOT.glob("*/")):
        if (hierarchy / namespace / "cgroup.procs").exists():
            yield hierarchy / namespace


def _command_lines() -> Iterator[tuple[str, list[str]]]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if arguments[0]:
            yield path.parent.name, arguments


def _option(arguments: list[str], name: str) -> str | None:
    """Return the value of a Go-style option, ``-name value`` or ``--name=value``."""
    for position, argument in enumerate(arguments):
        option, has_value, value = argument.partition("=")
        if option in (f"-{name}", f"--{name}"):
            return value if has_value else next(iter(arguments[position + 1 :]), None)
    return None


def _mounts() -> Iterator[tuple[str, str]]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        yield _unescape(fields[4]), fields[fields.index("-") + 1]


def _unescape(text: str) -> str:
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text
