"""Network namespaces kept by a mount: made, entered, removed. Knows Linux; knows no plugin and no container.

Blocking calls, for worker threads; what changes a thread's namespace does it in a thread of its own, which ends then.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

from containerd_py.errors import FailedPreconditionError, NotFoundError, PermissionDeniedError

_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 4096
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_NS_GET_NSTYPE: Final = 0xB703
_FOLDER_MODE: Final = 0o711  # a runtime in a user namespace must pass through, nobody needs to list
_MOUNTS_AT_MOST: Final = 16  # stacked on one path by repeated, interrupted attempts

T = TypeVar("T")


def make_netns(path: Path) -> None:
    """Make a network namespace with its loopback up, and keep it by a mount at the path.

    Raises:
        PermissionDeniedError: This user may not.
        FileExistsError: There is something at the path.
    """
    _make_place(path)
    try:
        _in_own_thread(lambda: _make_here(path))
    except BaseException:
        remove_netns(path)
        raise


def keep_netns(path: Path, pid: int) -> None:
    """Keep the network namespace that a process is in, by a mount at the path.

    Raises:
        NotFoundError: The process has ended.
        PermissionDeniedError: This user may not.
        FileExistsError: There is something at the path.
    """
    _make_place(path)
    try:
        _mount(f"/proc/{pid}/ns/net", path)
    except BaseException:
        remove_netns(path)
        raise


def remove_netns(path: Path) -> None:
    """Let the namespace go; it ends with its last process. That there is none is fine."""
    for _ in range(_MOUNTS_AT_MOST):
        if _libc().umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW):
            number = ctypes.get_errno()
            if number not in {errno.EINVAL, errno.ENOENT}:
                raise _error(number, f"unmounting the network namespace {path}")
            break
    path.unlink(missing_ok=True)


def is_netns(path: Path) -> bool:
    """Tell whether there is a network namespace at the path."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if os.fstat(descriptor).st_dev != Path("/proc/self/ns/net").stat().st_dev:
            return False  # a file that waits for its mount
        return fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False
    finally:
        os.close(descriptor)


def in_netns(path: Path | None, function: Callable[[], T]) -> T:
    """Call the function in the network namespace at the path; None is the one we are in.

    Processes it starts and sockets it opens belong to that namespace.

    Raises:
        NotFoundError: There is no namespace at the path.
        PermissionDeniedError: This user may not enter it.
    """
    if path is None:
        return function()

    def enter() -> T:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no network namespace {path}") from error
        try:
            if _libc().setns(descriptor, _CLONE_NEWNET):
                raise _error(ctypes.get_errno(), f"entering the network namespace {path}")
        finally:
            os.close(descriptor)
        return function()

    return _in_own_thread(enter)


def _make_here(path: Path) -> None:
    if _libc().unshare(_CLONE_NEWNET):
        raise _error(ctypes.get_errno(), "making a network namespace")
    _raise_loopback()
    _mount("/proc/thread-self/ns/net", path)


def _make_place(path: Path) -> None:
    path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))


def _mount(namespace: str, path: Path) -> None:
    if _libc().mount(os.fsencode(namespace), os.fsencode(path), b"none", _MS_BIND, None):
        raise _error(ctypes.get_errno(), f"mounting the network namespace {path}")


def _raise_loopback() -> None:
    # What the loopback plugin does: a namespace that a runtime is given must be ready.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        request = struct.pack("16sh22x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


def _in_own_thread(function: Callable[[], T]) -> T:
    values: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            values.append(function())
        except Exception as error:  # noqa: BLE001  # carried over to the caller
            errors.append(error)

    thread = threading.Thread(target=run, name="netns", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors.pop()
    return values[0]


def _error(number: int, what: str) -> Exception:
    if number == errno.EPERM:
        return PermissionDeniedError(f"{what} needs CAP_SYS_ADMIN and CAP_NET_ADMIN: run as root")
    if number == errno.ENOENT:
        return NotFoundError(f"{what}: it has gone")
    if number == errno.EINVAL:
        return FailedPreconditionError(f"{what}: it is no network namespace")
    return OSError(number, f"{what}: {os.strerror(number)}")


@cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mount.argtypes = (
        ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p
    )  # fmt: skip
    return library
