"""Who a process runs as: a user looked up in the container's own file system, through its snapshot's mounts."""

from __future__ import annotations

from collections.abc import Sequence

from anyio import to_thread

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.rootfs import open_rootfs
from containerd_py.oci.users import User, resolve_groups, resolve_user
from containerd_py.types import Mount


async def look_up_user(user: str, mounts: Sequence[Mount]) -> User:
    """Resolve `user`, `user:group`, `uid` or `uid:gid` in the mounts' /etc/passwd and /etc/group; empty means root.

    Raises:
        InvalidArgumentError: It is no user, or a number out of range.
        NotFoundError: There is no such user or group.
    """
    return await to_thread.run_sync(lambda: resolve_user(user, open_rootfs(mounts)))


async def look_up_groups(groups: Sequence[str], mounts: Sequence[Mount]) -> Sequence[int]:
    """Resolve names and numbers of groups in the mounts' /etc/group.

    Raises:
        InvalidArgumentError: One is a number out of range.
        NotFoundError: There is no such group.
    """
    if isinstance(groups, str):
        raise InvalidArgumentError(f"groups must be a list of names, not the string {groups!a}")
    return await to_thread.run_sync(lambda: resolve_groups(groups, open_rootfs(mounts)))
