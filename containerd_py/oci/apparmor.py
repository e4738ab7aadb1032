"""An AppArmor profile for containers, as text. Pure; `apparmor_parser` turns it into what the kernel takes.

It allows what programs usually do, and denies what reaches out of a container even for root in it: mounts, and writing
what of /proc and /sys is not the container's own. It denies the same as the profile of containerd and Docker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from containerd_py.errors import InvalidArgumentError

DEFAULT_APPARMOR_PROFILE: Final = "containerd-py-default"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)

_ALLOWED: Final = (
    "network,",
    "unix,",
    "capability,",
    "file,",
    "umount,",
    "# The host ends containers, whatever confines its runtime.",
    "signal (receive) peer=unconfined,",
    "signal (receive) peer=runc,",
    "signal (receive) peer=crun,",
)
_DENIED: Final = (
    "deny mount,",
    "deny /proc/* w,",
    "deny /proc/sysrq-trigger rwklx,",
    "deny /proc/kcore rwklx,",
    "deny /proc/mem rwklx,",
    "deny /proc/kmem rwklx,",
    "deny /sys/firmware/** rwklx,",
    "deny /sys/devices/virtual/powercap/** rwklx,",
    "deny /sys/kernel/security/** rwklx,",
)


def check_apparmor_name(name: str) -> str:
    """Return the name of a profile if it is one that needs no quotes.

    Raises:
        InvalidArgumentError: It is not.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"{name[:160]!a} is no name for an AppArmor profile: give letters, digits, '.', '_' and '-', 128 at most"
        )
    return name


def default_apparmor_profile(name: str = DEFAULT_APPARMOR_PROFILE) -> str:
    """Return the text of a profile for containers.

    Raises:
        InvalidArgumentError: The name would need quotes.
    """
    check_apparmor_name(name)
    rules = [
        *_ALLOWED,
        "# Among themselves, processes of the container may signal and trace.",
        f"signal (send, receive) peer={name},",
        f"ptrace (trace, read, tracedby, readby) peer={name},",
        *_DENIED,
        "# What is below /proc, but for processes (by number, self and thread-self) and some sysctls.",
        *(f"deny /proc/{glob}/** w," for glob in _other_names("self", "sys", "thread-self", digits=True)),
        *(f"deny /proc/sys/{glob}{{,/**}} w," for glob in _other_names("kernel")),
        *(f"deny /proc/sys/kernel/{glob}{{,/**}} w," for glob in _names_not_beginning_with("shm")),
        "# What is below /sys, but for cgroups.",
        *(f"deny /sys/{glob}/** wklx," for glob in _other_names("fs")),
        *(f"deny /sys/fs/{glob}/** wklx," for glob in _other_names("cgroup")),
    ]
    body = "".join(f"  {rule}\n" for rule in rules)
    return f"profile {name} flags=(attach_disconnected, mediate_deleted) {{\n{body}}}\n"


def _other_names(*names: str, digits: bool = False) -> Iterator[str]:
    """Yield globs that together match every file name but these, and but numbers with `digits`."""
    prefixes = sorted({name[:size] for name in names for size in range(len(name) + 1)})
    for prefix in prefixes:
        following = "".join(sorted({name[len(prefix)] for name in names if name.startswith(prefix) and name != prefix}))
        numbers = "0-9" if digits and not prefix else ""
        escaped = following.replace("-", r"\-")  # else it would be a range
        yield f"{prefix}[^{numbers}{escaped}/]*"
        if prefix and prefix not in names:
            yield prefix


def _names_not_beginning_with(start: str) -> Iterator[str]:
    """Yield globs that together match every file name that does not begin so."""
    for size in range(len(start)):
        yield f"{start[:size]}[^{start[size]}/]*"
        if size:
            yield start[:size]
