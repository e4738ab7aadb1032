"""File trees to copy from and into: everything is found from a directory that nobody leads out of. Calls block.

A tree may belong to a stranger who changes it meanwhile. The kernel resolves each path in one go, below the root's
descriptor (openat2 with RESOLVE_IN_ROOT): links and ".." end at the root, whoever swaps what for what.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs

from containerd_py.oci.user_namespaces import HOST_IDS, UserNamespace
from containerd_py.trees.kernel import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

OPEN_PATH: Final = os.O_PATH | os.O_NOFOLLOW
_IN_ROOT: Final = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_BENEATH: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS


@attrs.frozen(kw_only=True)
class Root:
    """A directory's descriptor, which somebody else closes, and how the owners of files in it are numbered.

    `is_local` is True for this machine's own tree, which is trusted as a whole; what comes into it is not.
    """

    descriptor: int
    ids: UserNamespace = HOST_IDS
    is_local: bool = False

    def open(self, path: str, flags: int = OPEN_PATH) -> int:
        """Open a path as if the root were "/". Without O_PATH in `flags`, of what is known to be harmless only."""
        return openat2(self.descriptor, path or "/", flags, _IN_ROOT)

    @contextmanager
    def opened(self, path: str, flags: int = OPEN_PATH) -> Iterator[int]:
        """Lend a descriptor of a path."""
        descriptor = self.open(path, flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def status(self, path: str, *, follow: bool = True) -> os.stat_result | None:
        """Return what is at a path; None where nothing is."""
        try:
            with self.opened(path, os.O_PATH if follow else OPEN_PATH) as descriptor:
                return os.fstat(descriptor)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR}:
                return None
            raise

    def link_target(self, path: str) -> str | None:
        """Return where the link at a path points; None where no link is."""
        with self.opened(path) as descriptor:
            return os.readlink("", dir_fd=descriptor) if stat.S_ISLNK(os.fstat(descriptor).st_mode) else None


@attrs.frozen(kw_only=True)
class Destination:
    """A directory in a tree, which members of an archive go into. Somebody else closes its descriptor.

    In a container, links of the container lead on, inside its root. On this machine none does below the directory:
    who wrote what is there already may have been the same stranger.
    """

    root: Root
    path: str
    descriptor: int

    def open_folder(self, inner: str) -> int:
        """Open a directory below it, by its path relative to it; "" is the directory itself."""
        flags = os.O_PATH | os.O_DIRECTORY
        if self.root.is_local:
            return openat2(self.descriptor, inner or ".", flags, _BENEATH)
        return self.root.open(f"{self.path}/{inner}", flags)


@contextmanager
def opened_destination(root: Root, path: str) -> Iterator[Destination]:
    """Lend a directory of a tree as a destination."""
    with root.opened(path, os.O_PATH | os.O_DIRECTORY) as descriptor:
        yield Destination(root=root, path=path, descriptor=descriptor)
