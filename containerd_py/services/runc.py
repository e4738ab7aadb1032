"""What runc and shims like it take besides the spec, typed. Knows their protobuf messages; calls nothing.

Source: containerd, api/types/runc/options and api/types/runtimeoptions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import attrs

from containerd_py._generated.containerd.runc.v1 import CheckpointOptions as WireCheckpointOptions
from containerd_py._generated.containerd.runc.v1 import Options as WireOptions
from containerd_py._generated.runtimeoptions.v1 import Options as WireShimOptions
from containerd_py.errors import DataLossError, InvalidArgumentError
from containerd_py.typeurl import RUNC_CHECKPOINT_OPTIONS, RUNC_OPTIONS, SHIM_OPTIONS, TypedValue

T = TypeVar("T")
_MAX_UINT32: Final = 2**32 - 1
_CRIU_PATH_TAG: Final = b"\x42"  # field 8, a string: daemons before 1.7 read it, and today's API has dropped it


@attrs.frozen(kw_only=True)
class RuncOptions:
    """Options of runc, for all tasks of a container or for one.

    Attributes:
        binary_name: The OCI runtime to use instead of runc: a name, or a path on the daemon's host.
        root: The folder that the OCI runtime keeps its state in.
        systemd_cgroup: Let systemd make the cgroup; the spec's cgroup path is then "slice:prefix:name".
        no_pivot_root: Use chroot and MS_MOVE, as root file systems on a RAM disk need.
        no_new_keyring: Let the container use the session keyring of whoever starts it.
        shim_cgroup: The cgroup that the shim itself goes into; it must be there.
        io_uid: The user who owns the pipes of stdin, stdout and stderr.
        io_gid: Their group.
        criu_path: The criu binary, for daemons before 1.7; later ones find it in their PATH.
        criu_image_path: A folder on the daemon's host with a checkpoint that the task is restored from.
        criu_work_path: The folder for criu's log files at a restore.
        task_api_address: The address of a task service that runs already, from containerd 2.0 on.
        task_api_version: Its version, 2 or 3.
    """

    binary_name: str = ""
    root: str = ""
    systemd_cgroup: bool = False
    no_pivot_root: bool = False
    no_new_keyring: bool = False
    shim_cgroup: str = ""
    io_uid: int = 0
    io_gid: int = 0
    criu_path: str = ""
    criu_image_path: str = ""
    criu_work_path: str = ""
    task_api_address: str = ""
    task_api_version: int = 0

    def to_value(self) -> TypedValue:
        """Return the options as a container record or Tasks.Create takes them.

        Raises:
            InvalidArgumentError: A number is not in 0 to 2**32 - 1.
        """
        values = attrs.asdict(self, filter=lambda field, _: field.name != "criu_path")
        for name in ("io_uid", "io_gid", "task_api_version"):
            if not 0 <= values[name] <= _MAX_UINT32:
                raise InvalidArgumentError(f"{name}={values[name]}: expected 0 to {_MAX_UINT32}")
        return TypedValue(type_url=RUNC_OPTIONS, value=bytes(WireOptions(**values)) + _criu_path_field(self.criu_path))

    @classmethod
    def from_value(cls, value: TypedValue) -> RuncOptions:
        """Return the options that a container record keeps.

        Raises:
            InvalidArgumentError: They are another runtime's.
            DataLossError: They cannot be read.
        """
        if value.name != RUNC_OPTIONS:
            raise InvalidArgumentError(f"{value.type_url[:160]!a} is not {RUNC_OPTIONS}: these are no options of runc")
        wire = _parsed(WireOptions().parse, value)
        known = {field.name: getattr(wire, field.name) for field in attrs.fields(cls) if field.name != "criu_path"}
        return cls(**known, criu_path=_criu_path_of(getattr(wire, "_unknown_fields", b"")))


@attrs.frozen(kw_only=True)
class ShimOptions:
    """Options of a runtime that reads them from a configuration file or takes its text, as Kata Containers does.

    Attributes:
        type_url: What the configuration is, as the runtime names it.
        config_path: The configuration file, on the daemon's host.
        config_body: The configuration itself; it comes before the file. From containerd 1.7 on.
    """

    type_url: str = ""
    config_path: str = ""
    config_body: bytes = attrs.field(default=b"", repr=False)

    def to_value(self) -> TypedValue:
        """Return the options as a container record takes them."""
        return TypedValue(type_url=SHIM_OPTIONS, value=bytes(WireShimOptions(**attrs.asdict(self))))

    @classmethod
    def from_value(cls, value: TypedValue) -> ShimOptions:
        """Return the options that a container record keeps.

        Raises:
            InvalidArgumentError: They are another runtime's.
            DataLossError: They cannot be read.
        """
        if value.name != SHIM_OPTIONS:
            raise InvalidArgumentError(f"{value.type_url[:160]!a} is not {SHIM_OPTIONS}: they have another form")
        wire = _parsed(WireShimOptions().parse, value)
        return cls(**{field.name: getattr(wire, field.name) for field in attrs.fields(cls)})


@attrs.frozen(kw_only=True)
class CheckpointOptions:
    """How criu takes a checkpoint; see `Task.checkpoint`."""

    exit: bool = False
    open_tcp: bool = False
    external_unix_sockets: bool = False
    shell_job: bool = False
    file_locks: bool = True
    empty_namespaces: tuple[str, ...] = ()
    cgroups_mode: str = ""
    image_path: str = ""
    work_path: str = ""

    def to_value(self) -> TypedValue:
        """Return the options as Tasks.Checkpoint takes them."""
        values = attrs.asdict(self) | {"empty_namespaces": [*self.empty_namespaces]}
        terminal = values.pop("shell_job")
        return TypedValue(
            type_url=RUNC_CHECKPOINT_OPTIONS, value=bytes(WireCheckpointOptions(**values, terminal=terminal))
        )


def options_value(options: TypedValue | RuncOptions | ShimOptions | None) -> TypedValue | None:
    """Return options in the form the daemon keeps them in."""
    return options if options is None or isinstance(options, TypedValue) else options.to_value()


def _parsed(parse: Callable[[bytes], T], value: TypedValue) -> T:
    try:
        return parse(value.value)
    except Exception as error:  # the codec raises what it likes on damaged input
        raise DataLossError(f"the {value.name} of the container cannot be read: {error}") from error


def _criu_path_field(path: str) -> bytes:
    if not path:
        return b""
    data = path.encode()
    return _CRIU_PATH_TAG + _varint(len(data)) + data


def _criu_path_of(unknown: bytes) -> str:
    """Find the path among fields the codec does not know; another unknown field before it hides it."""
    if not unknown.startswith(_CRIU_PATH_TAG):
        return ""
    size = shift = 0
    for place, byte in enumerate(unknown[1:6], start=2):
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return unknown[place : place + size].decode(errors="replace")
    return ""


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
