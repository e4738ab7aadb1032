"""Imports store several layers at once: the next one is received while those before it are being committed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import anyio
import pytest

from containerd_py import Client
from containerd_py._flows import import_content
from containerd_py.errors import DigestMismatchError
from containerd_py.services.content_writer import ContentWriter
from tests.harness.leaks import assert_namespace_empty
from tests.unit.tars import Layout, chunked, tar_layer

pytestmark = pytest.mark.lines("2.1")  # the daemon has no part in it
COUNT = 5


@pytest.fixture
def layers() -> list[bytes]:
    return [tar_layer(f"file-{index}", os.urandom(50_000)) for index in range(COUNT)]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[anyio.CapacityLimiter]:
    """Let commits happen when the limiter has tokens."""
    limiter = anyio.CapacityLimiter(0)
    commit = ContentWriter.commit

    async def commit_at_the_gate(self: ContentWriter, **options) -> str:
        async with limiter:
            return await commit(self, **options)

    monkeypatch.setattr(ContentWriter, "commit", commit_at_the_gate)
    return limiter


def layout_of(layers: list[bytes]) -> Layout:
    made = Layout()
    made.image(layers=layers)
    return made


async def waiting(gate: anyio.CapacityLimiter, count: int) -> None:
    with anyio.fail_after(30):
        while gate.statistics().tasks_waiting < count:
            await anyio.sleep(0.01)


async def test_layers_do_not_wait_for_each_others_commit(client: Client, gate: anyio.CapacityLimiter, layers):
    """With no commit coming to its end, all layers arrive; then the import is what it is without that."""
    async with anyio.create_task_group() as group:
        group.start_soon(client.import_images, chunked(layout_of(layers).tar()))
        await waiting(gate, COUNT)
        gate.total_tokens = COUNT
    (image,) = await client.list_images()
    assert len(await client.content.list()) == COUNT + 2
    await image.delete(synchronous=True)


async def test_no_more_than_so_many_are_stored_at_once(
    client: Client, gate: anyio.CapacityLimiter, layers, monkeypatch
):
    """What has not been committed is bounded: beyond that the archive is not read on."""
    monkeypatch.setattr(import_content, "MAX_STORING", 2)
    async with anyio.create_task_group() as group:
        group.start_soon(client.import_images, chunked(layout_of(layers).tar()))
        await waiting(gate, 2)
        await anyio.sleep(0.2)
        assert gate.statistics().tasks_waiting == 2
        gate.total_tokens = COUNT
    (image,) = await client.list_images()
    await image.delete(synchronous=True)


async def test_a_layer_that_fails_ends_those_on_their_way(client: Client, daemon, gate: anyio.CapacityLimiter, layers):
    """The failure of one is the import's, and the ingests of all others go with it."""
    made = layout_of(layers)
    path = [path for path, data in made.blobs.items() if data in layers][-1]
    made.blobs[path] = made.blobs[path][:-1] + b"x"
    failures: list[BaseException] = []

    async def load() -> None:
        try:
            await client.import_images(chunked(made.tar()))
        except DigestMismatchError as error:
            failures.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(load)
        await waiting(gate, COUNT)
        gate.total_tokens = COUNT
    assert len(failures) == 1
    await assert_namespace_empty(daemon, client.namespace)


async def test_an_import_that_is_left_leaves_no_ingest(client: Client, daemon, gate: anyio.CapacityLimiter, layers):
    """Layers that wait for their commit are given up with the import."""
    async with anyio.create_task_group() as group:
        group.start_soon(client.import_images, chunked(layout_of(layers).tar()))
        await waiting(gate, COUNT)
        group.cancel_scope.cancel()
    assert not await client.content.list_statuses()
    await assert_namespace_empty(daemon, client.namespace)


async def test_layers_that_are_the_same_are_stored_once(client: Client, gate: anyio.CapacityLimiter, layers):
    """Files of one content at several paths, on their way at the same time, are one blob in the end."""
    made = layout_of([*layers[:1], *layers])
    extra = {f"extra/{index}": layers[0] for index in range(2)}
    made.blobs.update(extra)
    async with anyio.create_task_group() as group:
        group.start_soon(client.import_images, chunked(made.tar()))
        await waiting(gate, COUNT)
        gate.total_tokens = 1
    (image,) = await client.list_images()
    assert len(await client.content.list()) == COUNT + 2
    assert not await client.content.list_statuses()
    await image.delete(synchronous=True)
