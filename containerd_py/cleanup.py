"""What a program has made, undone together at the end. Knows in which order things depend on each other."""

from __future__ import annotations

import os
from functools import partial
from operator import attrgetter
from types import TracebackType
from typing import Final, Self

import attrs

from containerd_py._flows.container_volumes import prune_volumes
from containerd_py._flows.directories import remove_directory
from containerd_py._flows.fifo_care import remove_fifos
from containerd_py._flows.leftovers import find_leftovers
from containerd_py._flows.lost_cgroups import remove_lost_cgroups
from containerd_py._flows.lost_shims import end_lost_shims
from containerd_py._flows.state_directory import remove_leftover_directories
from containerd_py._flows.undoing import CLEANUP_BOUND, CONTAINER_BOUND, Debt, Step, note_failures, undo_all
from containerd_py.container import Container
from containerd_py.lifetimes import DeletableT, deletion_bound
from containerd_py.process import Process
from containerd_py.services.bundle import Services
from containerd_py.services.snapshots import SnapshotsService
from containerd_py.task import Task

# What goes first: an exec needs its task, a task its container, a container its snapshot.
_EXEC, _TASK, _CONTAINER, _SNAPSHOT, _ANYTHING, _DIRECTORY = range(6)


@attrs.frozen
class _Duty:
    rank: int
    debt: Debt


class Cleanup:
    """Undoes on the way out of its block whatever was added in it, in the order that dependencies ask for.

    For example::

        async with Cleanup() as cleanup:
            container = cleanup.add(await client.create_container(image=image))
            task = cleanup.add(await container.create_task())

    Execs go first, then tasks, containers, snapshots, everything else, directories; within a kind, what was added last
    goes first. All is out of reach of cancellation, each step is bounded to 10 s and a container's, which may be on
    networks, to 90 s; a failure keeps nothing else from being undone, and what has gone already is fine.

    Where something is left behind, the block raises an ExceptionGroup of all failures. When the block itself ends with
    an error, that one is raised, and the failures are its notes; `failures` has them in any case.
    """

    def __init__(self) -> None:
        self._duties: list[_Duty] = []
        self._failures: tuple[Exception, ...] = ()

    @property
    def failures(self) -> tuple[Exception, ...]:
        """What could not be undone, once the block has ended; each says in a note what was tried."""
        return self._failures

    def add(self, thing: DeletableT) -> DeletableT:
        """Register something that can be deleted, and return it; a process that runs is killed for it."""

        async def delete() -> object:
            return await (thing.delete(force=True) if isinstance(thing, Process) else thing.delete())

        self._push(_rank(thing), f"deleting {thing!r}", delete, bound=deletion_bound(thing))
        return thing

    def add_snapshot(self, snapshots: SnapshotsService, key: str) -> None:
        """Register a snapshot, as of `client.snapshotter("overlayfs")`."""
        self._push(_SNAPSHOT, f"removing snapshot {key}", lambda: snapshots.remove(key))

    def add_directory(self, path: str | os.PathLike[str]) -> None:
        """Register a directory of this machine; it goes with all its content, unless something is mounted there."""
        place = os.path.abspath(path)  # noqa: PTH100  # whatever the working directory will be; links stay
        self._push(_DIRECTORY, f"removing directory {place}", lambda: remove_directory(place))

    def add_step(self, what: str, step: Step) -> None:
        """Register anything else; `what` names it where it fails, as in "detaching the network"."""
        self._push(_ANYTHING, what, step)

    async def add_namespace(self, services: Services) -> None:
        """Register all a namespace has but images and content: `await cleanup.add_namespace(client.services)`.

        For a program that has the namespace to itself, when it begins: whatever is there is its predecessor's, which
        was killed. That is tasks with their execs, containers with what belongs to them, leases this package took with
        what they alone hold, directories of containers that came to nothing, and volumes without a chosen name that no
        container uses.

        Where the daemon runs on this machine, it is also shims that the daemon has forgotten, cgroups of containers
        that no runtime knows of, and folders with FIFOs: of the tasks and, in the default directory, any that nobody
        has used for a minute (see `Client.cleanup_fifos`). A cgroup with a process in it stays, and is a failure; one
        whose path is not absolute is the runtime's or systemd's to find.
        """
        found = await find_leftovers(services)
        for task in found.tasks:
            self.add(task)
        for container in found.containers:
            self.add(container)
        for what, step in found.leases:
            self.add_step(what, step)
        shims = partial(end_lost_shims, services, list(found.cgroups))
        self._push(_ANYTHING, "ending shims that the daemon does not know", shims, bound=CONTAINER_BOUND)
        cgroups = partial(remove_lost_cgroups, services, found.cgroups)
        self._push(_DIRECTORY, "removing cgroups that no runtime knows of", cgroups)
        fifos = partial(remove_fifos, services, found.fifo_folders)
        self._push(_DIRECTORY, "removing folders with FIFOs", fifos)
        self._push(_DIRECTORY, "removing leftover directories", lambda: remove_leftover_directories(services))
        unnamed = partial(prune_volumes, services, attrgetter("is_anonymous"))
        self._push(_DIRECTORY, "removing unused volumes", unnamed)

    def keep(self) -> None:
        """Forget everything added so far: it shall outlive the block."""
        self._duties.clear()

    def _push(self, rank: int, what: str, step: Step, *, bound: float = CLEANUP_BOUND) -> None:
        self._duties.insert(0, _Duty(rank, Debt(what, step, bound)))  # what was added last goes first

    async def _undo(self) -> int:
        due = sorted(self._duties, key=lambda duty: duty.rank)
        self._duties.clear()
        self._failures = tuple(await undo_all(duty.debt for duty in due)) if due else ()
        return len(due)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        tried = await self._undo()
        if not self._failures:
            return
        if exc_val is not None:
            note_failures(self._failures, exc_val)
            return
        raise ExceptionGroup(f"{len(self._failures)} of {tried} things are left behind", self._failures)


_RANKS: Final = ((Task, _TASK), (Process, _EXEC), (Container, _CONTAINER))


def _rank(thing: object) -> int:
    return next((rank for kind, rank in _RANKS if isinstance(thing, kind)), _ANYTHING)
