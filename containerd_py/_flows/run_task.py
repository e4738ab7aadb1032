"""A container's whole life in one call: created, run with its I/O, and gone again without a trace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Unpack

from containerd_py._flows.create_container import ContainerOptions, create_container
from containerd_py._flows.create_task import create_task
from containerd_py._flows.ensure_image import Policy, ensure_image
from containerd_py._flows.results import CompletedProcess, Input, check_capture, complete
from containerd_py._flows.undoing import CONTAINER_BOUND, PROCESS_BOUND, undoing
from containerd_py.cio.fifos import open_fifos
from containerd_py.image import Image
from containerd_py.remotes.registry import Registry
from containerd_py.services.bundle import Services
from containerd_py.task import Task


@asynccontextmanager
async def open_run(
    services: Services,
    image: Image | str,
    args: Sequence[str] | None = None,
    *,
    stdin: bool = False,
    terminal: bool = False,
    policy: Policy = "missing",
    registry: Registry | None = None,
    **options: Unpack[ContainerOptions],
) -> AsyncIterator[Task]:
    """Lend a started task; task, container and snapshot are gone afterwards."""
    for unknown in options.keys() - ContainerOptions.__optional_keys__:
        # The flow below would take it for an option of the network's and be silent.
        raise TypeError(f"run and open_run got an unexpected keyword argument {unknown!r}")
    if isinstance(image, str):
        image = await ensure_image(
            services, image, policy=policy, registry=registry, snapshotter=options.get("snapshotter")
        )
    async with (
        open_fifos(stdin=stdin, terminal=terminal) as io,
        undoing(services.connection) as undo,
    ):
        created = await create_container(services, image=image, args=args, terminal=terminal, **options)
        undo.push(f"deleting {created.container!r}", created.container.delete, bound=CONTAINER_BOUND)
        task = await create_task(services, created.record, io=io.config, rootfs=created.rootfs)
        undo.push(f"deleting {task!r}", lambda: task.delete(force=True), bound=PROCESS_BOUND)
        await task.start()
        yield task


async def run(
    services: Services,
    image: Image | str,
    args: Sequence[str] | None = None,
    *,
    input: Input | None = None,  # noqa: A002
    check: bool = True,
    terminal: bool = False,
    capture_limit: int | None = None,
    policy: Policy = "missing",
    registry: Registry | None = None,
    **options: Unpack[ContainerOptions],
) -> CompletedProcess:
    """Run a command in a new container to its end, remove the container, return exit code and output."""
    check_capture(input, capture_limit)
    async with open_run(
        services,
        image,
        args,
        stdin=input is not None,
        terminal=terminal,
        policy=policy,
        registry=registry,
        **options,
    ) as task:
        completed = await complete(task, input=input, capture_limit=capture_limit)
    if check:
        completed.check(args[0] if args else str(image))
    return completed
