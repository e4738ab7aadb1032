"""Spec options for Windows containers. Pure; the Windows section stays opaque but for what is set here."""

from __future__ import annotations

from typing import Final, cast

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.runtime_spec import Opaque, Spec
from containerd_py.oci.spec_editing import SpecOption, check_integer, check_string, spec_option

_MAX_UINT16: Final = 2**16 - 1
_MAX_UINT64: Final = 2**64 - 1


def with_windows_hyperv() -> SpecOption:
    """Isolate the container by Hyper-V."""

    def edit(spec: Spec) -> None:
        _section(_windows_of(spec), "hyperv")

    return spec_option(edit)


def with_windows_device(id_type: str, device_id: str) -> SpecOption:
    """Add a device by class, for instance "class" and its GUID.

    Raises:
        InvalidArgumentError: The kind of ID is missing.
    """
    if not check_string(id_type, what="device ID type"):
        raise InvalidArgumentError("device ID type: must not be empty")

    def edit(spec: Spec) -> None:
        windows = _windows_of(spec)
        present = cast("list[object]", windows.get("devices", []))
        windows["devices"] = [*present, {"id": device_id, "idType": id_type}]

    return spec_option(edit)


def with_windows_cpu_count(count: int) -> SpecOption:
    """Set the number of CPUs, where there is a Windows section.

    Raises:
        InvalidArgumentError: The number is out of range.
    """
    return _cpu("count", check_integer(count, what="CPU count", minimum=0, maximum=_MAX_UINT64))


def with_windows_cpu_shares(shares: int) -> SpecOption:
    """Set the weight among containers that want CPU time, where there is a Windows section.

    Raises:
        InvalidArgumentError: The number is out of range.
    """
    return _cpu("shares", check_integer(shares, what="CPU shares", minimum=0, maximum=_MAX_UINT16))


def with_windows_cpu_maximum(maximum: int) -> SpecOption:
    """Limit CPU time to hundredths of a per cent, where there is a Windows section.

    Raises:
        InvalidArgumentError: The number is out of range.
    """
    return _cpu("maximum", check_integer(maximum, what="CPU maximum", minimum=0, maximum=_MAX_UINT16))


def with_windows_ignore_flushes_during_boot() -> SpecOption:
    """Ignore flushes to disk while the container boots."""

    def edit(spec: Spec) -> None:
        _windows_of(spec)["ignoreFlushesDuringBoot"] = True

    return spec_option(edit)


def with_windows_networks_allow_unqualified_dns_query() -> SpecOption:
    """Allow DNS queries for bare names."""

    def edit(spec: Spec) -> None:
        _section(_windows_of(spec), "network")["allowUnqualifiedDNSQuery"] = True

    return spec_option(edit)


def with_windows_network_namespace(namespace: str) -> SpecOption:
    """Set the network namespace's ID."""
    check_string(namespace, what="network namespace")

    def edit(spec: Spec) -> None:
        _section(_windows_of(spec), "network")["networkNamespace"] = namespace

    return spec_option(edit)


def set_windows_memory_limit(spec: Spec, limit: int) -> None:
    """Limit memory in a spec that has a Windows section; change no other."""
    if "windows" in spec and limit >= 0:
        _section(_section(spec["windows"], "resources"), "memory")["limit"] = limit


def _cpu(key: str, value: int) -> SpecOption:
    def edit(spec: Spec) -> None:
        if "windows" in spec:
            _section(_section(spec["windows"], "resources"), "cpu")[key] = value

    return spec_option(edit)


def _windows_of(spec: Spec) -> Opaque:
    return spec.setdefault("windows", {})


def _section(parent: Opaque, key: str) -> Opaque:
    return cast("Opaque", parent.setdefault(key, {}))
