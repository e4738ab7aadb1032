"""Spec options about the root file system and mounts. Pure; whether a source exists the daemon's host decides."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import Final

from containerd_py import types
from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.oci.runtime_spec import Mount, Spec
from containerd_py.oci.spec_editing import (
    SpecOption,
    check_integer,
    check_string,
    clean_path,
    root_of,
    spec_option,
    strings,
)
from containerd_py.oci.spec_json import clone

_SHM: Final = "/dev/shm"  # noqa: S108  # inside the container
_MAX_KIB: Final = 2**53


def with_rootfs_path(path: str) -> SpecOption:
    """Set where the root file system is on the daemon's host, for containers without a snapshot.

    Raises:
        InvalidArgumentError: The path holds a NUL character.
    """
    check_string(path, what="root path")

    def edit(spec: Spec) -> None:
        root_of(spec)["path"] = path

    return spec_option(edit)


def with_rootfs_readonly() -> SpecOption:
    """Make the root file system read-only for the process."""

    def edit(spec: Spec) -> None:
        root_of(spec)["readonly"] = True

    return spec_option(edit)


def with_mounts(*mounts: Mount | types.Mount | Iterable[Mount | types.Mount]) -> SpecOption:
    """Add mounts, one by one or as a list, to those there are; later ones lie on top.

    A `types.Mount` is taken with its `target` as the path in the container.

    Raises:
        InvalidArgumentError: A mount has no destination, or, when applied to a Linux spec, a relative one.
    """
    added = [_spec_mount(mount) for mount in _flatten(mounts)]

    def edit(spec: Spec) -> None:
        if "linux" in spec:
            for mount in added:
                _check_absolute(mount["destination"])
        spec.setdefault("mounts", []).extend(clone(added))

    return spec_option(edit)


def with_tmpfs(path: str, *, size: int | None = None, mode: int = 0o1777, options: Iterable[str] = ()) -> SpecOption:
    """Mount an empty file system in memory at a path in the container, of `size` bytes at most, with these permissions.

    `options` follow "nosuid" and "nodev", such as "noexec" or "exec".

    Raises:
        InvalidArgumentError: The size or mode is out of range, or, when applied, the path is not absolute.
    """
    check_integer(mode, what="tmpfs mode", minimum=0, maximum=0o7777)
    bound = [] if size is None else [f"size={check_integer(size, what='tmpfs size', minimum=1, maximum=2**63 - 1)}"]
    given = ["nosuid", "nodev", *strings(options, what="tmpfs option"), f"mode={mode:o}", *bound]
    return with_mounts({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": given})


def without_mounts(*destinations: str | Iterable[str]) -> SpecOption:
    """Remove the mounts at these paths in the container."""
    unwanted = {clean_path(destination) for destination in strings(destinations, what="mount destination")}

    def edit(spec: Spec) -> None:
        spec["mounts"] = [mount for mount in spec.get("mounts", []) if clean_path(mount["destination"]) not in unwanted]

    return spec_option(edit)


def without_run_mount() -> SpecOption:
    """Remove the tmpfs at /run, so that the image's own /run is seen."""
    return without_mounts("/run")


def with_dev_shm_size(kib: int) -> SpecOption:
    """Set the size of /dev/shm, in KiB as in the Go client.

    Raises:
        InvalidArgumentError: The size is not positive.
        NotFoundError: When applied: the spec has no tmpfs at /dev/shm.
    """
    check_integer(kib, what="size of shm", minimum=1, maximum=_MAX_KIB)

    def edit(spec: Spec) -> None:
        for mount in spec.get("mounts", []):
            is_shm = mount.get("type") == "tmpfs" and mount.get("source") == "shm"
            if is_shm and clean_path(mount["destination"]) == _SHM:
                options = [option for option in mount.get("options", []) if not option.startswith("size=")]
                mount["options"] = [*options, f"size={kib}k"]
                return
        raise NotFoundError("the spec has no tmpfs mount at /dev/shm whose size could be set")

    return spec_option(edit)


def with_host_hosts_file() -> SpecOption:
    """Show the daemon host's /etc/hosts in the container, read-only."""
    return _with_host_file("/etc/hosts")


def with_host_resolv_conf() -> SpecOption:
    """Show the daemon host's /etc/resolv.conf in the container, read-only."""
    return _with_host_file("/etc/resolv.conf")


def with_host_localtime() -> SpecOption:
    """Show the daemon host's /etc/localtime in the container, read-only."""
    return _with_host_file("/etc/localtime")


def with_cgroup_mount() -> SpecOption:
    """Mount the container's cgroups read-only at /sys/fs/cgroup."""
    return with_mounts(
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": ["ro", "nosuid", "noexec", "nodev"],
        }
    )


def with_writable_sysfs() -> SpecOption:
    """Make /sys writable: the container can then change the host."""
    return _with_writable("sysfs")


def with_writable_cgroupfs() -> SpecOption:
    """Make cgroup mounts writable."""
    return _with_writable("cgroup")


def _with_host_file(path: str) -> SpecOption:
    return with_mounts({"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]})


def _with_writable(kind: str) -> SpecOption:
    def edit(spec: Spec) -> None:
        for mount in spec.get("mounts", []):
            if mount.get("type") == kind:
                mount["options"] = ["rw" if option == "ro" else option for option in mount.get("options", [])]

    return spec_option(edit)


def _flatten(
    mounts: Iterable[Mount | types.Mount | Iterable[Mount | types.Mount]],
) -> Iterable[Mapping[str, object] | types.Mount]:
    for mount in mounts:
        if isinstance(mount, types.Mount | Mapping):
            yield mount
        else:
            yield from mount


def _spec_mount(mount: Mapping[str, object] | types.Mount) -> Mount:
    if isinstance(mount, types.Mount):
        made: Mount = {"destination": mount.target, "type": mount.type, "source": mount.source}
        made["options"] = list(mount.options)
    elif not isinstance(mount, Mapping):
        raise InvalidArgumentError(
            f"mount: {ascii(mount)[:160]} must be a mapping: {{'type': 'bind', 'source': …, 'destination': …}}"
        )
    else:
        made = clone(dict(mount))  # type: ignore[assignment]
    if not check_string(made.get("destination", ""), what="mount destination"):
        raise InvalidArgumentError("mount destination: must not be empty")
    if made.get("type") == "bind" and not {"bind", "rbind"} & set(made.get("options") or ()):
        # runc goes by the option alone, and without it says no more than "no such device".
        made["options"] = [*(made.get("options") or ()), "rbind"]
    return made


def _check_absolute(destination: str) -> None:
    if not posixpath.isabs(destination):
        raise InvalidArgumentError(f"mount destination: {destination[:160]!a} must be an absolute path")
