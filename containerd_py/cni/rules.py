"""Firewall rules that plugins leave behind where they cannot know better, removed. Blocking; knows iptables.

In the network namespace of the calling thread.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from containerd_py.errors import CNIError

TOOLS: Final = ("iptables", "ip6tables")
_BOUND: Final = 30.0  # seconds a tool may take
_FOLDERS: Final = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_ISOLATION: Final = ("CNI-ISOLATION-STAGE-1", "CNI-ISOLATION-STAGE-2")  # of the firewall plugin


def run_tool(tool: str, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Run one of the system's own tools; return None where it is not installed.

    Raises:
        CNIError: It did not end: most likely another program holds the lock of the rules.
    """
    program = shutil.which(tool, path=_FOLDERS)
    if program is None:
        return None
    try:
        return subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            timeout=_BOUND,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise CNIError(
            f"{tool} did not end within {_BOUND:g} s and was killed: does another program hold its lock?"
        ) from error


def remove_bridge_rules(bridge: str) -> None:
    """Remove the rules by which the firewall plugin keeps a bridge apart from others."""
    for tool in TOOLS:
        for rule in _rules(tool, "filter"):
            if rule[1] in _ISOLATION and bridge in rule:
                run_tool(tool, "-w", "-t", "filter", "-D", *rule[1:])


def remove_container_rules(network: str, container_id: str) -> None:
    """Remove what bridge, ptp and portmap have made for a container and cannot undo without its namespace."""
    mark = f'name: "{network}" id: "{container_id}"'  # the plugins' comment on their rules
    for tool in TOOLS:
        chains = set()
        for rule in _rules(tool, "nat"):
            if any(word.removeprefix("dnat ") == mark for word in rule):
                run_tool(tool, "-w", "-t", "nat", "-D", *rule[1:])
                chains |= {word for word in _after(rule, "-j") if word.startswith("CNI-")}
        for chain in sorted(chains):
            run_tool(tool, "-w", "-t", "nat", "-F", chain)
            run_tool(tool, "-w", "-t", "nat", "-X", chain)


def _rules(tool: str, table: str) -> Iterator[list[str]]:
    listed = run_tool(tool, "-w", "-t", table, "-S")
    for line in listed.stdout.split("\n") if listed is not None else ():
        try:
            words = shlex.split(line)
        except ValueError:
            continue  # a comment of somebody else's: what plugins write is whole
        if words[:1] == ["-A"]:
            yield words


def _after(words: list[str], option: str) -> list[str]:
    return [word for before, word in pairwise(words) if before == option]
