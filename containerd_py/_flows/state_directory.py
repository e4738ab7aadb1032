"""A container's own directory on the daemon's host: where it lies, made and held, found again, removed.

The layout is nerdctl's, so that each finds what the other has made: below a data root one store for each daemon, in it
containers/NAMESPACE/ID, etchosts/NAMESPACE/ID, names/NAMESPACE and volumes/NAMESPACE. Knows nothing of what is in them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
from anyio import to_thread

from containerd_py._flows.attach_networks import release_networks
from containerd_py._flows.directories import remove_directory
from containerd_py._flows.directory_locks import DirectoryLock, make_private_directory, try_lock
from containerd_py._flows.undoing import CONTAINER_BOUND, note_failures, settled, tidy
from containerd_py._transport.connection import Connection
from containerd_py.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError
from containerd_py.labels import NERDCTL_STATE_DIR
from containerd_py.services.bundle import Services

DATA_ROOT_VARIABLE: Final = "CONTAINERD_PY_DATA_ROOT"
_DATA_ROOT: Final = "/var/lib/nerdctl"  # nerdctl, pkg/defaults
_HASH_LENGTH: Final = 8  # hexadecimal digits of the socket's path's SHA-256 (nerdctl, pkg/clientutil)
_OTHER_ROOT: Final = re.compile(r"/proc/[0-9]+/root(?=/)", re.ASCII)
OWN_MARK: Final = ".containerd-py"  # in directories we have made: what is half made in them is ours to remove


@attrs.frozen(kw_only=True)
class StateDirectory:
    """Where the things of one container lie."""

    store: str
    namespace: str
    container_id: str

    @property
    def path(self) -> str:
        """Its own directory."""
        return f"{self.store}/containers/{self.namespace}/{self.container_id}"

    @property
    def hosts(self) -> str:
        """The directory of its hosts file."""
        return f"{self.store}/etchosts/{self.namespace}/{self.container_id}"

    @property
    def names(self) -> str:
        """The directory of all names of its namespace."""
        return f"{self.store}/names/{self.namespace}"

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels by which it is found again."""
        return {NERDCTL_STATE_DIR: self.path}


def default_data_root() -> str:
    """Return where nerdctl has its data: `$CONTAINERD_PY_DATA_ROOT` of this program, else as nerdctl decides."""
    if given := os.environ.get(DATA_ROOT_VARIABLE):
        return given
    if os.geteuid() == 0 and "ROOTLESSKIT_STATE_DIR" not in os.environ:
        return _DATA_ROOT
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")  # noqa: PTH111  # a string
    return f"{home}/nerdctl"


def data_store(connection: Connection) -> str:
    """Return the path of the store of a connection's daemon. Blocks for a moment; makes nothing.

    A daemon has one store whatever link its socket was found through, also from outside of its rootless namespaces.
    """
    root = connection.data_root or default_data_root()
    socket = _OTHER_ROOT.sub("", connection.address)
    if socket == connection.address:
        socket = os.path.realpath(socket)  # a link of the other root must not be followed in this one
    digest = hashlib.sha256(os.fsencode(socket)).hexdigest()
    return f"{os.path.abspath(root)}/{digest[:_HASH_LENGTH]}"  # noqa: PTH100


async def state_directory(services: Services, container_id: str) -> StateDirectory:
    """Return where a new container's things belong; make nothing."""
    store = await to_thread.run_sync(data_store, services.connection)
    return StateDirectory(store=store, namespace=services.namespace, container_id=container_id)


def recorded_state_directory(namespace: str, container_id: str, labels: Mapping[str, str]) -> StateDirectory | None:
    """Return where an existing container's things are, by its labels; None where it has none.

    A label that names anything but this container's directory is not believed: what it names is going to be removed.
    """
    path = labels.get(NERDCTL_STATE_DIR, "")
    store = path.removesuffix(f"/containers/{namespace}/{container_id}")
    if store == path or not store.startswith("/") or os.path.normpath(store) != store or "\0" in store:
        return None
    return StateDirectory(store=store, namespace=namespace, container_id=container_id)


@asynccontextmanager
async def holding_state_directory(services: Services, container_id: str) -> AsyncIterator[StateDirectory]:
    """Make a new container's directory and hold it for the block that makes its record; gone again if that fails.

    While it is held nobody takes it for one whose maker was killed. Such a leftover is emptied and taken over.

    Raises:
        AlreadyExistsError: The container exists, or another program is making it.
        PermissionDeniedError: It may not be made here.
    """
    state = await state_directory(services, container_id)
    lock = DirectoryLock(state.path)
    try:
        await settled(lambda: _take(services, state, lock))
        yield state
    except BaseException as error:
        if lock.is_held:
            try:
                await tidy(f"removing {state.path}", lambda: remove_state_directory(state), bound=CONTAINER_BOUND)
            except Exception as failure:  # noqa: BLE001  # what ended the block matters more
                note_failures([failure], error)
        raise
    finally:
        lock.release()


async def _take(services: Services, state: StateDirectory, lock: DirectoryLock) -> None:
    is_new = await to_thread.run_sync(_make_and_lock, state, lock)
    if is_new is None:
        raise AlreadyExistsError(f"container {state.container_id} is being made by another program")
    if is_new:
        return
    if await exists(services, state.container_id):
        lock.release()
        raise AlreadyExistsError(f"container {state.container_id} exists already")
    await remove_state_directory(state)
    lock.release()
    await _take(services, state, lock)


def make_state_directory(state: StateDirectory) -> None:
    """Make the directory of a container that is there already. Blocks.

    Raises:
        PermissionDeniedError: It may not be made here.
    """
    make_private_directory(state.path, below=str(Path(state.store).parent))
    Path(state.path, OWN_MARK).touch(0o600)


def _make_and_lock(state: StateDirectory, lock: DirectoryLock) -> bool | None:
    """Make the directory and lock it; tell whether it is new, None where somebody else holds it."""
    for _ in range(100):  # whoever clears away leftovers may remove it before it is locked
        is_new = make_private_directory(state.path, below=str(Path(state.store).parent))
        if lock.try_take():
            if is_new:
                Path(state.path, OWN_MARK).touch(0o600)
            return is_new
        if Path(state.path).exists():
            return None
    raise FailedPreconditionError(f"{state.path} is removed by somebody as often as it is made")


async def remove_state_directory(state: StateDirectory) -> None:
    """Detach a container from its networks; remove its directory and that of its hosts file, where there are any.

    Raises:
        CNIError: It was attached to networks, and a plugin failed to detach it.
        FailedPreconditionError: Something is mounted there.
        OSError: This user may not remove them.
    """
    await release_networks(state.path, state.hosts)
    for path in (state.hosts, state.path):
        await remove_directory(path)


async def remove_leftover_directories(services: Services) -> list[str]:
    """Remove the directories of containers that were never finished or are gone; return the IDs, sorted.

    Only those that this package has made, and that nobody holds.
    """
    store = await to_thread.run_sync(data_store, services.connection)
    removed: list[str] = []
    for container_id in await to_thread.run_sync(_own_directories, f"{store}/containers/{services.namespace}"):
        state = StateDirectory(store=store, namespace=services.namespace, container_id=container_id)
        lock = DirectoryLock(state.path)
        try:
            if await try_lock(lock) and not await exists(services, container_id):
                await settled(lambda: remove_state_directory(state))  # noqa: B023  # called before the next round
                removed.append(container_id)
        finally:
            lock.release()
    return removed


def _own_directories(folder: str) -> list[str]:
    try:
        return sorted(path.name for path in Path(folder).iterdir() if (path / OWN_MARK).exists())
    except FileNotFoundError:
        return []


async def exists(services: Services, container_id: str) -> bool:
    """Tell whether the daemon has a container of an ID."""
    try:
        await services.containers.get(container_id)
    except NotFoundError:
        return False
    return True
