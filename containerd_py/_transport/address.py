"""Which socket to talk to, and what to tell when that does not work. Knows the file system; opens no connection."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from containerd_py.errors import (
    DaemonConnectError,
    DaemonNotListeningError,
    InvalidArgumentError,
    SocketNotFoundError,
    SocketPermissionError,
)

DEFAULT_ADDRESS: Final = "/run/containerd/containerd.sock"
DOCKER_ADDRESSES: Final = ("/run/docker/containerd/containerd.sock", "/var/run/docker/containerd/containerd.sock")
MAX_SOCKET_PATH: Final = 107  # bytes: sockaddr_un of Linux, less its terminating zero


def resolve_address(address: str | os.PathLike[str] | None) -> str:
    """Return the absolute path of the daemon's socket.

    Order: the argument, `$CONTAINERD_ADDRESS`, a rootless daemon's socket if this user has one, the system's default.

    Raises:
        InvalidArgumentError: The address is not a unix socket's path, or too long for one.
    """
    if address is None:
        address = os.environ.get("CONTAINERD_ADDRESS") or next(_existing_rootless(), DEFAULT_ADDRESS)
    text = os.fspath(address)
    path = text.removeprefix("unix://")
    if not path or "://" in path or "\0" in path:
        raise InvalidArgumentError(
            f"{text!r} is no containerd address: give a unix socket as /path/to/containerd.sock or unix:///path"
        )
    path = str(Path(path).absolute())
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise InvalidArgumentError(
            f"the socket path {path!r} is longer than the {MAX_SOCKET_PATH} bytes Linux allows: use a shorter one"
        )
    return path


def _existing_rootless() -> Iterator[str]:
    if os.geteuid() == 0:  # inside rootlesskit's child we are root, and its /run/containerd is the rootless one
        return
    runtime_dir = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")
    state_dir = Path(os.environ.get("ROOTLESSKIT_STATE_DIR") or runtime_dir / "containerd-rootless")
    candidates = [runtime_dir / "containerd" / "containerd.sock"]
    try:
        child = (state_dir / "child_pid").read_text().strip()
    except OSError:
        child = ""
    if child.isdigit():
        candidates.append(Path(f"/proc/{child}/root{DEFAULT_ADDRESS}"))
    for candidate in candidates:
        if os.access(candidate, os.R_OK | os.W_OK):
            yield str(candidate)


def explain(error: OSError, address: str) -> DaemonConnectError:
    """Turn what connecting to the socket raised into the error that says what to do."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return SocketNotFoundError(
                f"there is no containerd socket at {address}: start containerd, or give its address "
                f"(argument or $CONTAINERD_ADDRESS){_docker_hint(address)}",
                address=address,
            )
        case PermissionError():
            return SocketPermissionError(
                f"user {os.geteuid()} (groups {_groups()}) may not use the containerd socket {address}"
                f"{_mode(address)}: run as root, join the socket's group, or use a rootless containerd",
                address=address,
            )
        case ConnectionRefusedError():
            remedy = (
                "containerd has stopped or crashed; start it again"
                if _is_socket(address)
                else "it is not a socket; give containerd's address (argument or $CONTAINERD_ADDRESS)"
            )
            return DaemonNotListeningError(f"nobody listens on {address}: {remedy}", address=address)
        case _:
            return DaemonConnectError(f"cannot connect to containerd at {address}: {error}", address=address)


def _docker_hint(address: str) -> str:
    for other in DOCKER_ADDRESSES:
        if other != address and os.access(other, os.R_OK | os.W_OK):
            return f"; Docker's own containerd is at {other} (namespace 'moby'), to be used with address={other!r}"
    return ""


def _groups() -> str:
    return ", ".join(str(group) for group in sorted({os.getegid(), *os.getgroups()}))


def _mode(address: str) -> str:
    try:
        found = Path(address).stat()
    except OSError:
        return ""
    return f" (mode {stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid}:{found.st_gid})"


def _is_socket(address: str) -> bool:
    try:
        return stat.S_ISSOCK(Path(address).stat().st_mode)
    except OSError:
        return True  # gone by now: it was one when we connected
