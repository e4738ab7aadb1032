"""Every RPC that a containerd line serves is called by its typed method, and the daemon answers it well.

A scenario for each service goes through all its calls; what the transport noted meanwhile is compared with what the
line is known to serve (`containerd_py.support`).
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Final

import anyio
import attrs
import pytest

from codegen import model, outputs
from containerd_py import Client, NotSupportedError, connect, deleting, open_fifos, where
from containerd_py.daemon import Daemon
from containerd_py.errors import TaskLostError, UnimplementedError
from containerd_py.oci.media_types import MEDIA_TYPE_LAYER
from containerd_py.services.containers import ContainerRecord, Runtime
from containerd_py.services.event_types import Envelope, TaskExit
from containerd_py.services.images import ImageRecord
from containerd_py.services.leases import LeaseResource
from containerd_py.services.sandboxes import SandboxRecord
from containerd_py.services.transfer import (
    ExportStreamEndpoint,
    ImageStoreEndpoint,
    ImportStreamEndpoint,
    RegistryEndpoint,
)
from containerd_py.support import LINES, first_line
from containerd_py.testing.registry import LocalRegistry
from containerd_py.types import Descriptor, Timestamp
from containerd_py.typeurl import RUNTIME_SPEC, TypedValue
from tests.conftest import SeededImages
from tests.harness import pause_shim
from tests.harness.rpc_recorder import ANSWERED, recorded_rpcs

RUNC: Final = Runtime(name="io.containerd.runc.v2")
SPEC: Final = TypedValue(type_url=RUNTIME_SPEC, value=b'{"ociVersion":"1.0.2","linux":{}}')
MOMENT: Final = Timestamp.from_parts(1_700_000_000, 0)
END_OF_TAR: Final = bytes(1024)
HEALTH: Final = "/grpc.health.v1.Health/Check"
# What is called and cannot be answered well, by RPC and line ("": all).
UNANSWERABLE: Final = {
    ("/containerd.services.snapshots.v1.Snapshots/Cleanup", ""): "what keeps the metadata passes it to no snapshotter",
    ("/containerd.services.sandbox.v1.Controller/Platform", ""): "the daemons' handler answers UNIMPLEMENTED",
    ("/containerd.services.sandbox.v1.Controller/Create", "1.7"): "done, then the daemon trips over its own event",
    ("/containerd.services.sandbox.v1.Controller/Start", "1.7"): "done, then the daemon trips over its own event",
    ("/containerd.services.sandbox.v1.Controller/Wait", "1.7"): "waited, then the daemon trips over its own event",
}


@attrs.frozen(kw_only=True)
class World:
    """What scenarios work with."""

    client: Client
    line: str
    images: SeededImages
    tls_registry: LocalRegistry
    folder: Path


@pytest.fixture
async def world(
    daemon: Daemon,
    daemon_line: str,
    namespace: str,
    seeded_images: SeededImages,
    tls_registry: LocalRegistry,
    tmp_path: Path,
) -> AsyncIterator[World]:
    """Lend a client in a namespace of the test's own, and what there is to work on."""
    async with connect(daemon.address, namespace=namespace) as client:
        yield World(client=client, line=daemon_line, images=seeded_images, tls_registry=tls_registry, folder=tmp_path)


async def write(client: Client, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    async with client.content.open_writer("an ingest", total=len(data), expected=digest) as writer:
        await writer.write(data)
        await writer.status()  # which comes once all is written
        assert await client.content.status("an ingest") == (await client.content.list_statuses())[0]
        assert await writer.commit() == digest
    return digest


# ── a scenario for each service ─────────────────────────────────────────────────────────────────────────────────────


async def containers(world: World) -> None:
    """Create, find, change and delete a record; all records come in one message or one by one."""
    service = world.client.containers
    record = await service.create(ContainerRecord(id="c", runtime=RUNC, spec=SPEC, labels={"a": "b"}))
    assert await service.get("c") == record
    assert await service.list() == [record]
    async with service.open_list() as found:
        assert [each async for each in found] == [record]
    async with service.open_list([where("labels", "a").equals("c")]) as found:
        assert [each async for each in found] == []
    changed = attrs.evolve(record, labels={"a": "c", "d": "e"})
    assert (await service.update(changed, fields=["labels.a"])).labels == {"a": "c"}
    await service.delete("c")


async def content(world: World) -> None:
    """Write, look at, label, read and delete a blob; give an ingest up."""
    async with world.client.hold_lease() as leased:
        await content_under(leased)


async def content_under(client: Client) -> None:
    service = client.content
    digest = await write(client, b"hello")
    assert (await service.update(digest, {"a": "b"})).labels == {"a": "b"}
    assert (await service.info(digest)).created_at is not None
    assert [info.digest for info in await service.list([where("labels", "a").equals("b")])] == [digest]
    assert await service.read(digest, offset=1, size=3) == b"ell"
    await service.delete(digest)
    async with service.open_writer("given up") as writer:
        await writer.write(b"half")
        await writer.release()
    await service.abort("given up")
    assert await service.list_statuses() == []


async def diff(world: World) -> None:
    """Make a layer of the difference of two snapshots, and extract it into a third."""
    async with world.client.hold_lease() as leased:
        await diff_under(leased)


async def diff_under(client: Client) -> None:
    native = client.snapshotter("native")
    lower = await native.prepare("lower")
    upper = await native.prepare("upper")
    (Path(upper[0].source) / "file").write_text("hello")
    layer = await client.diff.compare(
        lower, upper, media_type=MEDIA_TYPE_LAYER, reference="layer", labels={"a": "b"}, source_date_epoch=MOMENT
    )
    applied = await client.diff.apply(layer, lower, sync_fs=True)
    assert applied.digest == layer.digest
    assert (await client.content.info(layer.digest)).labels["a"] == "b"
    assert (Path(lower[0].source) / "file").read_text() == "hello"
    await native.remove("upper")
    await native.remove("lower")


async def events(world: World) -> None:
    """Publish one event here and forward one from elsewhere, both to a subscription."""
    service = world.client.events
    elsewhere = Envelope(timestamp=MOMENT, namespace="elsewhere", topic="/a/b", event=TaskExit(container_id="c"))
    async with service.subscribe(where("topic").equals("/a/b")) as envelopes:
        await service.publish("/a/b", TypedValue(type_url="org.example.Happened", value=b"x"))
        await service.forward(elsewhere)
        assert (await anext(envelopes)).event == TypedValue(type_url="org.example.Happened", value=b"x")
        assert await anext(envelopes) == elsewhere


async def images(world: World) -> None:
    """Create, find, change in part and delete a record."""
    async with world.client.hold_lease() as leased:
        target = Descriptor(media_type="text/plain", digest=await write(leased, b"image"), size=5)
        await images_of(leased, target, line=world.line)


async def images_of(client: Client, target: Descriptor, *, line: str) -> None:
    service = client.images
    record = await service.create(
        ImageRecord(name="an/image:1", target=target, labels={"a": "b"}), source_date_epoch=MOMENT
    )
    assert await service.get("an/image:1") == record
    assert await service.list([where("target", "digest").equals(target.digest)]) == [record]
    changed = attrs.evolve(record, target=attrs.evolve(target, media_type="text/html"), labels={"a": "c"})
    updated = await service.update(changed, fields=["labels.a"])
    assert (updated.labels, updated.target) == ({"a": "c"}, target)
    await service.delete("an/image:1", synchronous=True, target=target if line == "2.1" else None)


async def introspection(world: World) -> None:
    """Ask for the plugins, the server itself and, where the line can tell, a runtime."""
    service = world.client.introspection
    (plugin,) = await service.plugins([where("type").equals("io.containerd.snapshotter.v1") & "id==native"])
    assert plugin.is_working
    server = await service.server()
    assert server.uuid
    assert (server.pid is None) == (world.line == "1.6")
    if world.line == "2.1":
        assert (await service.plugin_info("io.containerd.runtime.v2", "task")).plugin.id == "task"


async def leases(world: World) -> None:
    """Lease a blob: it outlives a garbage collection, and not the lease."""
    service = world.client.leases
    await service.create("l", labels={"containerd.io/gc.expire": "2100-01-01T00:00:00Z"})
    async with world.client.hold_lease() as leased:
        digest = await write(leased, b"leased")
        resource = LeaseResource(type="content", id=digest)
        await service.add_resource("l", resource)
    await service.create("other")
    await service.delete("other", synchronous=True)
    assert await service.list_resources("l") == [resource]
    assert (await world.client.content.info(digest)).size == 6
    await service.delete_resource("l", resource)
    assert await service.list_resources("l") == []
    await service.delete("l", synchronous=True)
    assert await service.list() == await world.client.content.list() == []


async def namespaces(world: World) -> None:
    """Create, label, find and delete a namespace."""
    service, name = world.client.namespaces, f"{world.client.namespace}-2"
    created = await service.create(name, labels={"a": "b", "c": "d"})
    assert await service.get(name) == created
    assert created in await service.list()
    assert (await service.update(name, {"a": "", "e": "f"})).labels == {"c": "d", "e": "f"}
    assert (await service.update(name, {"g": "h"}, replace=True)).labels == {"g": "h"}
    await service.delete(name)


async def snapshots(world: World) -> None:
    """Prepare, commit, view, measure, label and remove snapshots."""
    async with world.client.hold_lease() as leased:
        await snapshots_under(leased)


async def snapshots_under(client: Client) -> None:
    service = client.snapshotter("overlayfs")
    mounts = await service.prepare("active", labels={"a": "b"})
    assert await service.mounts("active") == mounts
    assert (await service.update("active", {"c": "d"})).labels == {"a": "b", "c": "d"}
    await service.commit("layer", "active", labels={"containerd.io/gc.root": MOMENT.isoformat()})
    await service.view("view", parent="layer")
    assert (await service.stat("layer")).is_committed
    assert [info.name for info in await service.list([where("parent").equals("layer")])] == ["view"]
    assert (await service.usage("layer")).inodes > 0
    await service.remove("view")
    await service.remove("layer")
    with pytest.raises(UnimplementedError):
        await service.cleanup()


async def streaming(world: World) -> None:
    """Bytes that the daemon is sent on one stream come back on another."""
    sent = bytes(range(256)) * 731
    assert await echoed(world.client, sent) == sent


async def echoed(client: Client, data: bytes) -> bytes:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    streams = client.streaming
    async with streams.open("to") as to, streams.open("from") as back, anyio.create_task_group() as group:
        group.start_soon(to.send_bytes, chunks())
        octets = "application/octet-stream"
        source = ImportStreamEndpoint(stream="to", media_type=octets)
        group.start_soon(client.transfer.transfer, source, ExportStreamEndpoint(stream="from", media_type=octets))
        return b"".join([chunk async for chunk in back.receive_bytes()])


async def transfer(world: World) -> None:
    """Pairs of ends: registry to store, store to another name, to a registry, to an archive, and archive to store."""
    service, streaming_ = world.client.transfer, world.client.streaming
    registry = RegistryEndpoint(reference=world.tls_registry.reference("busybox"))
    pushed = RegistryEndpoint(reference=world.tls_registry.reference(f"pushed-{world.client.namespace}"))
    stored, tagged = ImageStoreEndpoint(name="stored/it:1", labels={"a": "b"}), ImageStoreEndpoint(name="tagged/it:1")
    async with world.client.hold_lease() as leased:
        await leased.transfer.transfer(registry, stored)
        await leased.transfer.transfer(stored, tagged)
        await leased.transfer.transfer(tagged, pushed)
    archive = b""
    async with streaming_.open("archive") as stream, anyio.create_task_group() as group:
        group.start_soon(service.transfer, tagged, ExportStreamEndpoint(stream="archive", all_platforms=True))
        async with aclosing(stream.receive_bytes()) as received:
            while not archive.endswith(END_OF_TAR):  # the stream has no end of its own
                archive += await anext(received)
    await (await world.client.load_image("tagged/it:1")).delete(synchronous=True)

    async def chunks() -> AsyncIterator[bytes]:
        yield archive

    async with streaming_.open("back") as stream, anyio.create_task_group() as group:
        group.start_soon(stream.send_bytes, chunks())
        await service.transfer(ImportStreamEndpoint(stream="back"), ImageStoreEndpoint(name="imported"))
    found = {image.name: image for image in await world.client.list_images()}
    assert sorted(found) == ["imported", "stored/it:1"]
    assert await found["imported"].diff_ids() == await found["stored/it:1"].diff_ids()
    for image in found.values():
        await image.delete(synchronous=True)


async def tasks(world: World) -> None:
    """Create, start, watch, freeze, limit, enter, end and delete a task."""
    service, client = world.client.tasks, world.client
    image = await client.pull(world.images.busybox, via="client")
    async with (
        deleting(image),
        deleting(await client.create_container(image=image, args=["sleep", "1000"])) as container,
    ):
        record = await container.record()
        mounts = await client.snapshotter(record.snapshotter).mounts(record.snapshot_key)
        pid = await service.create(container.id, rootfs=mounts)
        assert await service.start(container.id) == pid
        assert [(await service.get(container.id)).pid, (await service.list())[0].pid] == [pid, pid]
        assert [process.pid for process in await service.list_pids(container.id)] == [pid]
        assert [sample.id for sample in await service.metrics([where("id").equals(container.id)])] == [container.id]
        await service.checkpoint(container.id)
        await service.pause(container.id)
        await service.resume(container.id)
        limits = TypedValue(
            type_url="types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
            value=json.dumps({"pids": {"limit": 77}}).encode(),
        )
        await service.update(container.id, resources=limits)
        await enter(world, container.id)
        await service.kill(container.id, signal.SIGKILL)
        assert (await service.wait(container.id)).code == 137
        assert (await service.delete(container.id)).code == 137


async def enter(world: World, container: str) -> None:
    """Run an exec with a terminal to its end."""
    service = world.client.tasks
    process = {"args": ["cat"], "cwd": "/", "terminal": True, "env": ["PATH=/bin"]}
    spec = TypedValue(
        type_url="types.containerd.io/opencontainers/runtime-spec/1/Process", value=json.dumps(process).encode()
    )
    async with open_fifos(terminal=True) as io:
        names = attrs.asdict(io.config, filter=attrs.filters.include("terminal", "stdin", "stdout", "stderr"))
        await service.exec(container, exec_id="e", spec=spec, **names)
        await service.start(container, exec_id="e")
        await io.release(lambda: service.close_io(container, exec_id="e"))
        await service.resize_pty(container, exec_id="e", width=80, height=25)
        await service.close_io(container, exec_id="e")
        await service.kill(container, signal.SIGKILL, exec_id="e")
        assert (await service.wait(container, exec_id="e")).code == 137
        assert (await service.delete_process(container, exec_id="e")).code == 137


async def sandbox_store(world: World) -> None:
    """Create, find, change in part and delete a record."""
    service = world.client.sandboxes.store
    record = await service.create(SandboxRecord(id="s", runtime=RUNC, spec=SPEC, labels={"a": "b"}))
    assert await service.get("s") == record
    assert await service.list([where("labels", "a").exists()]) == [record]
    changed = await service.update(attrs.evolve(record, labels={"a": "c"}), fields=["labels.a"])
    assert changed.labels == {"a": "c"}
    await service.delete("s")


async def sandbox_controller(world: World) -> None:
    """A sandbox of a shim that runs one lives, is asked about, and ends."""
    store, controller = world.client.sandboxes.store, world.client.sandboxes.controller
    shim = world.folder / "containerd-shim-pause-v1"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {pause_shim.__file__} "$@"\n')
    shim.chmod(0o755)
    record = await store.create(SandboxRecord(id="s", runtime=Runtime(name=str(shim)), spec=SPEC))
    await controller.create(record)
    started = await controller.start("s")
    status = await controller.status("s", verbose=True)
    assert (status.pid, status.state, status.info) == (started.pid, "SANDBOX_READY", {"is": "it"})
    with pytest.raises(UnimplementedError):
        await controller.platform("s")
    if world.line == "2.1":
        sample = await controller.metrics("s")
        assert sample is not None
        assert sample.data == TypedValue(type_url=pause_shim.METRIC_TYPE, value=pause_shim.METRIC)
        await controller.update(record, fields=["labels"])
    await controller.stop("s", grace=1)
    if world.line == "2.1":
        assert (await controller.wait("s")).code == 137
    else:
        with pytest.raises(TaskLostError):
            await controller.wait("s")
    await controller.shutdown("s")
    await store.delete("s")


async def version(world: World) -> None:
    """Ask for the version."""
    assert world.line in (await world.client.version()).version


async def health(world: World) -> None:
    """A daemon that runs serves."""
    assert await world.client.services.health.check() == "serving"


SCENARIOS: Final[dict[str, Callable[[World], Awaitable[None]]]] = {
    "containerd.services.containers.v1.Containers": containers,
    "containerd.services.content.v1.Content": content,
    "containerd.services.diff.v1.Diff": diff,
    "containerd.services.events.v1.Events": events,
    "containerd.services.images.v1.Images": images,
    "containerd.services.introspection.v1.Introspection": introspection,
    "containerd.services.leases.v1.Leases": leases,
    "containerd.services.namespaces.v1.Namespaces": namespaces,
    "containerd.services.sandbox.v1.Controller": sandbox_controller,
    "containerd.services.sandbox.v1.Store": sandbox_store,
    "containerd.services.snapshots.v1.Snapshots": snapshots,
    "containerd.services.streaming.v1.Streaming": streaming,
    "containerd.services.tasks.v1.Tasks": tasks,
    "containerd.services.transfer.v1.Transfer": transfer,
    "containerd.services.version.v1.Version": version,
    "grpc.health.v1.Health": health,
}


def served(service: str, line: str) -> set[str]:
    """Return the routes of a service that a line serves."""
    routes = {*model.rpcs(model.load(outputs.DESCRIPTOR_SET)), HEALTH}
    firsts = {route: "1.6" if route == HEALTH else first_line(route) for route in routes}
    return {
        route
        for route, first in firsts.items()
        if first and route.startswith(f"/{service}/") and LINES.index(first) <= LINES.index(line)
    }


@pytest.mark.parametrize("service", SCENARIOS)
async def test_every_rpc_is_called_and_answered(world: World, service: str) -> None:
    """Exactly what the line serves is called, and answered well but for what no daemon of the line can answer."""
    expected = served(service, world.line)
    with recorded_rpcs() as outcomes:
        if expected:
            await SCENARIOS[service](world)
        else:
            with pytest.raises(NotSupportedError):
                await SCENARIOS[service](world)
    called = {route for route in outcomes if route.startswith(f"/{service}/")}
    if expected:
        assert called == expected
        poorly = {route for route in called if ANSWERED not in outcomes[route]}
        assert poorly == {route for route, line in UNANSWERABLE if line in {"", world.line} and route in expected}


def test_every_service_has_its_scenario() -> None:
    """No RPC that a client can call is left out."""
    known = {rpc for rpc in model.rpcs(model.load(outputs.DESCRIPTOR_SET)) if first_line(rpc)}
    assert known | {HEALTH} == set().union(*(served(service, LINES[-1]) for service in SCENARIOS))
