"""Spec options about names, namespaces, cgroups, hooks and annotations. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, get_args

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.default_spec import cgroup_path
from containerd_py.oci.runtime_spec import Hook, HookPoint, IDMapping, Namespace, NamespaceType, Spec
from containerd_py.oci.spec_editing import SpecOption, check_integer, check_string, linux_of, spec_option
from containerd_py.oci.spec_json import clone, spec_from_json

_MAX_UINT32: Final = 2**32 - 1


def with_spec(replacement: Spec) -> SpecOption:
    """Start again from another spec, for instance one read from a file."""
    given = clone(replacement)

    def apply(_: Spec) -> Spec:
        return clone(given)

    return apply


def with_spec_from_bytes(data: bytes) -> SpecOption:
    """Start again from a spec in JSON, as `config.json` of an OCI bundle or `ctr oci spec` have it.

    Raises:
        InvalidArgumentError: It is not one JSON object, or larger than 16 MiB.
    """
    return with_spec(spec_from_json(data))


def with_annotations(annotations: Mapping[str, str]) -> SpecOption:
    """Add annotations to those there are, or replace them.

    Raises:
        InvalidArgumentError: A value is not a string.
    """
    added = _string_map(annotations, what="annotation")

    def edit(spec: Spec) -> None:
        spec["annotations"] = {**spec.get("annotations", {}), **added}

    return spec_option(edit)


def with_hostname(name: str) -> SpecOption:
    """Set the host name seen inside."""
    check_string(name, what="hostname")

    def edit(spec: Spec) -> None:
        spec["hostname"] = name

    return spec_option(edit)


def with_domainname(name: str) -> SpecOption:
    """Set the NIS domain name seen inside; needs a runtime that knows specification 1.1, which runc 1.1 does not."""
    check_string(name, what="domainname")

    def edit(spec: Spec) -> None:
        spec["domainname"] = name

    return spec_option(edit)


def with_host_namespace(kind: NamespaceType) -> SpecOption:
    """Let the process live in the daemon host's namespace of this kind.

    Raises:
        InvalidArgumentError: Linux has no such namespace.
    """
    _check_kind(kind)

    def edit(spec: Spec) -> None:
        linux = linux_of(spec)
        linux["namespaces"] = [namespace for namespace in linux.get("namespaces", []) if namespace["type"] != kind]

    return spec_option(edit)


def with_linux_namespace(kind: NamespaceType, path: str | None = None) -> SpecOption:
    """Give the process a namespace of this kind: a new one, or the one at `path`. Replaces one of the same kind.

    Raises:
        InvalidArgumentError: Linux has no such namespace.
    """
    _check_kind(kind)
    wanted: Namespace = {"type": kind}
    if path is not None:
        wanted["path"] = check_string(path, what="namespace path")

    def edit(spec: Spec) -> None:
        namespaces = linux_of(spec).setdefault("namespaces", [])
        for index, present in enumerate(namespaces):
            if present["type"] == kind:
                namespaces[index] = clone(wanted)
                return
        namespaces.append(clone(wanted))

    return spec_option(edit)


def with_user_namespace(uid_mappings: Iterable[IDMapping], gid_mappings: Iterable[IDMapping]) -> SpecOption:
    """Map user and group IDs through a user namespace; mappings add up.

    Raises:
        InvalidArgumentError: A mapping's number is not in 0 to 2**32 - 1.
    """
    uids, gids = _mappings(uid_mappings), _mappings(gid_mappings)

    def edit(spec: Spec) -> None:
        linux = linux_of(spec)
        namespaces = linux.setdefault("namespaces", [])
        if not any(namespace["type"] == "user" for namespace in namespaces):
            namespaces.append({"type": "user"})
        linux.setdefault("uidMappings", []).extend(clone(uids))
        linux.setdefault("gidMappings", []).extend(clone(gids))

    return spec_option(edit)


def with_cgroup(path: str) -> SpecOption:
    """Set the cgroup's path, or "slice:prefix:name" where the runtime uses systemd; "" leaves it to the runtime."""
    check_string(path, what="cgroup")

    def edit(spec: Spec) -> None:
        linux_of(spec)["cgroupsPath"] = path

    return spec_option(edit)


def with_namespaced_cgroup(namespace: str, container_id: str) -> SpecOption:
    """Set the cgroup to the default one, /namespace/id.

    Raises:
        InvalidArgumentError: A name is not an identifier containerd takes.
    """
    return with_cgroup(cgroup_path(namespace, container_id))


def with_sysctl(settings: Mapping[str, str]) -> SpecOption:
    """Set kernel parameters of the container's namespaces, for instance net.ipv4.ip_forward.

    Raises:
        InvalidArgumentError: A value is not a string.
    """
    added = _string_map(settings, what="sysctl")

    def edit(spec: Spec) -> None:
        linux = linux_of(spec)
        linux["sysctl"] = {**linux.get("sysctl", {}), **added}

    return spec_option(edit)


def with_hooks(point: HookPoint, *hooks: Hook) -> SpecOption:
    """Add programs the runtime runs, on the daemon's host as its user, at this point of the container's life.

    Raises:
        InvalidArgumentError: There is no such point, or a program's path is not absolute.
    """
    if point not in get_args(HookPoint):
        raise InvalidArgumentError(f"hook: {ascii(point)[:64]} is not one of {', '.join(get_args(HookPoint))}")
    added = clone(list(hooks))
    for hook in added:
        if not check_string(hook.get("path", ""), what="hook path").startswith("/"):
            raise InvalidArgumentError(f"hook path: {hook.get('path', '')[:160]!a} must be absolute")

    def edit(spec: Spec) -> None:
        spec.setdefault("hooks", {}).setdefault(point, []).extend(clone(added))

    return spec_option(edit)


def _check_kind(kind: NamespaceType) -> None:
    if kind not in get_args(NamespaceType):
        raise InvalidArgumentError(f"namespace: {ascii(kind)[:64]} is not one of {', '.join(get_args(NamespaceType))}")


def _mappings(mappings: Iterable[IDMapping]) -> list[IDMapping]:
    copies = clone(list(mappings))
    for mapping in copies:
        for key in ("containerID", "hostID", "size"):
            check_integer(mapping.get(key), what=f"ID mapping {key}", minimum=0, maximum=_MAX_UINT32)
    return copies


def _string_map(items: Mapping[str, str], *, what: str) -> dict[str, str]:
    for key, value in items.items():
        check_string(key, what=what)
        check_string(value, what=f"{what} {key[:64]!a}")
    return dict(items)
