"""What a container has mounted from this machine, mounted below its root as the runtime would. Calls block.

A spec's destinations are found inside of the root by the kernel, over the container's links and never out of it. Its
sources are the word of whoever made the container, as they are for the runtime.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeGuard

import attrs

from containerd_py.oci.runtime_spec import Spec
from containerd_py.trees.kernel import (
    MS_BIND,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
)
from containerd_py.trees.roots import Root

_KERNELS_OWN: Final = ("/dev", "/proc", "/sys")  # made anew for each container, or no files to copy
_BINDS: Final = ("bind", "rbind")
_MAPPED: Final = ("idmap", "ridmap")
_KEPT: Final = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME  # as statvfs(3) numbers them
_HARMLESS: Final = MS_NOSUID | MS_NODEV | MS_NOEXEC
_MODE: Final = 0o755  # of directories that runc makes for what is mounted
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@attrs.frozen(kw_only=True)
class Bind:
    """A directory or file of this machine, and where a container has it."""

    source: str
    destination: str
    read_only: bool = False

    @property
    def is_folder(self) -> bool | None:
        """Whether the source is a directory; None where it is neither that nor a file, or is not there."""
        try:
            mode = os.stat(self.source).st_mode  # noqa: PTH116  # text
        except OSError:
            return None
        return stat.S_ISDIR(mode) if stat.S_ISDIR(mode) or stat.S_ISREG(mode) else None


def binds_of(spec: Spec) -> list[Bind]:
    """Return what of this machine's a spec mounts in its container, in the order in which the runtime does.

    Without what the kernel makes up, without ID-mapped mounts, and without what is no mount at all: a spec may be
    anybody's.
    """
    entries: object = spec.get("mounts")
    found = [_bind_of(entry) for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return [bind for bind in found if bind is not None]


def _bind_of(entry: dict[str, object]) -> Bind | None:
    source, destination, options = entry.get("source"), entry.get("destination"), entry.get("options") or []
    if not _is_path(source) or not _is_path(destination) or not isinstance(options, list):
        return None
    place = "/" + posixpath.normpath(destination).lstrip("/")
    wanted = [entry.get("type"), *options]
    if not any(word in wanted for word in _BINDS) or any(word in wanted for word in _MAPPED):
        return None
    if entry.get("uidMappings") or entry.get("gidMappings") or _is_kernels_own(source) or _is_kernels_own(place):
        return None
    return Bind(source=source, destination=place, read_only="ro" in options)


def _is_path(value: object) -> TypeGuard[str]:
    with suppress(UnicodeError):
        return isinstance(value, str) and value.startswith("/") and b"\0" not in os.fsencode(value)
    return False


def _is_kernels_own(path: str) -> bool:
    place = posixpath.normpath(path)
    return place in {"/", "//"} or any(place == own or place.startswith(f"{own}/") for own in _KERNELS_OWN)


def make_skeleton(folder: str, binds: Iterable[Bind]) -> None:
    """Make the places where these are mounted in an empty directory of our own, which is to be an overlay's lowest."""
    for bind in binds:
        place = Path(folder + bind.destination)
        with suppress(OSError):  # a place that cannot be: nothing is mounted there
            (place if bind.is_folder else place.parent).mkdir(mode=_MODE, parents=True, exist_ok=True)
            if bind.is_folder is False:
                place.touch()


def mount_binds(folder: str, binds: Sequence[Bind], *, writable: bool, owner: tuple[int, int]) -> None:
    """Mount these in a tree that is mounted at `folder`; to be called in a mount namespace of our own.

    With `writable`, places that are not there are made, for `owner`, as the runtime makes them when the task starts.
    What has no source or no place is left out.
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        root = Root(descriptor=descriptor)
        for bind in binds:
            if (is_folder := bind.is_folder) is None:
                continue
            if writable:
                _make_place(root, bind.destination, owner, is_folder=is_folder)
            _mount(root, bind, is_folder=is_folder, read_only=bind.read_only or not writable)
    finally:
        os.close(descriptor)


def _make_place(root: Root, destination: str, owner: tuple[int, int], *, is_folder: bool) -> None:
    *above, last = destination.strip("/").split("/")
    folder = ""
    for name in above:
        _make(root, folder, name, owner, is_folder=True)
        folder = f"{folder}/{name}"
    _make(root, folder, last, owner, is_folder=is_folder)


def _make(root: Root, folder: str, name: str, owner: tuple[int, int], *, is_folder: bool) -> None:
    if root.status(f"{folder}/{name}", follow=False) is not None:
        return
    with suppress(FileNotFoundError, NotADirectoryError), root.opened(folder, os.O_PATH | os.O_DIRECTORY) as parent:
        if is_folder:
            os.mkdir(name, _MODE, dir_fd=parent)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, _MODE, dir_fd=parent))
        os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)


def _mount(root: Root, bind: Bind, *, is_folder: bool, read_only: bool) -> None:
    try:
        with root.opened(bind.destination, os.O_PATH) as place:
            if stat.S_ISDIR(os.fstat(place).st_mode) != is_folder:
                return
            mount(bind.source, f"/proc/self/fd/{place}", "", MS_BIND | MS_REC, "")
    except OSError as error:
        if error.errno in _ABSENT:
            return
        raise
    if read_only:
        with root.opened(bind.destination, os.O_PATH) as place:
            kept = os.fstatvfs(place).f_flag & _KEPT
            mount("none", f"/proc/self/fd/{place}", "", MS_BIND | MS_REMOUNT | MS_RDONLY | _HARMLESS | kept, "")
