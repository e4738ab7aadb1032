"""The default spec is exactly what it should be, and nobody shares it."""

import json
import os

import pytest

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.default_spec import cgroup_path, default_spec
from containerd_py.oci.spec_json import spec_to_json

CAPABILITIES = [
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
]


def allow(major: int, minor: int | None) -> dict:
    return {"allow": True, "type": "c", "major": major, "access": "rwm"} | ({} if minor is None else {"minor": minor})


GOLDEN = {
    "ociVersion": "1.1.0",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "cwd": "/",
        "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs"},
    "mounts": [
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
            "destination": "/dev/shm",
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
    ],
    "linux": {
        "resources": {
            "devices": [
                {"allow": False, "access": "rwm"},
                allow(1, 3),
                allow(1, 8),
                allow(1, 7),
                allow(5, 0),
                allow(1, 5),
                allow(1, 9),
                allow(136, None),
                allow(5, 2),
            ]
        },
        "cgroupsPath": "/demo/web-1",
        "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}],
        "maskedPaths": [
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
            "/sys/devices/system/cpu/cpu0/thermal_throttle",
            "/sys/devices/system/cpu/cpu1/thermal_throttle",
        ],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}


def test_golden():
    """Whoever changes the default has to change this list too, and to say why."""
    assert default_spec(namespace="demo", id="web-1", cpus=2) == GOLDEN


def test_no_capability_is_passed_on():
    """Neither inheritable nor ambient capabilities by default (CVE-2022-24769)."""
    capabilities = default_spec(namespace="demo", id="x")["process"]["capabilities"]
    assert set(capabilities) == {"bounding", "effective", "permitted"}


def test_cgroup2():
    """With cgroup v2 a container sees only its own cgroups."""
    linux = default_spec(namespace="demo", id="x", cgroup2=True)["linux"]
    assert linux["namespaces"][-1] == {"type": "cgroup"}


def test_throttling_counters_of_every_cpu_are_masked():
    """Not given, the number of CPUs is this machine's."""
    masked = default_spec(namespace="demo", id="x")["linux"]["maskedPaths"]
    cpus = os.sysconf("SC_NPROCESSORS_CONF")
    assert [path for path in masked if "thermal_throttle" in path] == [
        f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in range(cpus)
    ]


def test_two_specs_share_nothing():
    """What is done to one container's spec is done to no other's (CVE-2021-21334)."""
    first = default_spec(namespace="demo", id="web-1", cpus=2)
    first["mounts"][0]["options"].append("x")
    first["mounts"].clear()
    first["process"]["capabilities"]["bounding"].append("CAP_SYS_ADMIN")
    first["linux"]["maskedPaths"].clear()
    first["linux"]["resources"]["devices"][0]["allow"] = True
    first["linux"]["namespaces"][0]["type"] = "user"
    assert default_spec(namespace="demo", id="web-1", cpus=2) == GOLDEN


def test_it_is_json():
    """The spec survives the way to the daemon."""
    spec = default_spec(namespace="demo", id="web-1", cpus=2)
    assert json.loads(spec_to_json(spec)) == GOLDEN


@pytest.mark.parametrize("name", ["a", "A1", "a.b-c_d", "a" * 76])
def test_identifiers(name: str):
    """What containerd takes as namespace or id makes a cgroup path."""
    assert cgroup_path(name, name) == f"/{name}/{name}"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/a", "a_", "-a", "a..b", "a\n", "a b", "\u00e9", "\u0661", "a" * 77, "a\0"]
)
def test_bad_identifiers(name: str):
    """Nothing leads out of the hierarchy."""
    with pytest.raises(InvalidArgumentError, match=r"^namespace "):
        default_spec(namespace=name, id="a")
    with pytest.raises(InvalidArgumentError, match=r"^container id "):
        default_spec(namespace="a", id=name)
