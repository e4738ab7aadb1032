"""Another process in a running container: its specification from the container's, its I/O, its end."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from containerd_py._flows.results import CompletedProcess, Input, check_capture, complete
from containerd_py._flows.same_host import require_shared_fifos
from containerd_py._flows.specs import process_to_value, spec_of
from containerd_py._flows.undoing import PROCESS_BOUND, Undo, settled, undoing
from containerd_py._flows.users import look_up_user
from containerd_py._transport.scope import check_identifier
from containerd_py.cio.config import NULL_IO, IOConfig
from containerd_py.cio.fifos import open_fifos
from containerd_py.errors import ContainerdError, FailedPreconditionError, InvalidArgumentError
from containerd_py.oci.process_options import env_entries, merge_env
from containerd_py.oci.runtime_spec import Process as ProcessSpec
from containerd_py.oci.spec_editing import strings
from containerd_py.oci.spec_json import clone
from containerd_py.process import Process
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord


async def _process_spec(
    services: Services,
    record: ContainerRecord,
    args: Sequence[str],
    *,
    terminal: bool,
    user: str | None,
    cwd: str | None,
    env: Mapping[str, str | None] | Sequence[str] | None,
) -> ProcessSpec:
    base = spec_of(record).get("process")
    if base is None:
        raise FailedPreconditionError(f"container {record.id} has no process to run another one beside")
    process = clone(base)
    process["args"] = strings([args], what="process args")
    process["terminal"] = terminal
    variables = env_entries([] if env is None else [env])
    if terminal and not any(entry.startswith("TERM=") for entry in (*process.get("env", []), *variables)):
        variables.append("TERM=xterm")
    process["env"] = merge_env(process.get("env", []), variables)
    if cwd is not None:
        process["cwd"] = cwd
    if user is not None:
        mounts = await services.snapshotter(record.snapshotter).mounts(record.snapshot_key)
        found = await look_up_user(user, mounts)
        process["user"] = {"uid": found.uid, "gid": found.gid, "additionalGids": [*found.additional_gids]}
    return process


async def _make(
    services: Services,
    undo: Undo,
    container_id: str,
    args: Sequence[str],
    *,
    io: IOConfig,
    user: str | None,
    cwd: str | None,
    env: Mapping[str, str | None] | Sequence[str] | None,
    id: str | None,  # noqa: A002
) -> Process:
    """Make an exec, not yet started, that `undo` kills and deletes."""
    await require_shared_fifos(services, io)
    # An exec of no ID is the task itself to every call but Exec: undoing that one would end the task.
    exec_id = f"exec-{secrets.token_hex(8)}" if id is None else check_identifier(id, "exec ID")
    record = await services.containers.get(container_id)
    spec = await _process_spec(services, record, args, terminal=io.terminal, user=user, cwd=cwd, env=env)
    process = Process(services, container_id, exec_id=exec_id, io=io)

    async def create() -> None:
        await services.tasks.exec(
            container_id,
            exec_id=exec_id,
            spec=process_to_value(spec),
            stdin=io.stdin,
            stdout=io.stdout,
            stderr=io.stderr,
            terminal=io.terminal,
        )

    undoing_it = f"deleting exec {exec_id} of {container_id}"
    with undo.making(undoing_it, lambda: process.delete(force=True), bound=PROCESS_BOUND):
        await settled(create)
    return process


async def create_exec(
    services: Services,
    container_id: str,
    args: Sequence[str],
    *,
    io: IOConfig = NULL_IO,
    user: str | None = None,
    cwd: str | None = None,
    env: Mapping[str, str | None] | Sequence[str] | None = None,
    id: str | None = None,  # noqa: A002
) -> Process:
    """Create another process in the container, not yet started; it stays until it is deleted."""
    _check_args(args)
    async with undoing(services.connection) as undo:
        try:
            process = await _make(services, undo, container_id, args, io=io, user=user, cwd=cwd, env=env, id=id)
        except ContainerdError:
            if io.lent is not None:
                io.lent.abandon()
            raise
        undo.keep()
    return process


async def load_exec(services: Services, container_id: str, exec_id: str, io: IOConfig | None = None) -> Process:
    """Return a process that is there, whoever created it."""
    if not exec_id:
        raise InvalidArgumentError("an exec has an ID; the task's own process is the task")
    status = await services.tasks.get(container_id, exec_id=exec_id)
    if io is not None:
        await require_shared_fifos(services, io)
    recorded = IOConfig(terminal=status.terminal, stdin=status.stdin, stdout=status.stdout, stderr=status.stderr)
    process = Process(services, container_id, exec_id=exec_id, pid=status.pid, io=recorded if io is None else io)
    await process.attach()
    return process


@asynccontextmanager
async def open_exec(
    services: Services,
    container_id: str,
    args: Sequence[str],
    *,
    stdin: bool = False,
    terminal: bool = False,
    io: IOConfig | None = None,
    user: str | None = None,
    cwd: str | None = None,
    env: Mapping[str, str | None] | Sequence[str] | None = None,
    id: str | None = None,  # noqa: A002
) -> AsyncIterator[Process]:
    """Lend a started process in the container; it is killed and deleted on the way out."""
    _check_args(args)
    async with AsyncExitStack() as stack:
        if io is None:
            io = (await stack.enter_async_context(open_fifos(stdin=stdin, terminal=terminal))).config
        undo = await stack.enter_async_context(undoing(services.connection))
        process = await _make(services, undo, container_id, args, io=io, user=user, cwd=cwd, env=env, id=id)
        await process.start()
        yield process


def _check_args(args: Sequence[str]) -> None:
    if isinstance(args, str | bytes) or not args:
        raise InvalidArgumentError(f"args must be a list of at least one string, not {args!r}")


async def run_exec(
    services: Services,
    container_id: str,
    args: Sequence[str],
    *,
    input: Input | None = None,  # noqa: A002
    check: bool = True,
    capture_limit: int | None = None,
    user: str | None = None,
    cwd: str | None = None,
    env: Mapping[str, str | None] | Sequence[str] | None = None,
    id: str | None = None,  # noqa: A002
) -> CompletedProcess:
    """Run a process in the container to its end and return its exit code and output."""
    check_capture(input, capture_limit)
    async with open_exec(
        services, container_id, args, stdin=input is not None, user=user, cwd=cwd, env=env, id=id
    ) as process:
        completed = await complete(process, input=input, capture_limit=capture_limit)
    if check:
        completed.check(args[0])
    return completed
