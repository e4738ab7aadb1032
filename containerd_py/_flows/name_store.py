"""Names of containers, each held by one container of a namespace, whoever made it. Files as nerdctl keeps them.

A name's file has its holder's ID. It is only there to be raced for: what a container is called, its label says.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Final

from anyio import to_thread

from containerd_py._flows.directory_locks import DirectoryLock, locked_directory, try_lock
from containerd_py._flows.state_directory import OWN_MARK, StateDirectory, exists, remove_state_directory
from containerd_py._flows.undoing import settled
from containerd_py._transport.scope import check_identifier
from containerd_py._whole_files import write_whole
from containerd_py.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from containerd_py.labels import NERDCTL_NAME
from containerd_py.services.bundle import Services

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,75}", re.ASCII)  # nerdctl, pkg/identifiers
_MAX_ID: Final = 256  # bytes of a name's file that are looked at
_GRACE: Final = 60.0  # seconds that nerdctl may take between a name and the container


def check_name(name: str, what: str) -> str:
    """Return the name if it can be one of `what`.

    Raises:
        InvalidArgumentError: It is not 2 to 76 letters, digits, `_`, `.` and `-`, the first a letter or digit.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"{name!r} cannot be the name of a {what}: use 2 to 76 letters, digits, '_', '.' and '-', "
            "beginning with a letter or digit"
        )
    return name


async def acquire_name(services: Services, state: StateDirectory, name: str) -> None:
    """Take a name for a container that is being made, also from one that does not exist any more.

    Raises:
        AlreadyExistsError: Another container has it, or is being made with it.
    """
    async with locked_directory(state.names, below=_data_root(state)):
        holder = await to_thread.run_sync(_read, state, name)
        if holder not in ("", state.container_id) and await _is_alive(services, state, name, holder):
            raise AlreadyExistsError(
                f"the name {name!r} belongs to container {holder}: delete that one first, or take another name"
            )
        path, data = f"{state.names}/{name}", state.container_id.encode()
        await settled(lambda: to_thread.run_sync(write_whole, path, data))


async def release_name(state: StateDirectory, name: str) -> None:
    """Give a container's name back. That it has gone already, or is another's by now, is fine.

    Raises:
        OSError: This user may not do it.
    """
    async with locked_directory(state.names, below=_data_root(state)):
        await to_thread.run_sync(_remove, state, name)


async def holder_of_name(services: Services, name: str) -> str:
    """Return the ID of the container that is called so.

    Raises:
        NotFoundError: There is none.
    """
    check_name(name, "container")
    found = await services.containers.list([f'labels."{NERDCTL_NAME}"=="{name}"'])
    if not found:
        raise NotFoundError(f"there is no container of the name {name!r} in namespace {services.namespace}")
    return found[0].id


def _data_root(state: StateDirectory) -> str:
    return str(Path(state.store).parent)


def _read(state: StateDirectory, name: str) -> str:
    try:
        with Path(state.names, name).open("rb") as file:
            return file.read(_MAX_ID).decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def _remove(state: StateDirectory, name: str) -> None:
    if _read(state, name) == state.container_id:
        Path(state.names, name).unlink(missing_ok=True)


async def _is_alive(services: Services, state: StateDirectory, name: str, holder: str) -> bool:
    """Tell whether a name's holder exists or is on its way; what a killed maker has left of it is removed."""
    try:
        check_identifier(holder, "container ID")
    except InvalidArgumentError:
        return False  # no container can have that ID
    if await exists(services, holder):
        return True
    leftover = StateDirectory(store=state.store, namespace=state.namespace, container_id=holder)
    lock = DirectoryLock(leftover.path)
    try:
        if not await try_lock(lock):
            return await to_thread.run_sync(os.path.lexists, leftover.path)  # held: it is being made
        if await exists(services, holder):  # its maker has finished meanwhile
            return True
        if not await to_thread.run_sync(Path(leftover.path, OWN_MARK).exists):
            return await to_thread.run_sync(_is_fresh, f"{state.names}/{name}")  # nerdctl holds no lock meanwhile
        await remove_state_directory(leftover)
        return False
    finally:
        lock.release()


def _is_fresh(path: str) -> bool:
    return time.time() - os.stat(path).st_mtime < _GRACE  # noqa: PTH116
