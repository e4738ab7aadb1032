"""Spec options about what the process may do. Pure; each relaxation is one named option, `with_privileged` is all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from containerd_py.oci.capabilities import KNOWN_CAPABILITIES, capability_names
from containerd_py.oci.host import current_capabilities
from containerd_py.oci.mount_options import with_writable_cgroupfs, with_writable_sysfs
from containerd_py.oci.runtime_spec import Capabilities, Seccomp, Spec
from containerd_py.oci.spec_editing import (
    SpecOption,
    check_string,
    compose,
    linux_of,
    process_of,
    spec_option,
    strings,
)
from containerd_py.oci.spec_json import clone

_SetName: TypeAlias = Literal["bounding", "effective", "permitted", "inheritable", "ambient"]
_GRANTED: Final[tuple[_SetName, ...]] = ("bounding", "effective", "permitted")
_PASSED_ON: Final[tuple[_SetName, ...]] = ("inheritable", "ambient")


def with_capabilities(*names: str | Iterable[str]) -> SpecOption:
    """Let the process have exactly these capabilities; none given means none.

    Raises:
        InvalidArgumentError: There is no such capability.
    """
    wanted = capability_names(names)

    def edit(spec: Spec) -> None:
        sets = _capabilities_of(spec)
        for granted in _GRANTED:
            sets[granted] = list(wanted)
        for passed_on in _PASSED_ON:
            _keep(sets, passed_on, wanted)

    return spec_option(edit)


def with_added_capabilities(*names: str | Iterable[str]) -> SpecOption:
    """Let the process have these capabilities too.

    Raises:
        InvalidArgumentError: There is no such capability.
    """
    added = capability_names(names)

    def edit(spec: Spec) -> None:
        sets = _capabilities_of(spec)
        for granted in _GRANTED:
            sets[granted] = list(dict.fromkeys([*sets.get(granted, ()), *added]))

    return spec_option(edit)


def with_dropped_capabilities(*names: str | Iterable[str]) -> SpecOption:
    """Take these capabilities away, out of every set.

    Raises:
        InvalidArgumentError: There is no such capability.
    """
    dropped = set(capability_names(names))

    def edit(spec: Spec) -> None:
        sets = _capabilities_of(spec)
        for granted in _GRANTED:
            sets[granted] = [name for name in sets.get(granted, ()) if name not in dropped]
        for passed_on in _PASSED_ON:
            _keep(sets, passed_on, [name for name in sets.get(passed_on, ()) if name not in dropped])

    return spec_option(edit)


def with_ambient_capabilities(*names: str | Iterable[str]) -> SpecOption:
    """Let programs that are started keep these capabilities even where the user is not root.

    Raises:
        InvalidArgumentError: There is no such capability.
    """
    ambient = capability_names(names)

    def edit(spec: Spec) -> None:
        sets = _capabilities_of(spec)
        for passed_on in _PASSED_ON:  # the kernel lets only inheritable capabilities be ambient
            sets[passed_on] = list(ambient)

    return spec_option(edit)


def with_all_known_capabilities() -> SpecOption:
    """Let the process have every capability Linux knows."""
    return with_capabilities(KNOWN_CAPABILITIES)


def with_masked_paths(*paths: str | Iterable[str]) -> SpecOption:
    """Hide exactly these paths of /proc and /sys; none given hides none."""
    masked = strings(paths, what="masked path")

    def edit(spec: Spec) -> None:
        linux_of(spec)["maskedPaths"] = list(masked)

    return spec_option(edit)


def with_readonly_paths(*paths: str | Iterable[str]) -> SpecOption:
    """Make exactly these paths read-only; none given makes none so."""
    readonly = strings(paths, what="read-only path")

    def edit(spec: Spec) -> None:
        linux_of(spec)["readonlyPaths"] = list(readonly)

    return spec_option(edit)


def with_selinux_label(label: str) -> SpecOption:
    """Set the process's SELinux label; "" for none."""
    check_string(label, what="SELinux label")

    def edit(spec: Spec) -> None:
        process_of(spec)["selinuxLabel"] = label

    return spec_option(edit)


def with_apparmor_profile(profile: str) -> SpecOption:
    """Confine the process with an AppArmor profile loaded on the daemon's host; "" for none."""
    check_string(profile, what="AppArmor profile")

    def edit(spec: Spec) -> None:
        process_of(spec)["apparmorProfile"] = profile

    return spec_option(edit)


def with_seccomp(profile: Seccomp) -> SpecOption:
    """Filter the process's system calls with this profile."""
    given = clone(profile)

    def edit(spec: Spec) -> None:
        linux_of(spec)["seccomp"] = clone(given)

    return spec_option(edit)


def with_seccomp_unconfined() -> SpecOption:
    """Filter no system calls: the one way out of the default filter."""

    def edit(spec: Spec) -> None:
        linux_of(spec).pop("seccomp", None)

    return spec_option(edit)


def with_privileged(*, capabilities: Iterable[str] | None = None) -> SpecOption:
    """Give up all confinement but namespaces and the device cgroup: such a process owns the host.

    The capabilities are those this process has, unless given: what the daemon has not, it cannot give. Devices are an
    option of their own (`with_all_devices_allowed`, `with_devices`).

    Raises:
        InvalidArgumentError: There is no such capability.
    """
    return compose(
        with_capabilities(current_capabilities() if capabilities is None else capabilities),
        with_masked_paths(),
        with_readonly_paths(),
        with_writable_sysfs(),
        with_writable_cgroupfs(),
        with_selinux_label(""),
        with_apparmor_profile(""),
        with_seccomp_unconfined(),
    )


def _capabilities_of(spec: Spec) -> Capabilities:
    return process_of(spec).setdefault("capabilities", {})


def _keep(sets: Capabilities, name: _SetName, allowed: Iterable[str]) -> None:
    """Leave of a set only what is allowed, and no empty set behind."""
    allowed = set(allowed)
    kept = [capability for capability in sets.get(name, ()) if capability in allowed]
    if kept:
        sets[name] = kept
    else:
        sets.pop(name, None)
