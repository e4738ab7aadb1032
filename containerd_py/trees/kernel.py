"""Linux calls that Python does not have, typed. Knows numbers and structures; decides nothing. They block.

Source: the kernel's uapi headers linux/openat2.h, linux/mount.h, linux/sched.h. The numbers of calls that came after
5.0 are the same on every architecture Python runs on.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_NOATIME: Final = 1024
MS_NODIRATIME: Final = 2048
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MS_RELATIME: Final = 1 << 21

CLONE_NEWNS: Final = 0x00020000

_OPEN_TREE: Final = 428
_MOVE_MOUNT: Final = 429
_OPENAT2: Final = 437
_MOUNT_SETATTR: Final = 442
_OPEN_TREE_CLONE: Final = 1
_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_MOVE_EMPTY_PATH: Final = 4
_AT_RECURSIVE: Final = 0x8000
_MOUNT_ATTR_IDMAP: Final = 0x00100000
_TRIES: Final = 256  # of a path walk while somebody renames directories on the way: the kernel gives up each time

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    """Open a path below a directory and return the descriptor, closed on exec.

    Raises:
        OSError: As open(2) does; EXDEV where the path leads out and that is not allowed, ELOOP where it leads over a
            link that is not, ENOSYS before Linux 5.6.
    """
    how = _OpenHow(flags=flags | os.O_CLOEXEC, mode=0, resolve=resolve)
    name = os.fsencode(path)
    for _ in range(_TRIES):
        opened = _libc.syscall(
            ctypes.c_long(_OPENAT2), ctypes.c_int(directory), name, ctypes.byref(how), ctypes.c_size_t(24)
        )
        if opened >= 0:
            return int(opened)
        if ctypes.get_errno() not in {errno.EAGAIN, errno.EINTR}:
            break
    raise _error(path)


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own."""
    if _libc.unshare(ctypes.c_int(flags)):
        raise _error("")


def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    """Mount in the calling thread's mount namespace."""
    arguments = [os.fsencode(text) if text else None for text in (source, target, kind)]
    if _libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(data) if data else None):
        raise _error(target)


def clone_tree(path: str) -> int:
    """Return a descriptor of a copy of what is mounted at and below a path, in no namespace; it goes when closed."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE
    opened = _libc.syscall(ctypes.c_long(_OPEN_TREE), ctypes.c_int(_AT_FDCWD), os.fsencode(path), ctypes.c_uint(flags))
    if opened < 0:
        raise _error(path)
    return int(opened)


def move_mount(tree: int, target: str) -> None:
    """Mount a mount of `clone_tree` at a path, in the calling thread's mount namespace."""
    failed = _libc.syscall(
        ctypes.c_long(_MOVE_MOUNT),
        ctypes.c_int(tree),
        b"",
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(target),
        ctypes.c_uint(_MOVE_EMPTY_PATH),
    )
    if failed:
        raise _error(target)


def map_ids(tree: int, user_namespace: int) -> None:
    """Have a mount of `clone_tree` show its files' owners through the ID maps of a user namespace (from 5.12 on)."""
    wanted = _MountAttributes(attr_set=_MOUNT_ATTR_IDMAP, attr_clr=0, propagation=0, userns_fd=user_namespace)
    failed = _libc.syscall(
        ctypes.c_long(_MOUNT_SETATTR),
        ctypes.c_int(tree),
        b"",
        ctypes.c_uint(_AT_EMPTY_PATH),
        ctypes.byref(wanted),
        ctypes.c_size_t(ctypes.sizeof(wanted)),
    )
    if failed:
        raise _error("")


def file_system_kind(descriptor: int) -> int:
    """Return the magic number of the file system that a descriptor's file is on."""
    answer = (ctypes.c_long * 32)()  # struct statfs has 120 bytes; its first member is the number
    if _libc.fstatfs(ctypes.c_int(descriptor), ctypes.byref(answer)):
        raise _error("")
    return int(answer[0]) & 0xFFFFFFFF


def _error(path: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path or None)
