"""A network's bridge on the host, removed with the rules that name it. Blocking."""

from __future__ import annotations

from pathlib import Path

from containerd_py.cni.attachment import check_interface
from containerd_py.cni.netns import in_netns
from containerd_py.cni.rules import remove_bridge_rules, run_tool
from containerd_py.errors import CNIError


def remove_bridge(name: str, netns: Path | None) -> None:
    """Remove a bridge and the isolation rules of the firewall plugin for it; that there is none is fine.

    Raises:
        CNIError: It cannot be removed.
    """
    check_interface(name)
    in_netns(netns, lambda: _remove(name))


def _remove(name: str) -> None:
    if _exists(name):
        done = run_tool("ip", "link", "delete", name, "type", "bridge")
        if done is None:
            raise CNIError(
                f"bridge {name} stays: there is no `ip` to remove it with (Debian: apt-get install iproute2)"
            )
        if done.returncode and _exists(name):
            raise CNIError(f"bridge {name} cannot be removed: {done.stderr.strip()}")
    remove_bridge_rules(name)


def _exists(name: str) -> bool:
    # Of the thread, not of the process: only the thread is in the namespace.
    table = Path("/proc/thread-self/net/dev").read_text()
    return any(line.partition(":")[0].strip() == name for line in table.splitlines())
