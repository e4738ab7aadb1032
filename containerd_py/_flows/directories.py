"""Removing directories of this machine that a container had for its own. Never anything that is mounted there."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from anyio import to_thread

from containerd_py._daemon.mountinfo import mount_points
from containerd_py.errors import FailedPreconditionError


async def remove_directory(path: str) -> None:
    """Remove a directory with everything in it; links are removed, not followed. That it has gone already is fine.

    Raises:
        FailedPreconditionError: Something is mounted on it or in it, which must not be removed with it.
        OSError: It is a link or a file, or this user may not remove it.
    """
    await to_thread.run_sync(_remove, path, abandon_on_cancel=True)


def _remove(path: str) -> None:
    if os.path.lexists(path):
        check_nothing_mounted(path)
        remove_tree(path)


def check_nothing_mounted(path: str) -> None:
    """Refuse to have a directory removed where this process sees something mounted. Blocks.

    Raises:
        FailedPreconditionError: Something is mounted on it or in it.
    """
    if mounted := _mounts_below(os.path.realpath(path)):
        raise FailedPreconditionError(f"{path} is not removed: {mounted[0]} is mounted there")


def remove_tree(path: str) -> None:
    """Remove a directory without looking at mounts. Blocks. That it goes meanwhile, or has gone, is fine.

    Raises:
        OSError: It is a link or a file, or this user may not remove it.
    """
    shutil.rmtree(path, onerror=_unless_gone)


def remove_if_empty(folder: Path) -> None:
    """Remove a directory that has nothing in it; leave any other. Blocks."""
    with suppress(OSError):
        folder.rmdir()


def _unless_gone(_function: object, _path: str, raised: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(raised[1], FileNotFoundError):  # somebody else removes it as well
        raise raised[1]


def _mounts_below(path: str) -> list[str]:
    return [place for place in mount_points() if place == path or place.startswith(f"{path}/")]
