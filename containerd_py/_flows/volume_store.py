"""Volumes: directories that outlive containers, in nerdctl's layout. Knows files; knows nothing of who uses a volume.

All calls but `volume_store` and `locked_volumes` block, and all that change something want the lock held.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Final

import attrs
from anyio import to_thread

from containerd_py._flows.directories import check_nothing_mounted, remove_tree
from containerd_py._flows.directory_locks import locked_directory, make_private_directory
from containerd_py._flows.name_store import check_name
from containerd_py._flows.state_directory import data_store
from containerd_py._whole_files import read_bounded, write_whole
from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.oci.strict_json import load_object
from containerd_py.services.bundle import Services
from containerd_py.types import NO_LABELS, frozen_map

ANONYMOUS: Final = "nerdctl/anonymous-volumes"  # a label that marks a volume; on a container: the names of its own
_MAX_SIZE: Final = 1 << 20  # bytes of a volume's description
_DESCRIPTION: Final = "volume.json"
_DATA: Final = "_data"
_DATA_MODE: Final = 0o755  # as Docker: whoever a container's process is may look into it
_GOING: Final = ".going-"  # before the name of what is being removed: no volume's name begins so


@attrs.frozen(kw_only=True)
class Volume:
    """A directory on the daemon's host for containers to keep data in: its name, the data's path, its labels."""

    name: str
    path: str
    labels: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)

    @property
    def is_anonymous(self) -> bool:
        """Whether it was made for one container, without a name that anybody chose."""
        return ANONYMOUS in self.labels


@attrs.frozen
class VolumeStore:
    """Where the volumes of a namespace are."""

    path: str

    def load(self, name: str) -> Volume | None:
        """Read a volume; None where there is none of that name.

        Raises:
            InvalidArgumentError: Its description cannot be read.
        """
        try:
            data = read_bounded(f"{self.path}/{name}/{_DESCRIPTION}", limit=_MAX_SIZE)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Volume(name=name, path=f"{self.path}/{name}/{_DATA}", labels=_labels(name, data))

    def list(self) -> list[Volume]:
        """Read all volumes, by name; what is none, or whose description cannot be read, is left out."""
        volumes = []
        for entry in sorted(_entries(self.path)):
            with suppress(InvalidArgumentError):
                volume = self.load(check_name(entry, "volume"))
                volumes += [] if volume is None else [volume]
        return volumes

    def create(self, name: str, labels: Mapping[str, str]) -> Volume:
        """Make a volume that is not there yet; one that was half made is finished.

        Raises:
            PermissionDeniedError: It may not be made here.
        """
        place = f"{self.path}/{name}"
        make_private_directory(place, below=self.path)
        data = Path(place, _DATA)
        with suppress(FileExistsError):
            data.mkdir()
        data.chmod(_DATA_MODE)
        write_whole(f"{place}/{_DESCRIPTION}", json.dumps({"labels": dict(labels)}, indent=4).encode())
        return Volume(name=name, path=str(data), labels=labels)

    def remove(self, name: str) -> None:
        """Remove a volume with its data. Half of one is never taken for a volume.

        Raises:
            NotFoundError: There is none of that name.
            FailedPreconditionError: Something is mounted in it.
            OSError: This user may not remove it.
        """
        place, going = Path(self.path, name), Path(self.path, _GOING + name)
        if place.is_symlink() or not place.is_dir():
            raise NotFoundError(f"there is no volume {name!r}")
        check_nothing_mounted(str(place))
        try:
            remove_tree(str(going))
            place.rename(going)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no volume {name!r}") from error
        remove_tree(str(going))

    def remove_remains(self) -> None:
        """Remove what programs that were killed have left of volumes while they removed them."""
        for entry in _entries(self.path):
            if entry.startswith(_GOING):
                remove_tree(f"{self.path}/{entry}")


async def volume_store(services: Services) -> VolumeStore:
    """Return where the volumes of this namespace are; make nothing."""
    store = await to_thread.run_sync(data_store, services.connection)
    return VolumeStore(f"{store}/volumes/{services.namespace}")


def locked_volumes(store: VolumeStore) -> AbstractAsyncContextManager[None]:
    """Keep everybody else from making and removing volumes of this namespace, nerdctl included."""
    return locked_directory(store.path, below=str(Path(store.path).parents[2]))


def random_volume_name() -> str:
    """Invent a name for a volume that is to have none."""
    return secrets.token_hex(32)  # as nerdctl's


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)  # noqa: PTH208  # names
    except FileNotFoundError:
        return []


def _labels(name: str, data: bytes) -> dict[str, str]:
    what = f"volume {name}"
    found = load_object(data, what=what, max_size=_MAX_SIZE, maps=("labels",), fold_case=False).get("labels")
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise InvalidArgumentError(f"{what}: its labels are not strings: mend or remove {_DESCRIPTION}")
    return found
