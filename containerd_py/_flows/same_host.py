"""Whether this program sees the daemon's files: what needs them says so instead of failing in riddles, or going astray.

A socket may lead anywhere: through `ssh -L` to another machine, into a container, into a rootless daemon's mount
namespace. Process ids and namespaces prove nothing across machines, whose numbers are alike. The daemon keeps its UUID
in a file below its root, though, and tells it over the API: who finds the same one in that file shares its files. Where
the file may not be read there is no telling, and nothing is refused. Source: containerd, services/introspection.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import attrs
from anyio import to_thread

from containerd_py.cio.config import IOConfig
from containerd_py.errors import InvalidArgumentError, RemoteDaemonError
from containerd_py.services.bundle import Services

_UUID_FILE: Final = "io.containerd.grpc.v1.introspection/uuid"  # below the daemon's root
_UUID_LENGTH: Final = 36


@attrs.frozen(kw_only=True)
class Host:
    """What is known of where a daemon is: why its files are not ours, "" where they are; its pid, where it is here."""

    objection: str
    pid: int | None


async def require_same_host(services: Services, what: str, *, paths: Iterable[str] = ()) -> None:
    """Refuse what only works beside the daemon, on its files, where this program is somewhere else.

    `what` begins the error's message. The folders of `paths` must be the same ones for the daemon, too, whose mount
    namespace may show others.

    Raises:
        RemoteDaemonError: The daemon's files are not ours.
    """
    host = await _host(services)
    if host.objection:
        raise RemoteDaemonError(f"{what} on the daemon's own host: {host.objection}")
    if host.pid is None:
        return
    for folder in {os.path.dirname(path) for path in paths if path.startswith("/")}:  # noqa: PTH120  # text
        if not await to_thread.run_sync(_is_shared, host.pid, folder):
            raise RemoteDaemonError(
                f"{what} in a folder that the daemon sees as well, and {folder} is another one in its mount namespace: "
                f"give a folder both share, or run inside of it (nsenter --preserve-credentials -U -m -t {host.pid})"
            )


async def require_shared_fifos(services: Services, io: IOConfig) -> None:
    """Refuse FIFOs that this program has open and the shim does not see.

    Raises:
        InvalidArgumentError: This is no I/O at all.
        RemoteDaemonError: The daemon is on another machine, or in a mount namespace with other files in their place.
    """
    check_io(io)
    if io.lent is not None:
        await require_same_host(services, "FIFOs work", paths=(io.stdin, io.stdout, io.stderr))


def check_io(io: IOConfig) -> None:
    """Refuse what is no I/O of a process.

    Raises:
        InvalidArgumentError: It is something else, such as the FIFOs themselves.
    """
    if not isinstance(io, IOConfig):
        raise InvalidArgumentError(
            f"io must be an IOConfig, such as NULL_IO or the `.config` of what open_fifos() lends, not {io!r}"
        )


async def is_same_host(services: Services) -> bool:
    """Return whether the daemon's files are ours, as far as there is telling."""
    return not (await _host(services)).objection


async def _host(services: Services) -> Host:
    connection = services.connection
    host = connection.host
    if not isinstance(host, Host):
        host = connection.host = await _look(services)
    return host


async def _look(services: Services) -> Host:
    server = await services.introspection.server()
    root = services.connection.daemon_root
    pid = server.pid if server.pidns == os.stat("/proc/self/ns/pid").st_ino else None  # noqa: PTH116
    objection = await to_thread.run_sync(_objection, root, server.uuid) if root else ""
    return Host(objection=objection, pid=pid)


def _objection(root: str, uuid: str) -> str:
    try:
        with (Path(root) / _UUID_FILE).open("rb") as file:
            found = file.read(_UUID_LENGTH).decode(errors="replace")
    except PermissionError:
        return ""
    except OSError:
        return f"its {root} is not to be seen here; this socket leads to another machine, or into a container"
    return "" if found == uuid else f"what is in {root} here belongs to another containerd"


def _is_shared(pid: int, folder: str) -> bool:
    try:
        theirs = os.stat(f"/proc/{pid}/root{folder}")  # noqa: PTH116  # follows the daemon's links, as it would
    except FileNotFoundError:
        return not Path(f"/proc/{pid}").exists()  # another daemon by now
    except OSError:
        return True  # no telling
    try:
        return os.path.samestat(theirs, os.stat(folder))  # noqa: PTH116
    except OSError:
        return False  # only the daemon has it
