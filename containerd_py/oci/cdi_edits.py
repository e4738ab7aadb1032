"""What the devices of the Container Device Interface do to a spec, as a spec option. `resolve` looks at the host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

import attrs

from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.oci.cdi_spec import NO_PERMISSIONS, DeviceNode, Edits
from containerd_py.oci.host import device_at
from containerd_py.oci.process_options import with_env
from containerd_py.oci.runtime_spec import Device, DeviceRule, Hook, Mount, Spec
from containerd_py.oci.spec_editing import SpecOption, clean_path, linux_of, process_of, resources_of, spec_option
from containerd_py.oci.spec_json import clone

_FIFO: Final = "p"


def resolve(edits: Edits) -> Edits:
    """Return the edits with device nodes that say everything, looked up on this host. Blocks.

    Raises:
        NotFoundError: The host has no such device.
        InvalidArgumentError: It is of another type than the specification says, or no device.
    """
    return attrs.evolve(edits, device_nodes=tuple(map(_resolved, edits.device_nodes)))


def _resolved(node: DeviceNode) -> DeviceNode:
    path = node.host_path or node.path
    is_whole = bool(node.type) and (node.major != 0 or node.type == _FIFO)
    try:
        found = device_at(path)
    except (NotFoundError, InvalidArgumentError, OSError) as error:
        if is_whole:
            return node  # the vendor says everything: the device may come later
        raise NotFoundError(f"the CDI device node {node.path!a} is to be as the host's {path!a}: {error}") from error
    mode = found["fileMode"] if node.file_mode is None else node.file_mode
    if is_whole:
        return attrs.evolve(node, file_mode=mode)
    if node.type and node.type != found["type"]:
        raise InvalidArgumentError(f"{path!a} on this host is of type {found['type']}, the CDI device of {node.type}")
    return attrs.evolve(node, file_mode=mode, type=found["type"], major=found["major"], minor=found["minor"])


def with_edits(edits: Edits) -> SpecOption:
    """Make a spec option of resolved edits."""

    def edit(spec: Spec) -> None:
        for node in edits.device_nodes:
            _add_node(spec, node)
        for host_name, name in edits.net_devices:
            linux_of(spec).setdefault("netDevices", {})[host_name] = {"name": name}
        if edits.mounts:
            _add_mounts(spec, edits.mounts)
        for point, hook in edits.hooks:
            # One line for each point there is would say the same.
            cast("dict[str, list[Hook]]", spec.setdefault("hooks", {})).setdefault(point, []).append(clone(hook))
        if edits.intel_rdt is not None:
            linux_of(spec)["intelRdt"] = clone(edits.intel_rdt)
        _add_groups(spec, edits.additional_gids)

    change = spec_option(edit)
    environment = with_env(edits.env)
    return lambda spec: change(environment(spec) if edits.env else spec)


def _add_node(spec: Spec, node: DeviceNode) -> None:
    linux = linux_of(spec)
    device: Device = {"path": node.path, "type": node.type, "major": node.major, "minor": node.minor}
    if node.file_mode is not None:
        device["fileMode"] = node.file_mode
    user = process_of(spec).get("user", {"uid": 0, "gid": 0})
    # A container that does not run as root is to use the device all the same.
    if uid := user["uid"] if node.uid is None else node.uid:
        device["uid"] = uid
    elif node.uid is not None:
        device["uid"] = node.uid
    if gid := user["gid"] if node.gid is None else node.gid:
        device["gid"] = gid
    elif node.gid is not None:
        device["gid"] = node.gid
    linux["devices"] = [other for other in linux.get("devices", []) if other["path"] != node.path] + [device]
    if node.type in {"b", "c"}:
        access = "" if node.permissions == NO_PERMISSIONS else node.permissions or "rwm"
        rule: DeviceRule = {"allow": True, "type": node.type, "major": node.major, "minor": node.minor}
        if access:
            resources_of(spec).setdefault("devices", []).append({**rule, "access": access})


def _add_mounts(spec: Spec, mounts: Iterable[Mount]) -> None:
    """Add mounts in place of what is mounted there, and put what is mounted inside of others after them."""
    namespaces = spec.get("linux", {}).get("namespaces", [])
    is_mapped = any(namespace["type"] == "user" for namespace in namespaces)
    present = spec.get("mounts", [])
    for mount in mounts:
        destination = clean_path(mount["destination"])
        present = [other for other in present if clean_path(other["destination"]) != destination]
        present.append(_mapped(mount) if is_mapped else clone(mount))
    spec["mounts"] = sorted(present, key=lambda mount: clean_path(mount["destination"]).count("/"))


def _mapped(mount: Mount) -> Mount:
    """Let a bind mount's owners go through the container's user namespace."""
    options = mount.get("options", [])
    if {"idmap", "ridmap"} & set(options):
        return clone(mount)
    wanted = "idmap" if mount.get("type") == "bind" else ""
    for option in options:
        wanted = {"bind": "idmap", "rbind": "ridmap"}.get(option, wanted)
    return {**clone(mount), "options": [*options, wanted]} if wanted else clone(mount)


def _add_groups(spec: Spec, gids: Iterable[int]) -> None:
    for gid in gids:
        groups = process_of(spec)["user"].setdefault("additionalGids", [])
        if gid and gid not in groups:
            groups.append(gid)
