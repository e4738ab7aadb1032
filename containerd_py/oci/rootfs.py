"""Read single files of a snapshot without mounting it. Knows bind and overlay mounts; writes nothing.

The files belong to a stranger's image. Every path is walked component by component from the layers' directories, links
are followed inside the root only, and nothing but regular files is opened: no link leads out, no FIFO blocks, no device
is touched (CVE-2026-47262). Calls block: await them in a thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs

from containerd_py.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from containerd_py.types import Mount

MAX_FILE_SIZE: Final = 10 * 1024 * 1024  # bytes; containerd's limit for passwd and group
MAX_SYMLINKS: Final = 40  # as Linux, path_resolution(7)
MAX_STEPS: Final = 256  # path components walked for one file; bounds what an image's links can cost
MAX_PATH_DEPTH: Final = 32

_OPEN_PATH: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DESCRIPTORS: Final = "/proc/self/fd"  # the way from an O_PATH descriptor to the very same file, whatever happens


@attrs.frozen(kw_only=True)
class RootFS:
    """The file tree of a snapshot: directories that lie over each other, the topmost first. Nothing to close."""

    layers: tuple[str, ...]
    attributes: str = "trusted.overlay."  # where overlayfs notes things; "user.overlay." in a user namespace

    def read_file(self, path: str, limit: int = MAX_FILE_SIZE) -> bytes:
        """Read a whole file of at most `limit` bytes. Blocks.

        Raises:
            NotFoundError: There is no such file.
            InvalidArgumentError: It is not a regular file, too large, or its links lead in circles.
            PermissionDeniedError: This user may not read the snapshot.
            FailedPreconditionError: The snapshot cannot be read without mounting it.
        """
        if not Path(_DESCRIPTORS).is_dir():
            raise FailedPreconditionError("reading a snapshot's files needs /proc")
        try:
            names = self._resolve(path)
            with ExitStack() as opened:
                return _read_regular(self._find(names, opened), path, limit)
        except FileNotFoundError as error:
            raise NotFoundError(f"rootfs: {path[:160]!a} does not exist") from error
        except PermissionError as error:
            raise PermissionDeniedError(
                f"rootfs: {path[:160]!a} cannot be read by user {os.geteuid()}: snapshots belong to the daemon's user"
            ) from error
        except OSError as error:
            kind = InvalidArgumentError if error.errno == errno.ENAMETOOLONG else FailedPreconditionError
            raise kind(f"rootfs: {path[:160]!a} cannot be read: {error.strerror}") from error

    def _resolve(self, path: str) -> list[str]:
        """Follow the links on the way to a file, inside the root only: the names that lead to it without any."""
        if "\0" in path:
            raise InvalidArgumentError("rootfs: a path holds a NUL character")
        pending = _components(path)
        names: list[str] = []
        links = steps = 0
        while pending:
            name = pending.pop(0)
            steps += 1
            if steps > MAX_STEPS or len(names) >= MAX_PATH_DEPTH:
                raise InvalidArgumentError(f"rootfs: {path[:160]!a} leads through too many directories")
            if name == "..":
                del names[-1:]  # the root is its own parent
            elif name != ".":
                names.append(name)
                target = self._link_target(names, leads_on=bool(pending))
                if target is not None:
                    links += 1
                    if links > MAX_SYMLINKS:
                        raise InvalidArgumentError(f"rootfs: {path[:160]!a} leads through more than 40 links")
                    names = [] if target.startswith("/") else names[:-1]
                    pending[:0] = _components(target)
        if not names:
            raise InvalidArgumentError(f"rootfs: {path[:160]!a} is a directory")
        return names

    def _link_target(self, names: Sequence[str], *, leads_on: bool) -> str | None:
        """Return where a link leads, or None for what is no link; what leads on must be a link or a directory."""
        with ExitStack() as opened:
            descriptor = self._find(names, opened)
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISLNK(mode):
                return os.readlink("", dir_fd=descriptor)
            if leads_on and not stat.S_ISDIR(mode):
                raise FileNotFoundError(errno.ENOTDIR, "not a directory", names[-1])
        return None

    def _find(self, names: Sequence[str], opened: ExitStack) -> int:
        """Open what lies topmost at this place, whose parents are directories and no links.

        Source: overlayfs, "whiteouts and opaque directories".
        """
        for layer in self.layers:
            found, hides_below = self._look_up(layer, names, opened)
            if found is not None:
                return found
            if hides_below:
                break
        raise FileNotFoundError(errno.ENOENT, "no such file", "/".join(names))

    def _look_up(self, layer: str, names: Sequence[str], opened: ExitStack) -> tuple[int | None, bool]:
        """Look for a path in one layer: what is there, and, if nothing, whether the layers below are hidden."""
        hides_below = False
        with ExitStack() as passing:
            current = _push(passing, _open_layer(layer))
            for depth, name in enumerate(names, start=1):
                try:
                    child = _push(passing, os.open(name, _OPEN_PATH, dir_fd=current))
                except FileNotFoundError:
                    return None, hides_below
                status = os.fstat(child)
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                    return None, True  # a whiteout
                if depth == len(names):
                    if stat.S_ISREG(status.st_mode):
                        self._refuse(child, "metacopy", names)
                    return _push(opened, os.dup(child)), True
                if not stat.S_ISDIR(status.st_mode):
                    return None, True  # lies under a directory of a layer above, and over those below
                self._refuse(child, "redirect", names)
                hides_below = hides_below or self._attribute(child, "opaque") == b"y"
                current = child
        return None, hides_below

    def _attribute(self, descriptor: int, name: str) -> bytes | None:
        """Return what overlayfs noted at a file or directory."""
        try:
            return os.getxattr(f"{_DESCRIPTORS}/{descriptor}", self.attributes + name)
        except OSError as error:
            if error.errno not in {errno.ENODATA, errno.ENOTSUP, errno.EPERM}:
                raise
        return None

    def _refuse(self, descriptor: int, name: str, names: Sequence[str]) -> None:
        # What is here was moved, or has its content elsewhere: only the kernel can put that together.
        if self._attribute(descriptor, name) is not None:
            path = "/".join(names)[:160]
            raise FailedPreconditionError(f"rootfs: {path!a} uses overlay {name}: it has to be mounted to be read")


def open_rootfs(mounts: Sequence[Mount]) -> RootFS:
    """Take a snapshot's mounts, as the daemon hands them out, for reading. Touches no disk.

    Raises:
        FailedPreconditionError: They are of a kind that has to be mounted to be read.
    """
    if not mounts:
        raise FailedPreconditionError("the snapshot has no mounts to read from")
    mount = mounts[-1]  # all are mounted on the same place: the last one is seen
    if mount.target:
        raise FailedPreconditionError(f"a snapshot mounted in parts ({mount.target[:160]!a}) cannot be read directly")
    match mount.type:
        case "bind" | "rbind":
            rootfs = RootFS(layers=(mount.source,))
        case "overlay":
            rootfs = _overlay(mount.options)
        case other:
            raise FailedPreconditionError(f"a snapshot of type {other[:64]!a} has to be mounted to be read")
    for layer in rootfs.layers:
        if not layer.startswith("/"):
            raise FailedPreconditionError(f"the snapshot's directory {layer[:160]!a} is no absolute path")
    return rootfs


def _overlay(options: Sequence[str]) -> RootFS:
    upper: list[str] = []
    lower: list[str] = []
    for option in options:
        name, _, value = option.partition("=")
        if name == "upperdir":
            upper = [value]
        elif name == "lowerdir":
            lower = value.split(":")
    prefix = "user.overlay." if "userxattr" in options else "trusted.overlay."
    return RootFS(layers=(*upper, *lower), attributes=prefix)


def _components(path: str) -> list[str]:
    # A slash at the end asks for a directory, as a dot does.
    return [name for name in path.split("/") if name] + (["."] if path.endswith("/") else [])


def _push(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _open_layer(layer: str) -> int:
    try:
        return os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        # Not to be taken for a missing file: who has no passwd file gets other groups.
        raise FailedPreconditionError(f"the snapshot's directory {layer[:160]!a} is not on this machine") from error


def _read_regular(descriptor: int, path: str, limit: int) -> bytes:
    """Read what an O_PATH descriptor stands for, once it is known to be a regular file: opening others has effects."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise InvalidArgumentError(f"rootfs: {path[:160]!a} is not a regular file")
    chunks: list[bytes] = []
    left = limit + 1
    with open(f"{_DESCRIPTORS}/{descriptor}", "rb", buffering=0) as file:  # noqa: PTH123  # no path, a descriptor
        while left > 0 and (chunk := file.read(min(left, status.st_size + 1))):
            chunks.append(chunk)
            left -= len(chunk)
    if left <= 0:
        raise InvalidArgumentError(f"rootfs: {path[:160]!a} is larger than {limit} bytes")
    return b"".join(chunks)
