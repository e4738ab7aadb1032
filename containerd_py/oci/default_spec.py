"""The spec every container starts from. Knows what is safe to give a stranger's program; changes nothing on the host.

What the Go client's default has, and what has been found missing from it since: /proc/interrupts and the CPUs' thermal
throttling counters are masked (they tell what neighbours do), inheritable and ambient capabilities are empty
(CVE-2022-24769). Everything else is added, or given up, by spec options.
"""

from __future__ import annotations

import os
import re
from typing import Final

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.runtime_spec import Capabilities, DeviceRule, Linux, Mount, Namespace, Process, Spec
from containerd_py.oci.spec_json import clone

# Understood by runc 1.1.5 and whatever the daemons of 1.6, 1.7 and 2.x bring along.
OCI_VERSION: Final = "1.1.0"
DEFAULT_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_CAPABILITIES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
MASKED_PATHS: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*", re.ASCII)
_MAX_IDENTIFIER: Final = 76  # containerd, pkg/identifiers
_OPEN_FILES: Final = 1024
_CPUS_CONFIGURED: Final = "SC_NPROCESSORS_CONF"
_CHARACTER_DEVICES: Final = ((1, 3), (1, 8), (1, 7), (5, 0), (1, 5), (1, 9), (136, None), (5, 2))
_MOUNTS: Final[tuple[Mount, ...]] = (
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {
        "destination": "/dev/shm",  # noqa: S108  # inside the container
        "type": "tmpfs",
        "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    },
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    {
        "destination": "/run",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
)


def default_spec(*, namespace: str, id: str, cgroup2: bool = False, cpus: int | None = None) -> Spec:  # noqa: A002
    """Make the default Linux spec of a container: root inside, no arguments, no environment, nothing shared.

    `cgroup2` says that the daemon's host has cgroup v2 alone, where the container gets a cgroup namespace too; `cpus`
    is the number of CPUs of that host, as many as this one's if not given. /sys/fs/cgroup is not mounted. Sources:
    the Go client (pkg/oci), moby GHSA-6fw5-f8r9-fgfm.

    Raises:
        InvalidArgumentError: The namespace or the id is not an identifier containerd takes.
    """
    return {
        "ociVersion": OCI_VERSION,
        "process": _process(),
        "root": {"path": "rootfs"},
        "mounts": clone(list(_MOUNTS)),
        "linux": _linux(cgroup_path(namespace, id), cgroup2=cgroup2, cpus=cpus),
    }


def cgroup_path(namespace: str, container_id: str) -> str:
    """Return the cgroup a container gets by default.

    Raises:
        InvalidArgumentError: A name is not an identifier containerd takes, and might lead out of the hierarchy.
    """
    for what, name in (("namespace", namespace), ("container id", container_id)):
        if len(name) > _MAX_IDENTIFIER or not _IDENTIFIER.fullmatch(name):
            raise InvalidArgumentError(
                f"{what} {name[:100]!a}: use letters and digits joined by single '.', '_' or '-', "
                f"at most {_MAX_IDENTIFIER} characters"
            )
    return f"/{namespace}/{container_id}"


def default_device_rules() -> list[DeviceRule]:
    """Return allow rules for null, random, full, tty, zero, urandom, pts and ptmx: what runc allows of itself."""
    return [_allow(major, minor) for major, minor in _CHARACTER_DEVICES]


def _allow(major: int, minor: int | None) -> DeviceRule:
    rule: DeviceRule = {"allow": True, "type": "c", "major": major, "access": "rwm"}
    if minor is not None:
        rule["minor"] = minor
    return rule


def _process() -> Process:
    capabilities: Capabilities = {
        "bounding": list(DEFAULT_CAPABILITIES),
        "effective": list(DEFAULT_CAPABILITIES),
        "permitted": list(DEFAULT_CAPABILITIES),
    }
    return {
        "user": {"uid": 0, "gid": 0},
        "cwd": "/",
        "capabilities": capabilities,
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": _OPEN_FILES, "soft": _OPEN_FILES}],
        "noNewPrivileges": True,
    }


def _linux(cgroups_path: str, *, cgroup2: bool, cpus: int | None) -> Linux:
    namespaces: list[Namespace] = [
        {"type": "pid"},
        {"type": "ipc"},
        {"type": "uts"},
        {"type": "mount"},
        {"type": "network"},
    ]
    if cgroup2:
        namespaces.append({"type": "cgroup"})
    return {
        "resources": {"devices": [{"allow": False, "access": "rwm"}, *default_device_rules()]},
        "cgroupsPath": cgroups_path,
        "namespaces": namespaces,
        "maskedPaths": [*MASKED_PATHS, *_throttling_paths(cpus)],
        "readonlyPaths": list(READONLY_PATHS),
    }


def _throttling_paths(cpus: int | None) -> list[str]:
    # A path that is not there costs nothing: runc passes over it.
    count = os.sysconf(_CPUS_CONFIGURED) if cpus is None else cpus
    return [f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in range(count)]
