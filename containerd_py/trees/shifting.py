"""Giving all files of a tree to those whom a user namespace makes of their owners. Calls block.

What changing an owner takes away is given back: set-ID bits, and capabilities, which then hold in the namespace alone.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Generator
from contextlib import closing, suppress
from typing import Final

from containerd_py.oci.user_namespaces import UserNamespace
from containerd_py.trees.entries import CAPABILITY
from containerd_py.trees.failures import shown, typed_errors
from containerd_py.trees.walking import Found, walk

_AT_ONCE: Final = 500  # files between two looks at whether somebody wants to stop
_SET_IDS: Final = stat.S_ISUID | stat.S_ISGID
_REVISIONS: Final = 0xFF000000  # linux/capability.h, VFS_CAP_REVISION_MASK
_REVISION_2: Final = 0x02000000  # capabilities for whom the machine's root is root
_REVISION_3: Final = 0x03000000  # and with the ID of whose root it is


def shift_owners(root: int, ids: UserNamespace) -> Generator[None, None, None]:
    """Change the owners of a directory, given by its descriptor, and of all below it; yields now and then.

    Nobody changes the tree meanwhile. A file with several names is given away once, or, by overlayfs, becomes several.

    Raises:
        InvalidArgumentError: A file belongs to somebody the namespace has not.
        FailedPreconditionError: The file system does not allow it.
    """
    shifted: dict[tuple[int, int], tuple[int, int]] = {}
    with typed_errors("giving a snapshot's files away"):
        _shift(root, os.fstat(root), ids)
    with closing(walk(root)) as below:
        for count, found in enumerate(below):
            if not count % _AT_ONCE:
                yield
            with typed_errors(f"giving {shown(found.path)} away"):
                _shift_once(found, ids, shifted)


def _shift_once(found: Found, ids: UserNamespace, shifted: dict[tuple[int, int], tuple[int, int]]) -> None:
    """Give a file away unless that was done under another of its names.

    overlayfs copies a file of a lower layer under the one name it is changed by: the others stay as they were, and show
    the same number.
    """
    owner = (found.status.st_uid, found.status.st_gid)
    identity = (found.status.st_dev, found.status.st_ino)
    if shifted.get(identity) == owner:
        return
    _shift(found.descriptor, found.status, ids)
    if not found.is_directory and found.status.st_nlink > 1:
        now = os.fstat(found.descriptor)
        shifted[identity] = shifted[now.st_dev, now.st_ino] = ids.to_host(*owner)


def _shift(handle: int, status: os.stat_result, ids: UserNamespace) -> None:
    place = f"/proc/self/fd/{handle}"  # a link's own, too: it is no path that is resolved
    is_file = stat.S_ISREG(status.st_mode)
    capability = None
    if is_file:
        with suppress(OSError):  # there are none
            capability = os.getxattr(place, CAPABILITY)
    os.chown(place, *ids.to_host(status.st_uid, status.st_gid))
    if is_file and status.st_mode & _SET_IDS:
        os.chmod(place, stat.S_IMODE(status.st_mode))  # noqa: PTH101
    if capability is not None:
        os.setxattr(place, CAPABILITY, _in_namespace(capability, ids))


def _in_namespace(capability: bytes, ids: UserNamespace) -> bytes:
    """Return capabilities as those of files of a namespace whose root is not the machine's."""
    (magic,) = struct.unpack("<I", capability[:4])
    if magic & _REVISIONS != _REVISION_2:
        return capability
    return (
        struct.pack("<I", _REVISION_3 | magic & ~_REVISIONS)
        + capability[4:20]
        + struct.pack("<I", ids.to_host(0, 0)[0])
    )
