"""The default filter fits what a process may do, and no option is overruled by it."""

import pytest

from containerd_py.oci import spec_options as so
from containerd_py.oci.default_spec import DEFAULT_CAPABILITIES, default_spec
from containerd_py.oci.runtime_spec import Seccomp
from containerd_py.oci.seccomp import default_seccomp_profile, finish_seccomp

# What a capability makes possible that the default filter forbids.
GRANTED = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYS_ADMIN": "mount",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_MODULE": "init_module",
    "CAP_SYS_NICE": "mbind",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp",
    "CAP_SYS_RAWIO": "iopl",
    "CAP_SYS_TIME": "clock_settime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYSLOG": "syslog",
}


def judge(profile: Seccomp, call: str, first: int = 0, second: int = 0) -> str:
    """Say what the filter does with a call, as runc and libseccomp read it."""
    for rule in profile["syscalls"]:
        if call in rule["names"] and all(meets(condition, (first, second)) for condition in rule.get("args", ())):
            return rule["action"] + (f" {rule['errnoRet']}" if "errnoRet" in rule else "")
    return profile["defaultAction"]


def meets(condition, arguments) -> bool:
    argument, value = arguments[condition["index"]], condition["value"]
    return {
        "SCMP_CMP_LT": argument < value,
        "SCMP_CMP_GT": argument > value,
        "SCMP_CMP_EQ": argument == value,
        "SCMP_CMP_MASKED_EQ": argument & value == condition.get("valueTwo"),
    }[condition["op"]]


@pytest.mark.parametrize("capability", sorted(GRANTED))
def test_a_capability_brings_its_calls(capability: str):
    """What only a capability makes possible is allowed with it and forbidden without."""
    without = default_seccomp_profile(set(DEFAULT_CAPABILITIES) - {capability}, architecture="amd64")
    granted = default_seccomp_profile([*DEFAULT_CAPABILITIES, capability], architecture="amd64")
    assert judge(without, GRANTED[capability]) == "SCMP_ACT_ERRNO"
    assert judge(granted, GRANTED[capability]) == "SCMP_ACT_ALLOW"


@pytest.mark.parametrize("call", ["keyctl", "add_key", "kexec_load", "userfaultfd", "io_uring_setup", "pivot_root"])
def test_some_calls_are_never_allowed(call: str):
    """No capability brings what has no place in a container."""
    assert judge(default_seccomp_profile(GRANTED), call) == "SCMP_ACT_ERRNO"


@pytest.mark.parametrize(
    ("family", "allowed"), [(1, 1), (2, 1), (10, 1), (16, 1), (37, 1), (39, 1), (41, 1), (38, 0), (40, 0)]
)
def test_sockets_but_two_families(family: int, allowed: int):
    """All families of sockets are allowed but the kernel's cryptography (38) and the hypervisor's (40)."""
    assert judge(default_seccomp_profile(GRANTED), "socket", family) == (
        "SCMP_ACT_ALLOW" if allowed else "SCMP_ACT_ERRNO"
    )


@pytest.mark.parametrize(("architecture", "place"), [("amd64", 0), ("arm64", 0), ("s390x", 1)])
def test_processes_yes_namespaces_no(architecture: str, place: int):
    """clone makes processes; with a namespace's flag it is refused, and clone3 does as if it did not exist."""
    profile = default_seccomp_profile(DEFAULT_CAPABILITIES, architecture=architecture)
    plain, namespace = [0, 0], [0, 0]
    plain[place], namespace[place] = 0x01200011, 0x10000011
    assert judge(profile, "clone", *plain) == "SCMP_ACT_ALLOW"
    assert judge(profile, "clone", *namespace) == "SCMP_ACT_ERRNO"
    assert judge(profile, "clone3") == "SCMP_ACT_ERRNO 38"
    privileged = default_seccomp_profile(["CAP_SYS_ADMIN"], architecture=architecture)
    assert judge(privileged, "clone", *namespace) == judge(privileged, "clone3") == "SCMP_ACT_ALLOW"


@pytest.mark.parametrize(
    ("architecture", "family", "call"),
    [
        ("amd64", "SCMP_ARCH_X86_64", "arch_prctl"),
        ("arm64", "SCMP_ARCH_AARCH64", "cacheflush"),
        ("riscv64", "SCMP_ARCH_RISCV64", "riscv_flush_icache"),
        ("s390x", "SCMP_ARCH_S390X", "s390_pci_mmio_read"),
    ],
)
def test_an_architecture_has_calls_of_its_own(architecture: str, family: str, call: str):
    """Each architecture's filter names its families and its own calls; the others have neither."""
    assert family in default_seccomp_profile((), architecture=architecture)["architectures"]
    assert judge(default_seccomp_profile((), architecture=architecture), call) == "SCMP_ACT_ALLOW"
    assert judge(default_seccomp_profile((), architecture="386"), call) == "SCMP_ACT_ERRNO"


def test_the_filter_follows_what_options_leave():
    """Capabilities given or taken by options count, whichever option comes last."""
    given = so.with_default_seccomp()(default_spec(namespace="n", id="c"))
    more = finish_seccomp(given, so.with_added_capabilities("SYS_TIME")(given))
    assert judge(more["linux"]["seccomp"], "clock_settime") == "SCMP_ACT_ALLOW"
    less = finish_seccomp(given, so.with_dropped_capabilities("SYS_CHROOT")(given))
    assert judge(less["linux"]["seccomp"], "chroot") == "SCMP_ACT_ERRNO"


@pytest.mark.parametrize(
    ("option", "left"),
    [
        (so.with_seccomp_unconfined(), None),
        (so.with_privileged(capabilities=["KILL"]), None),
        (so.with_seccomp({"defaultAction": "SCMP_ACT_LOG"}), {"defaultAction": "SCMP_ACT_LOG"}),
    ],
)
def test_what_an_option_chose_stays(option: so.SpecOption, left: Seccomp | None):
    """No filter, or another filter, is not overruled; nor is one put in where there was none."""
    given = so.with_default_seccomp()(default_spec(namespace="n", id="c"))
    assert finish_seccomp(given, option(given))["linux"].get("seccomp") == left
    bare = default_spec(namespace="n", id="c")
    assert "seccomp" not in finish_seccomp(bare, so.with_tty()(bare))["linux"]
