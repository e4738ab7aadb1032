"""FIFO folders of programs that were killed. Knows the daemon's tasks and this machine's files."""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import timedelta
from functools import partial
from posixpath import basename, dirname
from typing import Final

import anyio

from containerd_py._completion import run_to_completion
from containerd_py._flows.same_host import is_same_host, require_same_host
from containerd_py.cio.fifo_orphans import LeftFolder, find_left_folders, remove_left_folder
from containerd_py.errors import FailedPreconditionError, PermissionDeniedError
from containerd_py.services.bundle import Services

_PATIENCE: Final = 2.0  # seconds for shims that are told to end, with FIFOs still open
_PAUSE: Final = 0.05
_LONG_AGO: Final = timedelta(minutes=1)  # as in Client.cleanup_fifos


async def cleanup_fifos(
    services: Services, directory: str | os.PathLike[str] | None, *, older_than: timedelta, dry_run: bool
) -> list[str]:
    """Remove the FIFO folders that nobody uses; see `Client.cleanup_fifos`."""
    await require_same_host(services, "FIFOs of tasks are looked after")
    find = partial(find_left_folders, directory, older_than=older_than.total_seconds())
    left = await run_to_completion(find)
    if dry_run:
        return [folder.path for folder in await _unused(services, left)]
    return await _remove_unused(services, left)


async def remove_fifos(services: Services, folders: AbstractSet[str]) -> None:
    """Remove these folders with FIFOs, and those in the default directory, that nobody uses.

    `folders` are those of tasks that were deleted; for others it must be some time ago that anybody touched them. Where
    that is not for this program to tell, they stay: beside another machine's daemon, or among shims of other users.
    """
    if not await is_same_host(services):
        return
    with suppress(PermissionDeniedError):
        with anyio.move_on_after(_PATIENCE):
            are_gone = await _are_removed(services, folders)
            while not are_gone:
                await anyio.sleep(_PAUSE)
                are_gone = await _are_removed(services, folders)
        with suppress(FailedPreconditionError):  # there is no default directory
            await cleanup_fifos(services, None, older_than=_LONG_AGO, dry_run=False)


async def _are_removed(services: Services, folders: AbstractSet[str]) -> bool:
    for directory in {dirname(folder) for folder in folders}:
        found = await run_to_completion(partial(find_left_folders, directory, older_than=0))
        await _remove_unused(services, [folder for folder in found if folder.path in folders])
    return await run_to_completion(lambda: not any(map(os.path.lexists, folders)))


async def _remove_unused(services: Services, left: list[LeftFolder]) -> list[str]:
    unused = await _unused(services, left)
    return [folder.path for folder in unused if await run_to_completion(partial(remove_left_folder, folder))]


async def _unused(services: Services, left: list[LeftFolder]) -> list[LeftFolder]:
    # Asked after the look at who has what open: a task created in between has its FIFOs open, or is known by now.
    known = await _folders_of_tasks(services) if left else set()
    return [folder for folder in left if basename(folder.path) not in known]


async def _folders_of_tasks(services: Services) -> set[str]:
    """Return the names of the folders that tasks of any namespace have FIFOs in, those that ended included."""
    found = set()
    for namespace in await services.namespaces.list():
        for task in await services.in_scope(namespace=namespace.name).tasks.list():
            found |= {basename(dirname(path)) for path in (task.stdin, task.stdout, task.stderr)}
    return found
