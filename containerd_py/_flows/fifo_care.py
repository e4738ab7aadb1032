"""FIFO folders of programs that were killed. Knows the daemon's tasks and this machine's files."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import partial
from posixpath import basename, dirname

from containerd_py._completion import run_to_completion
from containerd_py._flows.same_host import require_same_host
from containerd_py.cio.fifo_orphans import find_left_folders, remove_left_folder
from containerd_py.services.bundle import Services


async def cleanup_fifos(
    services: Services, directory: str | os.PathLike[str] | None, *, older_than: timedelta, dry_run: bool
) -> list[str]:
    """Remove the FIFO folders that nobody uses; see `Client.cleanup_fifos`."""
    await require_same_host(services, "FIFOs of tasks are looked after")
    find = partial(find_left_folders, directory, older_than=older_than.total_seconds())
    left = await run_to_completion(find)
    if not left:
        return []
    # Asked after the look at who has what open: a task created in between has its FIFOs open, or is known by now.
    known = await _folders_of_tasks(services)
    unused = [folder for folder in left if basename(folder.path) not in known]
    if dry_run:
        return [folder.path for folder in unused]
    return [folder.path for folder in unused if await run_to_completion(partial(remove_left_folder, folder))]


async def _folders_of_tasks(services: Services) -> set[str]:
    """Return the names of the folders that tasks of any namespace have FIFOs in, those that ended included."""
    found = set()
    for namespace in await services.namespaces.list():
        for task in await services.in_scope(namespace=namespace.name).tasks.list():
            found |= {basename(dirname(path)) for path in (task.stdin, task.stdout, task.stderr)}
    return found
