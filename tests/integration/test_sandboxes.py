"""Sandbox records and controllers on real daemons: typed, and no request harms one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import attrs
import pytest

from containerd_py._transport.connection import Rpc, open_connection
from containerd_py._transport.scope import Scope
from containerd_py.daemon import Daemon
from containerd_py.errors import (
    AlreadyExistsError,
    ContainerdError,
    InvalidArgumentError,
    NotFoundError,
    NotSupportedError,
    TaskLostError,
    UnimplementedError,
)
from containerd_py.services.containers import Runtime
from containerd_py.services.sandboxes import SandboxesService, SandboxRecord
from containerd_py.services.version import VersionService
from containerd_py.typeurl import RUNTIME_SPEC, TypedValue
from tests.harness.leaks import LeakOracle

RUNC = "io.containerd.runc.v2"
EMPTIEST = SandboxRecord(id="emptiest", runtime=Runtime(name=""))
RECORD = SandboxRecord(
    id="sandbox",
    runtime=Runtime(name=RUNC, options=TypedValue(type_url="containerd.runc.v1.Options", value=b"")),
    spec=TypedValue(type_url=RUNTIME_SPEC, value=b'{"ociVersion":"1.0.2","linux":{}}'),
    labels={"a": "b", "c": "d"},
    extensions={"org.example": TypedValue(type_url="org.example.Extension", value=b"\x00\xff")},
)
since_1_7 = pytest.mark.lines("1.7", "2.1")


@pytest.fixture
async def rpc(daemon: Daemon, namespace: str) -> AsyncIterator[Rpc]:
    """Lend a connection in a namespace of the test's own."""
    async with open_connection(daemon.address) as connection:
        yield Rpc(connection, Scope(namespace=namespace))


@pytest.fixture
async def sandboxes(rpc: Rpc) -> AsyncIterator[SandboxesService]:
    """Lend the service, and delete what records a test left."""
    service = SandboxesService(rpc)
    yield service
    try:
        left = await service.store.list()
    except NotSupportedError:
        return
    for record in left:
        await service.store.delete(record.id)


@pytest.fixture
async def own_sandboxes(own_daemon: Daemon, namespace: str, no_leaks: LeakOracle) -> AsyncIterator[SandboxesService]:
    """Lend the service of a daemon of the test's own: these daemons leave shims of sandboxes running."""
    no_leaks.expect("shim", "")
    async with open_connection(own_daemon.address) as connection:
        service = SandboxesService(Rpc(connection, Scope(namespace=namespace)))
        await service.store.create(RECORD)
        yield service
        await service.store.delete("sandbox")


def content(record: SandboxRecord) -> SandboxRecord:
    """Return the record without the daemon's times."""
    return attrs.evolve(record, created_at=None, updated_at=None)


# ── the store ───────────────────────────────────────────────────────────────────────────────────────────────────────


@since_1_7
async def test_a_record_comes_back_as_it_was_made(sandboxes: SandboxesService) -> None:
    """Every field of a record is kept; the times are the daemon's."""
    created = await sandboxes.store.create(RECORD)
    assert content(created) == RECORD
    assert created.created_at is not None
    assert await sandboxes.store.get("sandbox") == created
    assert await sandboxes.store.list() == [created]


@since_1_7
async def test_records_are_found_by_filter(sandboxes: SandboxesService) -> None:
    """Filters look at ID and labels."""
    await sandboxes.store.create(RECORD)
    await sandboxes.store.create(attrs.evolve(RECORD, id="other", labels={}))
    assert [record.id for record in await sandboxes.store.list(["labels.a==b"])] == ["sandbox"]
    assert [record.id for record in await sandboxes.store.list(["id==other", "id==none"])] == ["other"]


@since_1_7
async def test_a_record_is_changed_in_part_or_whole(sandboxes: SandboxesService) -> None:
    """Named fields change alone; without names all changes."""
    await sandboxes.store.create(RECORD)
    changed = attrs.evolve(RECORD, labels={"a": "x", "e": "f"}, extensions={})
    updated = await sandboxes.store.update(changed, fields=["labels.e"])
    assert updated.labels == {"a": "b", "c": "d", "e": "f"}
    assert updated.extensions == RECORD.extensions
    assert content(await sandboxes.store.update(changed)) == changed
    assert (await sandboxes.store.get("sandbox")).updated_at != updated.created_at


@since_1_7
async def test_what_may_not_change_is_refused(sandboxes: SandboxesService) -> None:
    """A runtime's name stays, and unknown fields are the caller's error."""
    await sandboxes.store.create(RECORD)
    with pytest.raises(InvalidArgumentError):
        await sandboxes.store.update(attrs.evolve(RECORD, runtime=Runtime(name="other")))
    with pytest.raises(InvalidArgumentError):
        await sandboxes.store.update(RECORD, fields=["created_at"])


@since_1_7
async def test_records_that_are_not_there(sandboxes: SandboxesService) -> None:
    """Get, update and delete say the same of a record that is not there, on every line."""
    await sandboxes.store.create(attrs.evolve(RECORD, id="another"))
    with pytest.raises(NotFoundError):
        await sandboxes.store.get("sandbox")
    with pytest.raises(NotFoundError):
        await sandboxes.store.update(RECORD)
    with pytest.raises(NotFoundError):
        await sandboxes.store.delete("sandbox")


@since_1_7
async def test_an_id_is_taken_once(sandboxes: SandboxesService) -> None:
    """A second record of the same ID is refused, as is an ID that is none."""
    await sandboxes.store.create(RECORD)
    with pytest.raises(AlreadyExistsError):
        await sandboxes.store.create(RECORD)
    for bad in ("", "a b", "a/b", "-", "x" * 77):
        with pytest.raises(InvalidArgumentError):
            await sandboxes.store.create(attrs.evolve(RECORD, id=bad))


# ── the controller ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.lines("1.7")
async def test_a_sandbox_lives_and_ends(own_sandboxes: SandboxesService) -> None:
    """1.7's shim runs sandboxes; that its daemon cannot publish their events spoils none of the calls."""
    controller = own_sandboxes.controller
    await controller.create(RECORD)
    with pytest.raises(AlreadyExistsError):
        await controller.create(RECORD)
    started = await controller.start("sandbox")
    assert started.id == "sandbox"
    assert (await controller.status("sandbox", verbose=True)).exited_at is None
    await controller.shutdown("sandbox")
    with pytest.raises(NotFoundError):
        await controller.shutdown("sandbox")


@pytest.mark.lines("1.7")
async def test_how_a_sandbox_ended_is_not_invented(own_sandboxes: SandboxesService) -> None:
    """Where the daemon swallows the exit code, waiting ends with an error that says so."""
    await own_sandboxes.controller.create(RECORD)
    await own_sandboxes.controller.start("sandbox")
    try:
        with anyio.fail_after(10), pytest.raises(TaskLostError):
            await own_sandboxes.controller.wait("sandbox")
    finally:
        await own_sandboxes.controller.shutdown("sandbox")


@pytest.mark.lines("2.1")
async def test_a_shim_without_sandboxes_says_so(own_sandboxes: SandboxesService) -> None:
    """2.x's runc shim runs none; the controller forgets it after that."""
    with pytest.raises(UnimplementedError):
        await own_sandboxes.controller.create(RECORD)
    with pytest.raises(NotFoundError):
        await own_sandboxes.controller.shutdown("sandbox")


@pytest.mark.lines("2.1")
async def test_an_unknown_sandboxer_is_told(sandboxes: SandboxesService) -> None:
    """Each call names its controller, and the daemon looks for that one."""
    record = attrs.evolve(RECORD, sandboxer="nobody")
    controller = sandboxes.controller
    for call in (
        controller.create(record),
        controller.update(record),
        controller.start("sandbox", sandboxer="nobody"),
        controller.stop("sandbox", sandboxer="nobody"),
        controller.wait("sandbox", sandboxer="nobody"),
        controller.status("sandbox", sandboxer="nobody"),
        controller.shutdown("sandbox", sandboxer="nobody"),
        controller.metrics("sandbox", sandboxer="nobody"),
    ):
        with pytest.raises(NotFoundError, match="nobody"):
            await call


@since_1_7
async def test_the_status_of_an_unknown_sandbox(sandboxes: SandboxesService) -> None:
    """The shim controller knows nothing of it, and no time that would be a lie."""
    status = await sandboxes.controller.status("unknown")
    assert (status.pid, status.state, status.created_at) == (0, "", None)


@pytest.mark.lines("1.6")
async def test_1_6_has_no_sandboxes(sandboxes: SandboxesService) -> None:
    """What a line does not serve says which line does."""
    with pytest.raises(NotSupportedError, match="1\\.7"):
        await sandboxes.store.list()
    with pytest.raises(NotSupportedError, match="1\\.7"):
        await sandboxes.controller.status("sandbox")


def emptiest_calls(sandboxes: SandboxesService, sandboxer: str) -> list[Callable[[], Awaitable[object]]]:
    store, controller = sandboxes.store, sandboxes.controller
    record = attrs.evolve(EMPTIEST, sandboxer=sandboxer)
    return [
        store.list,
        lambda: store.get(""),
        lambda: store.create(record),
        lambda: store.update(record),
        lambda: store.update(record, fields=["labels"]),
        lambda: store.update(attrs.evolve(record, id="")),
        lambda: store.delete(""),
        lambda: controller.create(record),
        lambda: controller.start("", sandboxer=sandboxer),
        lambda: controller.platform("", sandboxer=sandboxer),
        lambda: controller.stop("", sandboxer=sandboxer),
        lambda: controller.wait("", sandboxer=sandboxer),
        lambda: controller.status("", sandboxer=sandboxer),
        lambda: controller.shutdown("", sandboxer=sandboxer),
        lambda: controller.metrics("", sandboxer=sandboxer),
        lambda: controller.update(record),
        lambda: controller.update(attrs.evolve(record, id="")),
    ]


@pytest.mark.parametrize("sandboxer", ["", "shim"])
async def test_the_emptiest_requests_harm_no_daemon(
    sandboxes: SandboxesService, rpc: Rpc, daemon: Daemon, sandboxer: str
) -> None:
    """Every call with as little in it as can be built is answered or refused by a daemon that lives on."""
    pid = daemon.pid
    for call in emptiest_calls(sandboxes, sandboxer):
        try:
            with anyio.fail_after(10):
                await call()
        except ContainerdError:
            pass
        await VersionService(rpc).version()
    assert (daemon.pid, daemon.returncode) == (pid, None)
