"""Trees to copy, and containers to copy them into and out of."""

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from containerd_py import Client, Container, Image, Task, deleting

OLD = 981_173_106_123_456_789  # nanoseconds since 1970: 2001
IDLE = ["/bin/sh", "-c", "trap exit TERM; while :; do sleep 1 & wait $!; done"]


@asynccontextmanager
async def resting(client: Client, image: Image, **options) -> AsyncIterator[Container]:
    """Lend a container without a task."""
    async with deleting(await client.create_container(image=image, **options)) as container:
        yield container


@asynccontextmanager
async def running(client: Client, image: Image, **options) -> AsyncIterator[tuple[Container, Task]]:
    """Lend a container whose task runs."""
    args = options.pop("args", IDLE)
    async with (
        resting(client, image, args=args, **options) as container,
        deleting(await container.create_task()) as task,
    ):
        await task.start()
        yield container, task


def make_tree(folder: Path) -> Path:
    """Make one of everything: links of both kinds, a hole, odd names, modes, owners and times."""
    tree = folder / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "plain").write_bytes(b"plain\n" * 1000)
    (tree / "empty").touch()
    (tree / "script").write_text("#!/bin/sh\n")
    (tree / "script").chmod(0o4755)
    os.link(tree / "plain", tree / "deep" / "again")
    (tree / "deep" / "link").symlink_to("../plain")
    (tree / "absolute").symlink_to("/etc/passwd")
    (tree / "dangling").symlink_to("nowhere")
    with (tree / "holes").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"in the middle")
        file.truncate(16 << 20)
    (tree / "name with\nnewline, \xfc and \udcff").write_text("odd")
    (tree / ("long" * 60)).write_text("long")
    (tree / "deep" / "er" / "closed").write_text("closed")
    os.setxattr(tree / "plain", "user.note", b"kept\0")
    os.mkfifo(tree / "fifo", 0o600)
    (tree / "deep" / "er").chmod(0o555)
    os.chown(tree / "script", 12, 34)
    for path in sorted(tree.rglob("*"), reverse=True):
        os.utime(path, ns=(OLD, OLD), follow_symlinks=False)
    os.utime(tree, ns=(OLD, OLD))
    return tree


def described(tree: Path, *, owners: bool = True, set_ids: bool = True) -> dict[str, tuple[object, ...]]:
    """Say all that a copy keeps, by path; files that are one by the first name of theirs."""
    first: dict[tuple[int, int], str] = {}
    found = {}
    for path in sorted([tree, *tree.rglob("*")]):
        status = path.lstat()
        name = str(path.relative_to(tree))
        mode = status.st_mode if set_ids else status.st_mode & ~0o6000
        content: object = None
        if stat.S_ISREG(status.st_mode):
            identity = (status.st_dev, status.st_ino)
            content = (path.read_bytes(), first.setdefault(identity, name), status.st_blocks * 512 < status.st_size)
        elif stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
        attributes = sorted(os.listxattr(path, follow_symlinks=False)) if stat.S_ISREG(status.st_mode) else []
        owner = (status.st_uid, status.st_gid) if owners else None
        found[name] = (mode, owner, status.st_mtime_ns, content, attributes)
    return found
