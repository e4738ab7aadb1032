"""Who a process runs as: a user looked up in the container's own file system, through its snapshot's mounts."""

from __future__ import annotations

from collections.abc import Sequence

from anyio import to_thread

from containerd_py.oci.rootfs import open_rootfs
from containerd_py.oci.users import User, resolve_user
from containerd_py.types import Mount


async def look_up_user(user: str, mounts: Sequence[Mount]) -> User:
    """Resolve `user`, `user:group`, `uid` or `uid:gid` in the mounts' /etc/passwd and /etc/group; empty means root.

    Raises:
        InvalidArgumentError: The user is unknown there, or no user at all.
    """

    def resolve() -> User:
        with open_rootfs(mounts) as rootfs:
            return resolve_user(user, rootfs)

    return await to_thread.run_sync(resolve)
