"""A network's bridge on the host, removed with the rules that name it. Blocking; knows `ip` and `iptables`."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Final

from containerd_py.cni.attachment import check_interface
from containerd_py.cni.netns import in_netns
from containerd_py.errors import CNIError

_BOUND: Final = 30.0  # seconds a tool may take
_FOLDERS: Final = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def remove_bridge(name: str, netns: Path | None) -> None:
    """Remove a bridge and the isolation rules of the firewall plugin for it; that there is none is fine.

    Raises:
        CNIError: It cannot be removed.
    """
    check_interface(name)
    in_netns(netns, lambda: _remove(name))


def _remove(name: str) -> None:
    if _exists(name):
        done = _run("ip", "link", "delete", name, "type", "bridge")
        if done is None:
            raise CNIError(
                f"bridge {name} stays: there is no `ip` to remove it with (Debian: apt-get install iproute2)"
            )
        if done.returncode and _exists(name):
            raise CNIError(f"bridge {name} cannot be removed: {done.stderr.strip()}")
    for tool in ("iptables", "ip6tables"):
        _remove_rules(tool, name)


def _remove_rules(tool: str, bridge: str) -> None:
    listed = _run(tool, "-w", "-t", "filter", "-S", "CNI-ISOLATION-STAGE-1")
    if listed is None or listed.returncode:
        return  # no such program, or no such chain
    stage2 = _run(tool, "-w", "-t", "filter", "-S", "CNI-ISOLATION-STAGE-2")
    for rule in (*listed.stdout.splitlines(), *(stage2.stdout.splitlines() if stage2 is not None else ())):
        words = _words(rule)
        if words[:1] == ["-A"] and bridge in words:
            _run(tool, "-w", "-t", "filter", "-D", *words[1:])


def _words(rule: str) -> list[str]:
    return shlex.split(rule)


def _exists(name: str) -> bool:
    # Of the thread, not of the process: only the thread is in the namespace.
    table = Path("/proc/thread-self/net/dev").read_text()
    return any(line.partition(":")[0].strip() == name for line in table.splitlines())


def _run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    program = shutil.which(tool, path=_FOLDERS)
    if program is None:
        return None
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=_BOUND, stdin=subprocess.DEVNULL
    )
