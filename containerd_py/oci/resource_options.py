"""Spec options about memory, CPU, processes and devices. Pure; limits apply to specs with a Linux section only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from containerd_py.oci.default_spec import default_device_rules
from containerd_py.oci.runtime_spec import CPU, BlockIO, Device, DeviceRule, IntelRdt, Memory, Resources, Spec
from containerd_py.oci.spec_editing import (
    SpecOption,
    check_integer,
    check_string,
    linux_of,
    resources_of,
    spec_option,
)
from containerd_py.oci.spec_json import clone
from containerd_py.oci.windows_options import set_windows_memory_limit

_MAX_INT64: Final = 2**63 - 1
_MAX_UINT64: Final = 2**64 - 1
_UNLIMITED: Final = -1
_CONSOLE_RULE: Final[DeviceRule] = {"allow": True, "type": "c", "major": 5, "minor": 1, "access": "rwm"}


def with_memory_limit(limit: int) -> SpecOption:
    """Limit memory, in bytes; -1 for no limit. Applies to Windows sections as well.

    Raises:
        InvalidArgumentError: It is no number of bytes.
    """
    check_integer(limit, what="memory limit", minimum=_UNLIMITED, maximum=_MAX_INT64)

    def edit(spec: Spec) -> None:
        if "linux" in spec:
            resources_of(spec).setdefault("memory", {})["limit"] = limit
        set_windows_memory_limit(spec, limit)

    return spec_option(edit)


def with_memory_reservation(reservation: int) -> SpecOption:
    """Set how much memory the container keeps when memory is short, in bytes.

    Raises:
        InvalidArgumentError: It is no number of bytes.
    """
    check_integer(reservation, what="memory reservation", minimum=_UNLIMITED, maximum=_MAX_INT64)
    return _memory({"reservation": reservation})


def with_memory_swap(total: int) -> SpecOption:
    """Limit memory and swap together, in bytes; -1 for no limit.

    Raises:
        InvalidArgumentError: It is no number of bytes.
    """
    check_integer(total, what="memory and swap limit", minimum=_UNLIMITED, maximum=_MAX_INT64)
    return _memory({"swap": total})


def with_cpu_shares(shares: int) -> SpecOption:
    """Set the weight among containers that want CPU time; 1024 is the kernel's default.

    Raises:
        InvalidArgumentError: The number is negative.
    """
    return _cpu({"shares": check_integer(shares, what="CPU shares", minimum=0, maximum=_MAX_UINT64)})


def with_cpu_cfs(quota: int, period: int = 100_000) -> SpecOption:
    """Limit CPU time to `quota` microseconds in every `period` microseconds; a quota of -1 is no limit.

    Raises:
        InvalidArgumentError: A number is out of range.
    """
    check_integer(quota, what="CPU quota", minimum=_UNLIMITED, maximum=_MAX_INT64)
    check_integer(period, what="CPU period", minimum=0, maximum=_MAX_UINT64)
    return _cpu({"quota": quota, "period": period})


def with_cpu_burst(burst: int) -> SpecOption:
    """Let unused CPU time add up to `burst` microseconds.

    Raises:
        InvalidArgumentError: The number is negative.
    """
    return _cpu({"burst": check_integer(burst, what="CPU burst", minimum=0, maximum=_MAX_UINT64)})


def with_cpu_rt(runtime: int, period: int) -> SpecOption:
    """Limit real-time scheduling to `runtime` microseconds in every `period` microseconds.

    Raises:
        InvalidArgumentError: A number is out of range.
    """
    check_integer(runtime, what="real-time runtime", minimum=_UNLIMITED, maximum=_MAX_INT64)
    check_integer(period, what="real-time period", minimum=0, maximum=_MAX_UINT64)
    return _cpu({"realtimeRuntime": runtime, "realtimePeriod": period})


def with_cpus(cpus: str) -> SpecOption:
    """Bind to these CPUs, for instance "0-3,7"."""
    return _cpu({"cpus": check_string(cpus, what="cpus")})


def with_cpus_mems(mems: str) -> SpecOption:
    """Bind to these memory nodes, for instance "0,1"."""
    return _cpu({"mems": check_string(mems, what="mems")})


def with_pids_limit(limit: int) -> SpecOption:
    """Limit the number of processes; -1 for no limit.

    Raises:
        InvalidArgumentError: It is no such number.
    """
    check_integer(limit, what="pids limit", minimum=_UNLIMITED, maximum=_MAX_INT64)
    return _resources(lambda resources: resources.update({"pids": {"limit": limit}}))


def with_block_io(block_io: BlockIO) -> SpecOption:
    """Set block I/O weights and limits, in place of those there are."""
    given = clone(block_io)
    return _resources(lambda resources: resources.update({"blockIO": clone(given)}))


def with_hugepage_limit(page_size: str, limit: int) -> SpecOption:
    """Limit huge pages of one size ("2MB", "1GB"), in bytes.

    Raises:
        InvalidArgumentError: The limit is negative.
    """
    check_integer(limit, what="huge page limit", minimum=0, maximum=_MAX_UINT64)

    def edit(resources: Resources) -> None:
        others = [present for present in resources.get("hugepageLimits", []) if present["pageSize"] != page_size]
        resources["hugepageLimits"] = [*others, {"pageSize": page_size, "limit": limit}]

    return _resources(edit)


def with_unified(settings: Mapping[str, str]) -> SpecOption:
    """Set files of a cgroup v2 by name, for instance "memory.high"."""
    added = {check_string(key, what="cgroup file"): check_string(settings[key], what=key) for key in settings}
    return _resources(lambda resources: resources.update({"unified": {**resources.get("unified", {}), **added}}))


def with_rdt(*, clos_id: str = "", l3_cache_schema: str = "", mem_bw_schema: str = "") -> SpecOption:
    """Set shares of cache and memory bandwidth (Intel RDT), in place of those there are."""
    rdt: IntelRdt = {}
    if clos_id:
        rdt["closID"] = clos_id
    if l3_cache_schema:
        rdt["l3CacheSchema"] = l3_cache_schema
    if mem_bw_schema:
        rdt["memBwSchema"] = mem_bw_schema

    def edit(spec: Spec) -> None:
        if "linux" in spec:
            linux_of(spec)["intelRdt"] = rdt.copy()

    return spec_option(edit)


def with_parent_cgroup_devices() -> SpecOption:
    """Have no device rules: what the parent cgroup allows is allowed."""

    def edit(spec: Spec) -> None:
        resources_of(spec)["devices"] = []

    return spec_option(edit)


def with_all_devices_allowed() -> SpecOption:
    """Allow every device, in place of the rules there are; the nodes themselves are not made."""

    def edit(spec: Spec) -> None:
        resources_of(spec)["devices"] = [{"allow": True, "access": "rwm"}]

    return spec_option(edit)


def with_default_devices() -> SpecOption:
    """Allow the devices every Unix program expects, and the console."""
    return with_device_rules([*default_device_rules(), _CONSOLE_RULE])


def with_device_rules(rules: Iterable[DeviceRule]) -> SpecOption:
    """Add device cgroup rules; later ones win."""
    added = clone(list(rules))

    def edit(spec: Spec) -> None:
        resources_of(spec).setdefault("devices", []).extend(clone(added))

    return spec_option(edit)


def with_linux_devices(devices: Iterable[Device]) -> SpecOption:
    """Add device nodes; whether they may be used the device rules say."""
    added = clone(list(devices))

    def edit(spec: Spec) -> None:
        linux_of(spec).setdefault("devices", []).extend(clone(added))

    return spec_option(edit)


def with_devices(devices: Iterable[Device], *, access: str = "rwm") -> SpecOption:
    """Add device nodes and allow their use: "r" read, "w" write, "m" make nodes."""
    check_string(access, what="device access")
    added = clone(list(devices))
    rules: list[DeviceRule] = [
        {"allow": True, "type": node["type"], "major": node["major"], "minor": node["minor"], "access": access}
        for node in added
    ]

    def edit(spec: Spec) -> None:
        linux_of(spec).setdefault("devices", []).extend(clone(added))
        resources_of(spec).setdefault("devices", []).extend(clone(rules))

    return spec_option(edit)


def _resources(edit: Callable[[Resources], None]) -> SpecOption:
    def apply(spec: Spec) -> None:
        if "linux" in spec:
            edit(resources_of(spec))

    return spec_option(apply)


def _memory(changes: Memory) -> SpecOption:
    return _resources(lambda resources: resources.setdefault("memory", {}).update(changes))


def _cpu(changes: CPU) -> SpecOption:
    return _resources(lambda resources: resources.setdefault("cpu", {}).update(changes))
