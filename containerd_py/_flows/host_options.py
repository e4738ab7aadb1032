"""What of a container's spec has to be looked up on the host first: devices, other containers' namespaces, an init."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, get_args

from anyio import to_thread

from containerd_py._flows.cdi import find_cdi_devices
from containerd_py.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from containerd_py.oci.host import device_at, devices_below
from containerd_py.oci.runtime_spec import Mount, NamespaceType
from containerd_py.oci.spec_editing import SpecOption, compose
from containerd_py.oci.spec_options import (
    with_devices,
    with_host_namespace,
    with_init,
    with_linux_namespace,
    with_mounts,
    without_mounts,
)
from containerd_py.services.bundle import Services
from containerd_py.services.tasks import TaskState

# tini by its names, the statically linked ones first: they run in an image without a C library.
INITS: Final = ("docker-init", "tini-static", "tini", "catatonit")
_FILES: Final[Mapping[NamespaceType, str]] = {"network": "net", "mount": "mnt"}  # others are named as they are
_CONTAINER: Final = "container:"
_SHM: Final = "/dev/shm"  # noqa: S108  # POSIX shared memory is files there, beside what the IPC namespace has


async def host_options(
    services: Services,
    *,
    devices: Sequence[str] = (),
    cdi_devices: Sequence[str] = (),
    namespaces: Mapping[NamespaceType, str] | None = None,
    init: bool | str = False,
) -> SpecOption:
    """Look up what these options of `create_container` mean here and now."""
    for what, names in (("devices", devices), ("cdi_devices", cdi_devices)):
        if isinstance(names, str):
            raise InvalidArgumentError(f"{what} must be a list, not the string {names!a}")
    options = [await _namespace(services, kind, where) for kind, where in (namespaces or {}).items()]
    options += [await to_thread.run_sync(partial(_device, device)) for device in devices]
    if cdi_devices:
        options.append(await find_cdi_devices(*cdi_devices))
    if init:
        options.append(with_init(await _init_program(init)))
    return compose(*options)


def _device(text: str) -> SpecOption:
    """Read HOST, HOST:ACCESS, HOST:CONTAINER or HOST:CONTAINER:ACCESS, and look at the host's device. Blocks."""
    match text.split(":"):
        case [host]:
            inside, access = host, "rwm"
        case [host, other] if other.startswith("/"):
            inside, access = other, "rwm"
        case [host, other]:
            inside, access = host, other
        case [host, inside, access]:
            pass
        case _:
            raise InvalidArgumentError(
                f"devices: {text[:160]!a} has too many parts: /dev/a:/dev/b:rwm has all there are"
            )
    if not (host.startswith("/") and inside.startswith("/") and access and not access.strip("rwm")):
        raise InvalidArgumentError(f"devices: {text[:160]!a} is not like /dev/a, /dev/a:/dev/b or /dev/a:/dev/b:rwm")
    if Path(host).is_dir():
        return with_devices(devices_below(host, container_directory=inside), access=access)
    return with_devices([device_at(host, container_path=inside, follow_links=True)], access=access)


async def _namespace(services: Services, kind: NamespaceType, where: str) -> SpecOption:
    if kind not in get_args(NamespaceType):
        raise InvalidArgumentError(f"namespaces: {kind!a} is not one of {', '.join(get_args(NamespaceType))}")
    if where == "host":
        return _host_ipc() if kind == "ipc" else with_host_namespace(kind)
    if where == "private":
        return with_linux_namespace(kind)
    if where.startswith("/"):
        return with_linux_namespace(kind, where)
    if where.startswith(_CONTAINER):
        pid = await _running_pid(services, where.removeprefix(_CONTAINER))
        return with_linux_namespace(kind, f"/proc/{pid}/ns/{_FILES.get(kind, kind)}")
    raise InvalidArgumentError(
        f"namespaces: {kind}={where[:160]!a} is none of 'host', 'private', 'container:ID' and an absolute path"
    )


def _host_ipc() -> SpecOption:
    mount: Mount = {
        "destination": _SHM,
        "source": _SHM,
        "type": "bind",
        "options": ["rbind", "nosuid", "noexec", "nodev"],
    }
    return compose(with_host_namespace("ipc"), without_mounts(_SHM), with_mounts(mount))


async def _running_pid(services: Services, container_id: str) -> int:
    try:
        status = await services.tasks.get(container_id)
    except NotFoundError as error:
        raise NotFoundError(f"container {container_id} has no task whose namespace could be joined") from error
    if status.state is TaskState.STOPPED:
        raise FailedPreconditionError(f"container {container_id} has ended: its namespaces are gone")
    return status.pid


async def _init_program(init: bool | str) -> str:
    for name in INITS if init is True else (str(init),):
        found = await to_thread.run_sync(partial(shutil.which, name))
        if found is not None:
            return found
    wanted = f"tini (none of {', '.join(INITS)} is in PATH)" if init is True else repr(init)
    raise NotFoundError(f"there is no init program {wanted} here: install tini, or name one with init='/path'")
