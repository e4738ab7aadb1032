"""The volumes of containers: made with them, filled from their image, told by whom they are used, removed with them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from anyio.lowlevel import checkpoint_if_cancelled

from containerd_py._completion import run_to_completion
from containerd_py._flows.specs import spec_of
from containerd_py._flows.undoing import Undo
from containerd_py._flows.volume_mounts import MountedVolume, VolumeMount, own_volumes, volumes_in_labels
from containerd_py._flows.volume_store import (
    ANONYMOUS,
    Volume,
    VolumeStore,
    locked_volumes,
    random_volume_name,
    volume_store,
)
from containerd_py.errors import FailedPreconditionError, NotFoundError
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord
from containerd_py.trees.failures import typed_errors
from containerd_py.trees.packing import Packer, PackOptions
from containerd_py.trees.places import CONTENT
from containerd_py.trees.private_mounts import open_mounted
from containerd_py.trees.roots import Root, opened_destination
from containerd_py.trees.unpacking import Unpacker, UnpackOptions
from containerd_py.types import Mount

_RANDOM_NAME: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)  # what nerdctl makes for images bears no label


@asynccontextmanager
async def holding_volumes(services: Services) -> AsyncIterator[VolumeStore]:
    """Hold the lock of the namespace's volumes until a container's record says which it uses, as nerdctl does.

    Raises:
        PermissionDeniedError: Volumes may not be made here.
    """
    store = await volume_store(services)
    async with locked_volumes(store):
        yield store


async def make_volumes(store: VolumeStore, undo: Undo, wishes: Iterable[VolumeMount]) -> list[MountedVolume]:
    """Return the volumes that are wished for, made where they are not there; under the lock.

    Raises:
        InvalidArgumentError: One that is there cannot be read.
        PermissionDeniedError: One may not be made here.
    """
    mounted: list[MountedVolume] = []
    for wish in wishes:
        name = random_volume_name() if wish.name is None else wish.name
        volume = await run_to_completion(partial(store.load, name))
        if volume is None:
            labels = {ANONYMOUS: ""} if wish.name is None else {}
            with undo.making(f"removing volume {name}", partial(run_to_completion, partial(store.remove, name))):
                volume = await run_to_completion(partial(store.create, name, labels))
        mounted.append(MountedVolume(wish=wish, volume=volume))
    return mounted


async def fill_volumes(mounted: Sequence[MountedVolume], rootfs: Sequence[Mount]) -> None:
    """Copy to empty volumes what the image has in their place, with owners and modes.

    Raises:
        PermissionDeniedError: This user may not mount the container's snapshot.
        FailedPreconditionError: The daemon runs on another machine.
    """
    empty = [item for item in mounted if item.wish.copy and not item.wish.read_only]
    empty = [item for item in empty if await run_to_completion(partial(_is_empty, item.volume))]
    if not empty:
        return
    with ExitStack() as opened:
        root = await run_to_completion(partial(_open_rootfs, opened, rootfs))
        for item in empty:
            steps = _fill(root, item.wish.place, item.volume.path)
            try:
                while await run_to_completion(partial(next, steps, False)):
                    await checkpoint_if_cancelled()
            finally:
                await run_to_completion(steps.close)


def _is_empty(volume: Volume) -> bool:
    with typed_errors(f"looking into volume {volume.name}"), os.scandir(volume.path) as entries:
        return next(entries, None) is None


def _open_rootfs(opened: ExitStack, rootfs: Sequence[Mount]) -> Root:
    descriptor = open_mounted(rootfs, writable=False)
    opened.callback(os.close, descriptor)
    return Root(descriptor=descriptor)


def _fill(root: Root, place: str, path: str) -> Generator[bool, None, None]:
    """Copy a directory of a container's tree to one of this machine, a piece with each step."""
    with ExitStack() as opened:
        with typed_errors(f"filling {path}"):
            status = root.status(place)
            if status is None or not stat.S_ISDIR(status.st_mode):
                return
            source = opened.enter_context(root.opened(place, os.O_PATH | os.O_DIRECTORY))
            local = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, local)
            destination = opened.enter_context(opened_destination(Root(descriptor=local, is_local=True), path))
        unpacker = Unpacker(destination, UnpackOptions())
        opened.callback(unpacker.close)
        pieces = Packer(root, source, CONTENT, PackOptions(is_sparse=True)).pieces()
        opened.callback(pieces.close)
        for piece in pieces:
            unpacker.feed(piece)
            yield True
        unpacker.finish()
        with typed_errors(f"filling {path}"):
            os.chown(path, status.st_uid, status.st_gid)
            Path(path).chmod(stat.S_IMODE(status.st_mode))


async def users_of_volumes(services: Services) -> dict[str, list[str]]:
    """Return which containers of the namespace use which volumes, by labels or by a mount of their spec."""
    store = await volume_store(services)
    users: dict[str, list[str]] = {}
    for record in await services.containers.list():
        for name in volumes_in_labels(record.labels) | _volumes_in_spec(store, record):
            users.setdefault(name, []).append(record.id)
    return users


def _volumes_in_spec(store: VolumeStore, record: ContainerRecord) -> set[str]:
    if record.spec is None:
        return set()
    sources = [mount.get("source", "") for mount in spec_of(record).get("mounts", [])]
    below = [source.removeprefix(f"{store.path}/") for source in sources if source.startswith(f"{store.path}/")]
    return {path.partition("/")[0] for path in below}


async def remove_own_volumes(services: Services, record: ContainerRecord) -> None:
    """Remove the volumes that were made for a container alone, unless another one uses them by now.

    Raises:
        FailedPreconditionError: Something is mounted in one.
        OSError: This user may not remove one.
    """
    names = own_volumes(record.labels)
    if not names:
        return
    async with holding_volumes(services) as store:
        users = await users_of_volumes(services)
        for name in names:
            if users.get(name, []) in ([], [record.id]):
                await run_to_completion(partial(_remove_own, store, name))


def _remove_own(store: VolumeStore, name: str) -> None:
    volume = store.load(name)
    if volume is not None and (volume.is_anonymous or _RANDOM_NAME.fullmatch(name)):
        store.remove(name)


async def delete_volume(services: Services, name: str) -> None:
    """Remove a volume that nobody uses; see `Volumes.delete`."""
    await load_volume(services, name)
    async with holding_volumes(services) as store:
        if users := (await users_of_volumes(services)).get(name):
            raise FailedPreconditionError(
                f"volume {name!r} is used by container {', '.join(users)}: delete that one first"
            )
        await run_to_completion(partial(store.remove, name))


async def prune_volumes(services: Services, wanted: Callable[[Volume], bool]) -> list[Volume]:
    """Remove the wanted volumes that nobody uses, and return them."""
    removed: list[Volume] = []
    if not await run_to_completion(Path((await volume_store(services)).path).exists):
        return removed  # nothing is made just to look into it
    async with holding_volumes(services) as store:
        await run_to_completion(store.remove_remains)
        users = await users_of_volumes(services)
        for volume in await run_to_completion(store.list):
            if volume.name not in users and wanted(volume):
                await run_to_completion(partial(store.remove, volume.name))
                removed.append(volume)
    return removed


async def load_volume(services: Services, name: str) -> Volume:
    """Return a volume; see `Volumes.load`."""
    store = await volume_store(services)
    volume = await run_to_completion(partial(store.load, name))
    if volume is None:
        raise NotFoundError(f"there is no volume {name!r} in namespace {services.namespace}")
    return volume
