"""Every spec option: what it does, what it refuses, and that it is pure."""

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containerd_py import types
from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.oci import spec_options as so
from containerd_py.oci.capabilities import KNOWN_CAPABILITIES
from containerd_py.oci.default_spec import default_spec
from containerd_py.oci.image_spec import ImageConfig
from containerd_py.oci.process_options import merge_env
from containerd_py.oci.runtime_spec import Spec
from containerd_py.oci.spec_json import spec_to_json
from containerd_py.oci.users import User

EMPTY: Spec = {"ociVersion": "1.1.0"}
LINUX: Spec = {"ociVersion": "1.1.0", "linux": {}}
WINDOWS: Spec = {"ociVersion": "1.1.0", "windows": {}}
MOUNT = {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind"]}
DEVICE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
HOOK = {"path": "/bin/true", "args": ["true"]}
MAPPING = {"containerID": 0, "hostID": 1000, "size": 1}


def at(spec: Spec, path: str) -> object:
    """Follow a path of keys; a missing key is None."""
    value: object = spec
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


# ── what options do ─────────────────────────────────────────────────────────────────────────────────────────────────

EFFECTS: list[tuple[so.SpecOption, Spec, str, object]] = [
    (so.with_process_args("sh", "-c", "true"), EMPTY, "process.args", ["sh", "-c", "true"]),
    (so.with_process_args(["sh", "-c"]), EMPTY, "process.args", ["sh", "-c"]),
    (so.with_process_args(["sh"], "-c"), EMPTY, "process.args", ["sh", "-c"]),
    (so.with_process_args(), EMPTY, "process.args", []),
    (so.with_process_args("a"), {"process": {"commandLine": "x"}}, "process.commandLine", None),
    (so.with_process_command_line("a b"), {"process": {"args": ["x"]}}, "process", {"commandLine": "a b"}),
    (so.with_process_cwd("/srv"), EMPTY, "process", {"cwd": "/srv", "user": {"uid": 0, "gid": 0}}),
    (so.with_env("A=1", "B="), {"process": {"env": ["A=0", "C=3"]}}, "process.env", ["A=1", "C=3", "B="]),
    (so.with_env(["A=1"], "A=2"), EMPTY, "process.env", ["A=2"]),
    (so.with_env({"A": "1", "B": None}), {"process": {"env": ["B=0"]}}, "process.env", ["A=1"]),
    (so.with_env("B", "X"), {"process": {"env": ["A=0", "B=1"]}}, "process.env", ["A=0"]),
    (so.with_env("A=x=y"), EMPTY, "process.env", ["A=x=y"]),
    (
        so.with_env_file(b"\xef\xbb\xbfA=1\r\n\n # not this\n  B = '2'\nC\n"),
        {"process": {"env": ["C=0", "D=4"]}},
        "process.env",
        ["D=4", "A=1", "B = '2'"],
    ),
    (
        so.with_tmpfs("/scratch", size=4096, mode=0o700, options=["noexec"]),
        EMPTY,
        "mounts",
        [
            {
                "destination": "/scratch",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "nodev", "noexec", "mode=700", "size=4096"],
            }
        ],
    ),
    (
        so.with_default_path_env(),
        {"process": {"env": ["PATH=/x"]}},
        "process.env",
        ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    ),
    (so.with_tty(), LINUX, "process.env", ["TERM=xterm"]),
    (so.with_tty(), LINUX, "process.terminal", True),
    (so.with_tty(), WINDOWS, "process.env", None),
    (so.with_tty(), {"linux": {}, "process": {"env": ["TERM=vt100"]}}, "process.env", ["TERM=vt100"]),
    (so.with_tty_size(80, 24), EMPTY, "process.consoleSize", {"width": 80, "height": 24}),
    (so.with_new_privileges(), EMPTY, "process.noNewPrivileges", False),
    (so.with_no_new_privileges(), EMPTY, "process.noNewPrivileges", True),
    (so.with_umask(0o27), EMPTY, "process.user.umask", 0o27),
    (so.with_oom_score_adj(-5), EMPTY, "process.oomScoreAdj", -5),
    (
        so.with_rlimit("RLIMIT_CORE", soft=0),
        {"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}]}},
        "process.rlimits",
        [{"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}, {"type": "RLIMIT_CORE", "hard": 0, "soft": 0}],
    ),
    (
        so.with_rlimit("RLIMIT_NOFILE", soft=5, hard=2**64 - 1),
        {"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1, "soft": 1}]}},
        "process.rlimits",
        [{"type": "RLIMIT_NOFILE", "hard": 2**64 - 1, "soft": 5}],
    ),
    (so.with_user_ids(5, 6), EMPTY, "process.user", {"uid": 5, "gid": 6, "additionalGids": [6]}),
    (so.with_user_ids(5, 6, additional_gids=[1, 6]), EMPTY, "process.user.additionalGids", [1, 6]),
    (so.with_user_ids(5, 6, additional_gids=[1]), EMPTY, "process.user.additionalGids", [6, 1]),
    (so.with_user_ids(5), {"process": {"user": {"umask": 1}}}, "process.user.umask", 1),
    (so.with_user_id(5), EMPTY, "process.user", {"uid": 5, "gid": 0, "additionalGids": [0]}),
    (
        so.with_user(User(uid=1, gid=2, additional_gids=(2, 3))),
        EMPTY,
        "process.user",
        {"uid": 1, "gid": 2, "additionalGids": [2, 3]},
    ),
    (so.with_username("ContainerUser"), WINDOWS, "process.user.username", "ContainerUser"),
    (so.with_appended_groups(7), EMPTY, "process.user.additionalGids", [0, 7]),
    (
        so.with_appended_groups(7),
        {"process": {"user": {"uid": 1, "gid": 2, "additionalGids": [2, 3]}}},
        "process.user.additionalGids",
        [2, 3, 7],
    ),
    # root and mounts
    (so.with_rootfs_path("/srv/root"), EMPTY, "root", {"path": "/srv/root"}),
    (so.with_rootfs_readonly(), {"root": {"path": "rootfs"}}, "root", {"path": "rootfs", "readonly": True}),
    (so.with_mounts([MOUNT]), {"mounts": [{"destination": "/a"}]}, "mounts", [{"destination": "/a"}, MOUNT]),
    (so.with_mounts(MOUNT, [{"destination": "/b"}]), EMPTY, "mounts", [MOUNT, {"destination": "/b"}]),
    (
        so.with_mounts(types.Mount(type="bind", source="/srv", target="/data", options=("rbind",))),
        LINUX,
        "mounts",
        [MOUNT],
    ),
    (so.with_mounts({"destination": "C:\\data"}), WINDOWS, "mounts", [{"destination": "C:\\data"}]),
    (
        so.without_mounts("/a/", "//b"),
        {"mounts": [{"destination": "/a"}, {"destination": "/x/../b"}, {"destination": "/ab"}]},
        "mounts",
        [{"destination": "/ab"}],
    ),
    (so.without_run_mount(), {"mounts": [{"destination": "/run"}, MOUNT]}, "mounts", [MOUNT]),
    (
        so.with_dev_shm_size(5),
        {"mounts": [{"destination": "/dev/shm/", "type": "tmpfs", "source": "shm", "options": ["size=1k", "nodev"]}]},
        "mounts",
        [{"destination": "/dev/shm/", "type": "tmpfs", "source": "shm", "options": ["nodev", "size=5k"]}],
    ),
    (
        so.with_host_hosts_file(),
        EMPTY,
        "mounts",
        [{"destination": "/etc/hosts", "type": "bind", "source": "/etc/hosts", "options": ["rbind", "ro"]}],
    ),
    (
        so.with_host_resolv_conf(),
        EMPTY,
        "mounts",
        [{"destination": "/etc/resolv.conf", "type": "bind", "source": "/etc/resolv.conf", "options": ["rbind", "ro"]}],
    ),
    (
        so.with_host_localtime(),
        EMPTY,
        "mounts",
        [{"destination": "/etc/localtime", "type": "bind", "source": "/etc/localtime", "options": ["rbind", "ro"]}],
    ),
    (
        so.with_writable_sysfs(),
        {"mounts": [{"destination": "/sys", "type": "sysfs", "options": ["ro", "nodev"]}, MOUNT]},
        "mounts",
        [{"destination": "/sys", "type": "sysfs", "options": ["rw", "nodev"]}, MOUNT],
    ),
    (
        so.compose(so.with_cgroup_mount(), so.with_writable_cgroupfs()),
        EMPTY,
        "mounts",
        [
            {
                "destination": "/sys/fs/cgroup",
                "type": "cgroup",
                "source": "cgroup",
                "options": ["rw", "nosuid", "noexec", "nodev"],
            }
        ],
    ),
    # security
    (
        so.with_capabilities(["CAP_CHOWN", "net_raw"], "chown"),
        EMPTY,
        "process.capabilities",
        {kind: ["CAP_CHOWN", "CAP_NET_RAW"] for kind in ("bounding", "effective", "permitted")},
    ),
    (
        so.with_capabilities(),
        {"process": {"capabilities": {"inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}}},
        "process.capabilities",
        {"bounding": [], "effective": [], "permitted": []},
    ),
    (
        so.with_capabilities("CAP_KILL"),
        {"process": {"capabilities": {"inheritable": ["CAP_KILL", "CAP_CHOWN"]}}},
        "process.capabilities.inheritable",
        ["CAP_KILL"],
    ),
    (
        so.with_added_capabilities("SYS_PTRACE", "KILL"),
        {"process": {"capabilities": {"bounding": ["CAP_KILL"]}}},
        "process.capabilities",
        {
            "bounding": ["CAP_KILL", "CAP_SYS_PTRACE"],
            "effective": ["CAP_SYS_PTRACE", "CAP_KILL"],
            "permitted": ["CAP_SYS_PTRACE", "CAP_KILL"],
        },
    ),
    (
        so.with_dropped_capabilities("KILL"),
        {"process": {"capabilities": {kind: ["CAP_KILL"] for kind in ("bounding", "inheritable", "ambient")}}},
        "process.capabilities",
        {"bounding": [], "effective": [], "permitted": []},
    ),
    (
        so.with_ambient_capabilities(["KILL"]),
        EMPTY,
        "process.capabilities",
        {"inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
    ),
    (so.with_all_known_capabilities(), EMPTY, "process.capabilities.permitted", list(KNOWN_CAPABILITIES)),
    (so.with_masked_paths(["/proc/kcore"], "/x"), LINUX, "linux.maskedPaths", ["/proc/kcore", "/x"]),
    (so.with_masked_paths(), LINUX, "linux.maskedPaths", []),
    (so.with_readonly_paths("/proc/sys"), LINUX, "linux.readonlyPaths", ["/proc/sys"]),
    (so.with_selinux_label("a:b:c"), EMPTY, "process.selinuxLabel", "a:b:c"),
    (so.with_apparmor_profile("default"), EMPTY, "process.apparmorProfile", "default"),
    (so.with_seccomp({"defaultAction": "SCMP_ACT_LOG"}), EMPTY, "linux.seccomp", {"defaultAction": "SCMP_ACT_LOG"}),
    (so.with_seccomp_unconfined(), {"linux": {"seccomp": {}}}, "linux", {}),
    # names, namespaces, cgroups
    (so.with_hostname("web"), EMPTY, "hostname", "web"),
    (so.with_domainname("example"), EMPTY, "domainname", "example"),
    (so.with_annotations({"a": "2", "b": "3"}), {"annotations": {"a": "1"}}, "annotations", {"a": "2", "b": "3"}),
    (
        so.with_host_namespace("network"),
        {"linux": {"namespaces": [{"type": "network"}, {"type": "pid"}]}},
        "linux.namespaces",
        [{"type": "pid"}],
    ),
    (
        so.with_linux_namespace("network", "/proc/1/ns/net"),
        {"linux": {"namespaces": [{"type": "network"}, {"type": "pid"}]}},
        "linux.namespaces",
        [{"type": "network", "path": "/proc/1/ns/net"}, {"type": "pid"}],
    ),
    (so.with_linux_namespace("time"), EMPTY, "linux.namespaces", [{"type": "time"}]),
    (
        so.compose(so.with_user_namespace([MAPPING], [MAPPING]), so.with_user_namespace([MAPPING], [])),
        EMPTY,
        "linux",
        {"namespaces": [{"type": "user"}], "uidMappings": [MAPPING, MAPPING], "gidMappings": [MAPPING]},
    ),
    (so.with_cgroup("system.slice:x:y"), EMPTY, "linux.cgroupsPath", "system.slice:x:y"),
    (so.with_namespaced_cgroup("demo", "web"), EMPTY, "linux.cgroupsPath", "/demo/web"),
    (so.with_sysctl({"a": "2"}), {"linux": {"sysctl": {"b": "1"}}}, "linux.sysctl", {"b": "1", "a": "2"}),
    (
        so.compose(so.with_hooks("createRuntime", HOOK), so.with_hooks("createRuntime", HOOK, HOOK)),
        EMPTY,
        "hooks",
        {"createRuntime": [HOOK, HOOK, HOOK]},
    ),
    # resources
    (so.with_memory_limit(64), LINUX, "linux.resources.memory", {"limit": 64}),
    (so.with_memory_limit(64), WINDOWS, "windows.resources.memory", {"limit": 64}),
    (so.with_memory_limit(-1), WINDOWS, "windows", {}),
    (so.with_memory_limit(64), EMPTY, "linux", None),
    (so.with_memory_reservation(32), LINUX, "linux.resources.memory", {"reservation": 32}),
    (so.with_memory_swap(-1), {"linux": {"resources": {"memory": {"limit": 1}}}}, "linux.resources.memory.limit", 1),
    (so.with_memory_swap(-1), LINUX, "linux.resources.memory", {"swap": -1}),
    (so.with_cpu_shares(512), LINUX, "linux.resources.cpu", {"shares": 512}),
    (so.with_cpu_cfs(50_000), LINUX, "linux.resources.cpu", {"quota": 50_000, "period": 100_000}),
    (so.with_cpu_cfs(-1, 5), LINUX, "linux.resources.cpu", {"quota": -1, "period": 5}),
    (so.with_cpu_burst(9), LINUX, "linux.resources.cpu", {"burst": 9}),
    (so.with_cpu_rt(3, 4), LINUX, "linux.resources.cpu", {"realtimeRuntime": 3, "realtimePeriod": 4}),
    (so.with_cpus("0-1"), LINUX, "linux.resources.cpu", {"cpus": "0-1"}),
    (so.with_cpus_mems("0"), LINUX, "linux.resources.cpu", {"mems": "0"}),
    (so.with_cpus("0-1"), EMPTY, "linux", None),
    (so.with_pids_limit(9), LINUX, "linux.resources.pids", {"limit": 9}),
    (so.with_block_io({"weight": 10}), LINUX, "linux.resources.blockIO", {"weight": 10}),
    (
        so.compose(
            so.with_hugepage_limit("2MB", 1), so.with_hugepage_limit("1GB", 2), so.with_hugepage_limit("2MB", 3)
        ),
        LINUX,
        "linux.resources.hugepageLimits",
        [{"pageSize": "1GB", "limit": 2}, {"pageSize": "2MB", "limit": 3}],
    ),
    (so.with_unified({"memory.high": "1"}), LINUX, "linux.resources.unified", {"memory.high": "1"}),
    (
        so.with_rdt(clos_id="x", mem_bw_schema="MB:0=5"),
        LINUX,
        "linux.intelRdt",
        {"closID": "x", "memBwSchema": "MB:0=5"},
    ),
    # devices
    (so.with_parent_cgroup_devices(), default_spec(namespace="a", id="b"), "linux.resources.devices", []),
    (
        so.with_all_devices_allowed(),
        default_spec(namespace="a", id="b"),
        "linux.resources.devices",
        [{"allow": True, "access": "rwm"}],
    ),
    (
        so.with_device_rules([{"allow": False}]),
        {"linux": {"resources": {"devices": [{"allow": True}]}}},
        "linux.resources.devices",
        [{"allow": True}, {"allow": False}],
    ),
    (so.with_linux_devices([DEVICE]), EMPTY, "linux", {"devices": [DEVICE]}),
    (
        so.with_devices([DEVICE], access="rw"),
        EMPTY,
        "linux",
        {
            "devices": [DEVICE],
            "resources": {"devices": [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}]},
        },
    ),
    # Windows
    (so.with_windows_hyperv(), EMPTY, "windows", {"hyperv": {}}),
    (so.with_windows_device("class", "X"), WINDOWS, "windows.devices", [{"id": "X", "idType": "class"}]),
    (so.with_windows_cpu_count(2), WINDOWS, "windows.resources.cpu", {"count": 2}),
    (so.with_windows_cpu_count(2), LINUX, "windows", None),
    (so.with_windows_cpu_shares(3), WINDOWS, "windows.resources.cpu", {"shares": 3}),
    (so.with_windows_cpu_maximum(4), WINDOWS, "windows.resources.cpu", {"maximum": 4}),
    (so.with_windows_ignore_flushes_during_boot(), EMPTY, "windows", {"ignoreFlushesDuringBoot": True}),
    (
        so.with_windows_networks_allow_unqualified_dns_query(),
        EMPTY,
        "windows.network",
        {"allowUnqualifiedDNSQuery": True},
    ),
    (so.with_windows_network_namespace("ns"), EMPTY, "windows.network", {"networkNamespace": "ns"}),
    # whole specs
    (so.compose(), LINUX, "linux", {}),
    (so.compose(so.with_hostname("a"), so.with_hostname("b")), EMPTY, "hostname", "b"),
]


@pytest.mark.parametrize(
    ("option", "spec", "path", "expected"), EFFECTS, ids=lambda value: getattr(value, "__qualname__", "")
)
def test_effect(option: so.SpecOption, spec: Spec, path: str, expected: object):
    """Each option changes what it is named after, and only that."""
    after = option(spec)
    assert at(after, path) == expected
    section = path.partition(".")[0]
    assert {key: after[key] for key in after.keys() - {section}} == {key: spec[key] for key in spec.keys() - {section}}


def test_a_whole_spec_replaces_everything():
    """Starting from another spec leaves nothing of the one before."""
    assert so.with_spec({"ociVersion": "1.0.0"})(LINUX) == {"ociVersion": "1.0.0"}


def test_a_spec_from_json_keeps_what_nobody_knows():
    """Unknown members of a spec survive being read, changed by every option, and written."""
    unknown = {"future": [1, {"deep": None}], "linux": {"memoryTiers": {"a": 1.5}}, "process": {"x": True}}
    known = {"ociVersion": "9.9.9", "process": {"cwd": "/", "user": {"uid": 0, "gid": 0, "y": 1}, "args": ["a"]}}
    document = {**known, **unknown, "process": {**known["process"], **unknown["process"]}}
    spec = so.with_spec_from_bytes(json.dumps(document).encode())(LINUX)
    for option, _, _, _ in EFFECTS:
        with suppress(InvalidArgumentError, NotFoundError):  # what this spec has no place for
            spec = option(spec)
    written = json.loads(spec_to_json(spec))
    assert written["future"] == [1, {"deep": None}]
    assert written["linux"]["memoryTiers"] == {"a": 1.5}
    assert written["process"]["x"] is True
    assert written["process"]["user"]["y"] == 1


def test_an_init_goes_before_the_command():
    """The init is mounted read-only and gets the command after two dashes; without a command there is nothing to do."""
    spec = so.with_init("/usr/bin/tini", inside="/init")({**LINUX, "process": {"args": ["a", "-b"]}})
    assert spec["process"]["args"] == ["/init", "--", "a", "-b"]
    mount = {"destination": "/init", "source": "/usr/bin/tini", "type": "bind", "options": ["bind", "ro"]}
    assert spec["mounts"] == [mount]
    with pytest.raises(InvalidArgumentError, match="no command"):
        so.with_init("/usr/bin/tini")(EMPTY)
    with pytest.raises(InvalidArgumentError, match="absolute"):
        so.with_init("tini")


def test_every_option_is_tried():
    """No option is without a line in the table above or a test below."""
    source = Path(__file__).read_text()
    assert [name for name in so.__all__ if f"so.{name}(" not in source and name != "SpecOption"] == []


def test_default_devices():
    """What every program expects is allowed, in addition to the rules there are, and the console too."""
    rules = so.with_default_devices()({"linux": {"resources": {"devices": [{"allow": False}]}}})["linux"]["resources"]
    assert [(rule.get("major"), rule.get("minor")) for rule in rules["devices"]] == [
        (None, None),
        (1, 3),
        (1, 8),
        (1, 7),
        (5, 0),
        (1, 5),
        (1, 9),
        (136, None),
        (5, 2),
        (5, 1),
    ]


def test_privileged():
    """One call gives up all confinement, but not namespaces and devices."""
    spec = so.compose(
        so.with_cgroup_mount(), so.with_seccomp({"defaultAction": "x"}), so.with_privileged(capabilities=["KILL"])
    )(default_spec(namespace="a", id="b"))
    assert spec["process"]["capabilities"]["bounding"] == ["CAP_KILL"]
    assert spec["linux"]["maskedPaths"] == spec["linux"]["readonlyPaths"] == []
    assert "seccomp" not in spec["linux"]
    assert not any("ro" in mount["options"] for mount in spec["mounts"])
    assert spec["linux"]["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert len(spec["linux"]["namespaces"]) == 5


def test_privileged_has_what_we_have():
    """Without a list, the capabilities are this process's: the daemon may lack others."""
    granted = so.with_privileged()(LINUX)["process"]["capabilities"]["effective"]
    status = Path("/proc/self/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    assert granted == [name for bit, name in enumerate(KNOWN_CAPABILITIES) if mask & (1 << bit)]


# ── what options refuse ─────────────────────────────────────────────────────────────────────────────────────────────

REFUSED: dict[str, Callable[[], object]] = {
    "NUL in args": lambda: so.with_process_args("a\0b"),
    "a number in args": lambda: so.with_process_args(["sleep", 5]),
    "NUL in env": lambda: so.with_env("A=\0"),
    "no name in env": lambda: so.with_env("=1"),
    "= in an env name": lambda: so.with_env({"A=B": "1"}),
    "bytes in env": lambda: so.with_env([b"A=1"]),
    "empty cwd": lambda: so.with_process_cwd(""),
    "NUL in cwd": lambda: so.with_process_cwd("/\0"),
    "negative width": lambda: so.with_tty_size(-1, 5),
    "true height": lambda: so.with_tty_size(1, True),
    "rlimit name": lambda: so.with_rlimit("NOFILE", soft=1),
    "soft above hard": lambda: so.with_rlimit("RLIMIT_NOFILE", soft=2, hard=1),
    "rlimit 2**64": lambda: so.with_rlimit("RLIMIT_NOFILE", soft=2**64),
    "umask": lambda: so.with_umask(0o10000),
    "oom score": lambda: so.with_oom_score_adj(1001),
    "negative uid": lambda: so.with_user_ids(-1),
    "uid 2**31": lambda: so.with_user_ids(2**31),
    "gid 2**31": lambda: so.with_user_ids(0, 2**31),
    "additional gid -1": lambda: so.with_user_ids(0, 0, additional_gids=[-1]),
    "true uid": lambda: so.with_user_ids(True),
    "unknown capability": lambda: so.with_capabilities("CAP_SYS_ADMN"),
    "dropping an unknown capability": lambda: so.with_dropped_capabilities("ALL"),
    "mount without destination": lambda: so.with_mounts({"source": "/a"}),
    "types.Mount without target": lambda: so.with_mounts(types.Mount(type="bind", source="/a")),
    "relative destination": lambda: so.with_mounts({"destination": "data"})(LINUX),
    "NUL in destination": lambda: so.with_mounts({"destination": "/a\0"}),
    "no shm size": lambda: so.with_dev_shm_size(0),
    "unknown namespace": lambda: so.with_linux_namespace("net"),
    "unknown host namespace": lambda: so.with_host_namespace("net"),
    "mapping without size": lambda: so.with_user_namespace([{"containerID": 0, "hostID": 0}], []),
    "unknown hook point": lambda: so.with_hooks("createruntime", HOOK),
    "relative hook": lambda: so.with_hooks("poststop", {"path": "true"}),
    "annotation a number": lambda: so.with_annotations({"a": 1}),
    "sysctl a number": lambda: so.with_sysctl({"a": 1}),
    "cgroup that climbs": lambda: so.with_namespaced_cgroup("..", "a"),
    "memory -2": lambda: so.with_memory_limit(-2),
    "memory 1.5": lambda: so.with_memory_limit(1.5),
    "memory '1'": lambda: so.with_memory_limit("1"),
    "pids 2**63": lambda: so.with_pids_limit(2**63),
    "negative shares": lambda: so.with_cpu_shares(-1),
    "Windows shares": lambda: so.with_windows_cpu_shares(2**16),
    "Windows device": lambda: so.with_windows_device("", "x"),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_refusal(make: Callable[[], object]):
    """What cannot work is refused when the option is made, or when the spec is known."""
    with pytest.raises(InvalidArgumentError):
        make()


@pytest.mark.parametrize("mounts", [[], [{"destination": "/dev/shm", "type": "bind", "source": "/dev/shm"}]])
def test_dev_shm_size_needs_the_mount(mounts: list):
    """There must be a tmpfs whose size can be set."""
    with pytest.raises(NotFoundError, match="/dev/shm"):
        so.with_dev_shm_size(1)({"ociVersion": "1.1.0", "mounts": mounts})


# ── purity ──────────────────────────────────────────────────────────────────────────────────────────────────────────

GIVEN_OPTIONS = [option for option, spec, *_ in EFFECTS if spec is not WINDOWS] + [
    so.with_spec(default_spec(namespace="c", id="d")),
    so.with_default_devices(),
    so.with_privileged(),
    so.with_image_config(ImageConfig(env=("A=1",), cmd=("sh",))),
]
BASES = [
    default_spec(namespace="a", id="b"),
    {
        **default_spec(namespace="a", id="b"),
        "windows": {"resources": {"cpu": {}, "memory": {}}, "devices": []},
        "annotations": {"a": "1"},
        "hooks": {"createRuntime": [HOOK]},
        "vendor": {"list": [{}]},
    },
]


def containers(value: object) -> set[int]:
    if isinstance(value, dict):
        return {id(value)}.union(*map(containers, value.values()))
    if isinstance(value, list):
        return {id(value)}.union(*map(containers, value))
    return set()


def vandalise(value: object) -> None:
    """Change everything that can be changed."""
    if isinstance(value, dict):
        for item in value.values():
            vandalise(item)
        value["vandal"] = "was here"
    elif isinstance(value, list):
        for item in value:
            vandalise(item)
        value.append("vandal")


@settings(max_examples=200)
@given(st.lists(st.sampled_from(GIVEN_OPTIONS), min_size=1, max_size=4), st.sampled_from(BASES))
def test_options_are_pure(options: list[so.SpecOption], base: Spec):
    """Whatever is done with a result, neither the spec before nor another result of the same options changes."""
    option = so.compose(*options)
    before = json.dumps(base)
    first, second = option(base), option(base)
    assert first == second
    assert json.dumps(base) == before
    assert containers(first).isdisjoint(containers(base))
    assert containers(first).isdisjoint(containers(second))
    expected = json.dumps(second)
    vandalise(first)
    assert json.dumps(second) == expected
    assert option(base) == second


def test_options_keep_nothing_of_what_they_were_made_with():
    """Changing the arguments afterwards changes nothing."""
    args, mount, env, device = ["sh"], copy.deepcopy(MOUNT), {"A": "1"}, dict(DEVICE)
    hook, rules, config = copy.deepcopy(HOOK), [{"allow": True}], {"weight": 1, "weightDevice": [{}]}
    mapping, seccomp, replacement = (
        dict(MAPPING),
        {"defaultAction": "x", "syscalls": [{}]},
        {"ociVersion": "1", "linux": {}},
    )
    option = so.compose(
        so.with_spec(replacement),
        so.with_process_args(args),
        so.with_mounts([mount]),
        so.with_env(env),
        so.with_devices([device]),
        so.with_hooks("poststop", hook),
        so.with_device_rules(rules),
        so.with_block_io(config),
        so.with_user_namespace([mapping], [mapping]),
        so.with_default_seccomp(),
        so.with_seccomp(seccomp),
    )
    expected = option(EMPTY)
    for given_value in (args, mount, env, device, hook, rules, config, mapping, seccomp, replacement):
        vandalise(given_value)
    assert option(EMPTY) == expected


@given(st.lists(st.text(max_size=4)), st.lists(st.text(max_size=4)))
def test_merged_environment(base: list[str], overrides: list[str]):
    """Every name appears once, the last override decides, and nothing else is invented."""
    merged = merge_env(base, overrides)
    names = [entry.partition("=")[0] for entry in merged]
    assert len(names) == len(set(names))
    assert set(merged) <= set(base) | set(overrides)
    for name in names:
        last = [entry for entry in overrides if entry.partition("=")[0] == name]
        if last:
            assert last[-1] in merged
    for entry in overrides:
        if "=" not in entry and not any(other.startswith(entry + "=") for other in overrides):
            assert entry not in names


def test_options_are_named():
    """An option prints as what it is."""
    assert so.with_hostname("a").__qualname__ == "with_hostname"
