"""The default filter of system calls: a pure function of what a process may do and of the machine's architecture.

What is not allowed fails with EPERM. Among it: other kernels' and hosts' sockets (AF_VSOCK), the kernel's cryptography
(AF_ALG), keys, new namespaces, mounts, modules, the clock, unless a capability says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from containerd_py.oci.runtime_spec import Seccomp, SeccompArg, Spec, Syscall
from containerd_py.oci.seccomp_calls import ALWAYS, BY_ARCHITECTURE, BY_CAPABILITY, FAMILIES, TRACING
from containerd_py.oci.spec_editing import SpecOption, linux_of, spec_option
from containerd_py.oci.spec_json import clone
from containerd_py.platforms import default as default_platform

_ALLOW: Final = "SCMP_ACT_ALLOW"
_ERRNO: Final = "SCMP_ACT_ERRNO"
_ENOSYS: Final = 38
_AF_ALG: Final = 38
_AF_VSOCK: Final = 40
_PERSONALITIES: Final = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, Linux32, UNAME26 and both, a question
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET
_NEW_NAMESPACES: Final = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000


def default_seccomp_profile(capabilities: Iterable[str], *, architecture: str | None = None) -> Seccomp:
    """Return the default filter for a process with these capabilities, under their full names.

    `architecture` is the daemon's, in Go's spelling as in platforms ("amd64"); None: this machine's. Needs Linux 4.8,
    before which a traced process could get around any filter. Source: containerd's default profile.
    """
    chosen = default_platform().architecture if architecture is None else architecture
    granted = set(capabilities)
    added = [call for name in sorted(granted) for call in BY_CAPABILITY.get(name, ())]
    native = BY_ARCHITECTURE.get("arm" if chosen == "arm64" else chosen, ())
    rules = [
        _allow(*dict.fromkeys((*ALWAYS, *TRACING, *native, *added))),
        *_socket_rules(),
        *(_allow("personality", _condition(value, "SCMP_CMP_EQ")) for value in _PERSONALITIES),
    ]
    if "CAP_SYS_ADMIN" not in granted:
        rules += _clone_rules(chosen)
    return {"defaultAction": _ERRNO, "architectures": list(FAMILIES.get(chosen, ())), "syscalls": rules}


def with_default_seccomp(*, architecture: str | None = None) -> SpecOption:
    """Filter the process's system calls as is usual for the capabilities it has by now: so give it after those.

    Containers have this filter anyway, unless an option sets another one or none (`with_seccomp_unconfined`).
    """

    def edit(spec: Spec) -> None:
        linux_of(spec)["seccomp"] = default_seccomp_profile(_capabilities(spec), architecture=architecture)

    return spec_option(edit)


def finish_seccomp(given: Spec, finished: Spec) -> Spec:
    """Fit the default filter that a spec was given with to the capabilities that options have left or added.

    Where an option has set another filter or none, the spec stays as it is.
    """
    before = given.get("linux", {}).get("seccomp")
    if before is None or finished.get("linux", {}).get("seccomp") != before:
        return finished
    return with_default_seccomp()(finished)


def _capabilities(spec: Spec) -> list[str]:
    return spec.get("process", {}).get("capabilities", {}).get("bounding", [])


def _socket_rules() -> list[Syscall]:
    # One condition per rule: of several conditions on one argument runc makes alternatives, which let all through.
    # 32-bit programs reach sockets by socketcall(2) as well, whose arguments no filter sees.
    return [
        _allow("socket", _condition(_AF_ALG, "SCMP_CMP_LT")),
        *(_allow("socket", _condition(family, "SCMP_CMP_EQ")) for family in range(_AF_ALG + 1, _AF_VSOCK)),
        _allow("socket", _condition(_AF_VSOCK, "SCMP_CMP_GT")),
    ]


def _clone_rules(architecture: str) -> list[Syscall]:
    """Allow new threads and processes, and no new namespaces."""
    flags: SeccompArg = {
        "index": 1 if architecture == "s390x" else 0,
        "value": _NEW_NAMESPACES,
        "valueTwo": 0,
        "op": "SCMP_CMP_MASKED_EQ",
    }
    # clone3's flags lie in memory, out of a filter's sight. C libraries take ENOSYS for an old kernel, and use clone.
    return [_allow("clone", flags), {"names": ["clone3"], "action": _ERRNO, "errnoRet": _ENOSYS}]


def _condition(value: int, operator: str) -> SeccompArg:
    return {"index": 0, "value": value, "op": operator}


def _allow(*what: str | SeccompArg) -> Syscall:
    names = [item for item in what if isinstance(item, str)]
    conditions = [item for item in what if not isinstance(item, str)]
    rule: Syscall = {"names": names, "action": _ALLOW}
    if conditions:
        rule["args"] = clone(conditions)
    return rule
