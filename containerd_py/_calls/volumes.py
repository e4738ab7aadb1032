"""Volumes made, found and removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial

from containerd_py._calls.calls import Calls
from containerd_py._completion import run_to_completion
from containerd_py._flows.container_volumes import (
    delete_volume,
    holding_volumes,
    load_volume,
    prune_volumes,
    users_of_volumes,
)
from containerd_py._flows.name_store import check_name
from containerd_py._flows.volume_store import ANONYMOUS, Volume, random_volume_name, volume_store
from containerd_py.errors import AlreadyExistsError
from containerd_py.services.bundle import Services
from containerd_py.types import NO_LABELS


class Volumes:
    """The volumes of a namespace: `client.volumes`. They lie on the daemon's host, where nerdctl has them, too."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def create(self, name: str | None = None, *, labels: Mapping[str, str] = NO_LABELS) -> Volume:
        """Make an empty volume; None invents a name, and `prune` removes it when no container uses it.

        Raises:
            AlreadyExistsError: There is one of that name.
            InvalidArgumentError: It cannot be a name.
            PermissionDeniedError: This user may not make it.
        """
        if name is None:
            labels = {**labels, ANONYMOUS: ""}
        chosen = random_volume_name() if name is None else check_name(name, "volume")
        async with holding_volumes(self._services) as store:
            if await run_to_completion(partial(store.load, chosen)) is not None:
                raise AlreadyExistsError(f"there is a volume {chosen!r} already: load it, or take another name")
            return await run_to_completion(partial(store.create, chosen, labels))

    async def load(self, name: str) -> Volume:
        """Return a volume.

        Raises:
            NotFoundError: There is none of that name.
            InvalidArgumentError: It cannot be a name, or the volume's description cannot be read.
        """
        return await load_volume(self._services, check_name(name, "volume"))

    async def users(self, name: str) -> list[str]:
        """Return the IDs of the containers that use a volume, running or not."""
        return (await users_of_volumes(self._services)).get(check_name(name, "volume"), [])

    async def delete(self, name: str) -> None:
        """Remove a volume with its data.

        Raises:
            FailedPreconditionError: A container uses it, or something is mounted in it.
            NotFoundError: There is none of that name.
            OSError: This user may not remove it.
        """
        await delete_volume(self._services, check_name(name, "volume"))

    async def prune(self, *, all: bool = False) -> Sequence[Volume]:  # noqa: A002
        """Remove the volumes without a chosen name that no container uses, with `all` those with one as well.

        Returns what was removed; their data has gone.

        Raises:
            OSError: This user may not remove one.
        """
        return await prune_volumes(self._services, lambda volume: all or volume.is_anonymous)

    async def list(self) -> list[Volume]:
        """Return all volumes, by name."""
        store = await volume_store(self._services)
        return await run_to_completion(store.list)


class VolumeCalls(Calls):
    """Volumes made, found and removed."""

    @cached_property
    def volumes(self) -> Volumes:
        """Volumes for containers to keep data in."""
        return Volumes(self._services)
