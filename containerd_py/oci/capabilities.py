"""The names of Linux capabilities. Knows capabilities(7); asks no kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.spec_editing import strings

# In the order of their numbers, up to Linux 5.9; newer kernels have added none.
KNOWN_CAPABILITIES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
_KNOWN: Final = frozenset(KNOWN_CAPABILITIES)


def capability_names(names: Iterable[str | Iterable[str]]) -> list[str]:
    """Return capability names in full and in capitals, each once: "net_admin" is CAP_NET_ADMIN.

    Raises:
        InvalidArgumentError: There is no such capability. runc would pass over it: a capability that was to be
            dropped would stay.
    """
    full: dict[str, None] = {}
    for name in strings(names, what="capability"):
        upper = name.upper()
        candidate = upper if upper.startswith("CAP_") else f"CAP_{upper}"
        if candidate not in _KNOWN:
            raise InvalidArgumentError(f"capability: {name[:64]!a} is not one Linux has")
        full[candidate] = None
    return list(full)
