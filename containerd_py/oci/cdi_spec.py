"""Specifications of the Container Device Interface, read strictly. Pure: knows documents; reads no file.

A specification says what a container's spec must get for each device of a kind, "vendor.example/class". What it says
is checked as the interface's own library does, and members nobody knows are refused: an edit that is left out would be
a device that does not work. Source: Container Device Interface, SPEC.md, versions 0.3.0 to 1.1.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain
from typing import Final, TypeVar, cast, get_args

import attrs

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.json_fields import Fields
from containerd_py.oci.runtime_spec import Hook, HookPoint, IntelRdt, Mount
from containerd_py.types import NO_LABELS, frozen_map

# Oldest first. Later ones only add; what asks for which is in `_needed_version`.
VERSIONS: Final = ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0")
NO_PERMISSIONS: Final = "none"
_NAME: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?", re.ASCII)  # of a vendor or class
_DEVICE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?", re.ASCII)
_ANNOTATION: Final = re.compile(
    r"(?:(?=[^/]{1,253}/)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*/)?"
    r"(?=[^/]{1,63}\Z)[a-z0-9](?:[a-z0-9_.-]*[a-z0-9])?",
    re.ASCII | re.IGNORECASE,
)
_MAX_ANNOTATIONS: Final = 256 * 1024  # bytes of all of one object
_MAX_UINT32: Final = 2**32 - 1
_MAX_MODE: Final = 0o7777
_MAX_CLOS_ID: Final = 4095  # bytes: a file name
_TYPES: Final = frozenset({"", "b", "c", "u", "p"})

_SPEC_FIELDS: Final = frozenset({"cdiVersion", "kind", "annotations", "devices", "containerEdits"})
_DEVICE_FIELDS: Final = frozenset({"name", "annotations", "containerEdits"})
_EDITS_FIELDS: Final = frozenset({"env", "deviceNodes", "netDevices", "hooks", "mounts", "intelRdt", "additionalGids"})
_NODE_FIELDS: Final = frozenset({"path", "hostPath", "type", "major", "minor", "fileMode", "permissions", "uid", "gid"})
_NET_FIELDS: Final = frozenset({"hostInterfaceName", "name"})
_HOOK_FIELDS: Final = frozenset({"hookName", "path", "args", "env", "timeout"})
_MOUNT_FIELDS: Final = frozenset({"hostPath", "containerPath", "options", "type"})
_RDT_FIELDS: Final = frozenset({"closID", "l3CacheSchema", "memBwSchema", "schemata", "enableMonitoring"})

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class DeviceNode:
    """A device node to make; what is not said is as on the host, at `host_path` or, without one, at `path`."""

    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


@attrs.frozen(kw_only=True)
class Edits:
    """What a container's spec gets. Hooks with their points, network devices with their names in the container."""

    env: tuple[str, ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    net_devices: tuple[tuple[str, str], ...] = ()
    hooks: tuple[tuple[HookPoint, Hook], ...] = ()
    mounts: tuple[Mount, ...] = ()
    intel_rdt: IntelRdt | None = None
    additional_gids: tuple[int, ...] = ()

    def __add__(self, other: Edits) -> Edits:
        """Return these edits and then the others."""
        return Edits(
            env=self.env + other.env,
            device_nodes=self.device_nodes + other.device_nodes,
            net_devices=self.net_devices + other.net_devices,
            hooks=self.hooks + other.hooks,
            mounts=self.mounts + other.mounts,
            intel_rdt=self.intel_rdt if other.intel_rdt is None else other.intel_rdt,
            additional_gids=self.additional_gids + other.additional_gids,
        )


@attrs.frozen(kw_only=True)
class CDIDevice:
    """A device of a specification."""

    name: str
    edits: Edits
    annotations: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)


@attrs.frozen(kw_only=True)
class CDISpec:
    """A specification: the devices of a kind, and the edits that come with any of them."""

    version: str
    kind: str
    devices: tuple[CDIDevice, ...]
    edits: Edits = Edits()
    annotations: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)


def check_device_name(name: str) -> str:
    """Return a qualified device name, "vendor.example/class=name", if it is one.

    Raises:
        InvalidArgumentError: It is not.
    """
    kind, equals, device = name.partition("=")
    vendor, slash, klass = kind.partition("/")
    if not (equals and slash and _NAME.fullmatch(vendor) and _NAME.fullmatch(klass) and _DEVICE.fullmatch(device)):
        raise InvalidArgumentError(f"{name[:160]!a} is no CDI device: expected vendor.example/class=name")
    return name


def read_cdi_spec(document: Mapping[str, object], *, what: str) -> CDISpec:
    """Read a specification out of a parsed document; `what` names it in errors.

    Raises:
        InvalidArgumentError: A member is missing, mistyped, unknown, or cannot be; or it needs a later version than
            the specification says it is of.
    """
    fields = Fields(members=document, known=_SPEC_FIELDS, what=what)
    _refuse_unknown(fields)
    kind = fields.string("kind")
    vendor, slash, klass = kind.partition("/")
    if not (slash and _NAME.fullmatch(vendor) and _NAME.fullmatch(klass)):
        raise fields.error("kind", f"{kind[:160]!a} is not vendor.example/class")
    spec = CDISpec(
        version=_version(fields),
        kind=kind,
        devices=_devices(fields),
        edits=_edits(fields),
        annotations=_annotations(fields),
    )
    needed = _needed_version(spec)
    if VERSIONS.index(spec.version) < VERSIONS.index(needed):
        raise fields.error("cdiVersion", f"what is in it needs {needed}, and it is of {spec.version}")
    return spec


def _version(fields: Fields) -> str:
    version = fields.string("cdiVersion").removeprefix("v")
    if version not in VERSIONS:
        raise fields.error("cdiVersion", f"{version[:80]!a} is not a version known here: {', '.join(VERSIONS)}")
    return version


def _needed_version(spec: CDISpec) -> str:
    edits = [spec.edits, *(device.edits for device in spec.devices)]
    rdts = [edit.intel_rdt for edit in edits if edit.intel_rdt is not None]
    if any(edit.net_devices for edit in edits) or any("schemata" in rdt or "enableMonitoring" in rdt for rdt in rdts):
        return "1.1.0"
    if rdts or any(edit.additional_gids for edit in edits):
        return "0.7.0"
    if spec.annotations or any(device.annotations for device in spec.devices) or "." in spec.kind.partition("/")[2]:
        return "0.6.0"
    nodes = chain.from_iterable(edit.device_nodes for edit in edits)
    if any(device.name[0].isdigit() for device in spec.devices) or any(node.host_path for node in nodes):
        return "0.5.0"
    if any("type" in mount for mount in chain.from_iterable(edit.mounts for edit in edits)):
        return "0.4.0"
    return "0.3.0"


def _refuse_unknown(fields: Fields) -> None:
    for key in fields.members:
        if key not in fields.known:
            raise fields.error(key, f"no such member is known; there are {', '.join(sorted(fields.known))}")


def _children(fields: Fields, key: str, known: frozenset[str]) -> list[Fields]:
    children = fields.nested_array(key, known)
    for child in children:
        _refuse_unknown(child)
    return children


def _devices(fields: Fields) -> tuple[CDIDevice, ...]:
    devices = tuple(_device(child) for child in _children(fields, "devices", _DEVICE_FIELDS))
    if not devices:
        raise fields.error("devices", "there is none")
    names = [device.name for device in devices]
    for name in names:
        if names.count(name) > 1:
            raise fields.error("devices", f"two are named {name!a}")
    return devices


def _device(fields: Fields) -> CDIDevice:
    name = fields.string("name")
    if not _DEVICE.fullmatch(name):
        raise fields.error("name", f"{name[:160]!a} is no device name")
    edits = _edits(fields)
    if edits == Edits():
        raise fields.error("containerEdits", f"device {name!a} edits nothing")
    return CDIDevice(name=name, edits=edits, annotations=_annotations(fields))


def _annotations(fields: Fields) -> dict[str, str]:
    annotations = fields.string_map("annotations")
    for key in annotations:
        if not _ANNOTATION.fullmatch(key):
            raise fields.error("annotations", f"{key[:160]!a} is no qualified name")
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _MAX_ANNOTATIONS:
        raise fields.error("annotations", f"more than {_MAX_ANNOTATIONS} bytes")
    return annotations


def _edits(parent: Fields) -> Edits:
    fields = parent.nested("containerEdits", _EDITS_FIELDS)
    if fields is None:
        return Edits()
    _refuse_unknown(fields)
    return Edits(
        env=_env(fields),
        device_nodes=tuple(_node(child) for child in _children(fields, "deviceNodes", _NODE_FIELDS)),
        net_devices=_net_devices(fields),
        hooks=tuple(_hook(child) for child in _children(fields, "hooks", _HOOK_FIELDS)),
        mounts=tuple(_mount(child) for child in _children(fields, "mounts", _MOUNT_FIELDS)),
        intel_rdt=_intel_rdt(fields),
        additional_gids=_gids(fields),
    )


def _env(fields: Fields) -> tuple[str, ...]:
    entries = tuple(_clean(fields, "env", entry) for entry in fields.strings("env"))
    for entry in entries:
        if entry.find("=") <= 0:
            raise fields.error("env", f"{entry[:160]!a} is not NAME=value")
    return entries


def _node(fields: Fields) -> DeviceNode:
    node = DeviceNode(
        path=_absolute(fields, "path"),
        host_path=_absolute(fields, "hostPath") if fields.string("hostPath") else "",
        type=fields.string("type"),
        major=_number(fields, "major") or 0,
        minor=_number(fields, "minor") or 0,
        file_mode=_number(fields, "fileMode", maximum=_MAX_MODE),
        permissions=fields.string("permissions"),
        uid=_number(fields, "uid"),
        gid=_number(fields, "gid"),
    )
    if node.type not in _TYPES:
        raise fields.error("type", f"{node.type[:80]!a} is not b, c, u or p")
    if node.permissions != NO_PERMISSIONS and node.permissions.strip("rwm"):
        raise fields.error("permissions", f"{node.permissions[:80]!a} is made of other letters than r, w and m")
    return node


def _net_devices(fields: Fields) -> tuple[tuple[str, str], ...]:
    children = _children(fields, "netDevices", _NET_FIELDS)
    pairs = [(_given(child, "hostInterfaceName"), _given(child, "name")) for child in children]
    for side in (0, 1):
        names = [pair[side] for pair in pairs]
        if len(set(names)) != len(names):
            raise fields.error("netDevices", "two have the same name")
    return tuple(pairs)


def _hook(fields: Fields) -> tuple[HookPoint, Hook]:
    point = fields.string("hookName")
    if point not in get_args(HookPoint):
        raise fields.error("hookName", f"{point[:80]!a} is not one of {', '.join(get_args(HookPoint))}")
    hook: Hook = {"path": _absolute(fields, "path")}
    if args := fields.strings("args"):
        hook["args"] = [_clean(fields, "args", arg) for arg in args]
    if env := _env(fields):
        hook["env"] = [*env]
    if (timeout := fields.integer("timeout")) is not None:
        hook["timeout"] = timeout
    return cast("HookPoint", point), hook


def _mount(fields: Fields) -> Mount:
    mount: Mount = {"destination": _absolute(fields, "containerPath"), "source": _given(fields, "hostPath")}
    if kind := fields.string("type"):
        mount["type"] = _clean(fields, "type", kind)
    if options := fields.strings("options"):
        mount["options"] = [_clean(fields, "options", option) for option in options]
    return mount


def _intel_rdt(parent: Fields) -> IntelRdt | None:
    fields = parent.nested("intelRdt", _RDT_FIELDS)
    if fields is None:
        return None
    _refuse_unknown(fields)
    clos_id = _clean(fields, "closID", fields.string("closID"))
    if clos_id != "/" and (clos_id in {".", ".."} or set(clos_id) & set("/\n") or len(clos_id.encode()) > _MAX_CLOS_ID):
        raise fields.error("closID", f"{clos_id[:80]!a} is no name of a directory")
    rdt: IntelRdt = {}
    if clos_id:
        rdt["closID"] = clos_id
    if cache := fields.string("l3CacheSchema"):
        rdt["l3CacheSchema"] = _clean(fields, "l3CacheSchema", cache)
    if bandwidth := fields.string("memBwSchema"):
        rdt["memBwSchema"] = _clean(fields, "memBwSchema", bandwidth)
    if schemata := fields.strings("schemata"):
        rdt["schemata"] = [_clean(fields, "schemata", schema) for schema in schemata]
    if fields.boolean("enableMonitoring"):
        rdt["enableMonitoring"] = True
    return rdt


def _gids(fields: Fields) -> tuple[int, ...]:
    value = fields.members.get("additionalGids")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise fields.error("additionalGids", "expected an array of group IDs")
    for item in value:
        if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= _MAX_UINT32:
            raise fields.error("additionalGids", f"{ascii(item)[:80]} is no group ID")
    return tuple(value)


def _number(fields: Fields, key: str, *, maximum: int = _MAX_UINT32) -> int | None:
    number = fields.integer(key)
    if number is not None and not 0 <= number <= maximum:
        raise fields.error(key, f"{number} is not in 0 to {maximum}")
    return number


def _given(fields: Fields, key: str) -> str:
    text = _clean(fields, key, fields.string(key))
    if not text:
        raise fields.error(key, "missing")
    return text


def _absolute(fields: Fields, key: str) -> str:
    path = _given(fields, key)
    if not path.startswith("/"):
        raise fields.error(key, f"{path[:160]!a} is no absolute path")
    return path


def _clean(fields: Fields, key: str, text: str) -> str:
    if "\0" in text:
        raise fields.error(key, "has a NUL character in it")
    return text
