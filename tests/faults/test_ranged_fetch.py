"""Large layers in several ranges at once: the same content, resumed, bounded, whatever the registry makes of ranges."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from containerd_py import Client, Registry
from containerd_py.errors import DigestMismatchError, RegistryError, SizeMismatchError
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.types import Descriptor
from tests.faults.layers import tar_layer
from tests.harness.cancel import Mode, Tally, sweep
from tests.harness.registry import BLOBS, FaultyRegistry, open_registry
from tests.harness.registry_actions import Corrupt, Drop, IgnoreRange, Lengthen, Respond, SetHeaders, Stall
from tests.integration.pulled import left_in

pytestmark = pytest.mark.lines("2.1")

MIB = 1024 * 1024
CHUNK = 256 * 1024
LIMITS = RegistryLimits(
    stall_timeout=0.5, first_backoff=0.01, max_backoff=0.05, layer_parallelism=4, layer_chunk_size=CHUNK
)
RANGED = Registry(limits=LIMITS)


@pytest.fixture
async def registry() -> AsyncIterator[FaultyRegistry]:
    async with open_registry() as registry:
        registry.add_image([tar_layer("file", 3 * MIB + 17)])
        yield registry


@pytest.fixture
def layer(registry: FaultyRegistry) -> Descriptor:
    blobs = registry.content.repository("library/test").blobs
    digest = max(blobs, key=lambda name: len(blobs[name]))
    return Descriptor(media_type="application/vnd.oci.image.layer.v1.tar", digest=digest, size=len(blobs[digest]))


async def pull_and_delete(client: Client, registry: FaultyRegistry) -> None:
    image = await client.pull(registry.reference("library/test"), registry=RANGED, via="client")
    assert await image.is_unpacked()
    left = await left_in(client)
    assert (left.leases, left.ingests, left.unfinished) == (0, 0, 0)
    await image.delete(synchronous=True)


def asked_ranges(registry: FaultyRegistry, layer: Descriptor) -> list[tuple[int, int]]:
    asked = [each.headers.get("Range").removeprefix("bytes=") for each in registry.blob_requests(layer.digest)]
    return sorted((int(first), int(last or layer.size - 1)) for first, _, last in (one.partition("-") for one in asked))


async def test_ranges_cover_the_layer_once(client: Client, registry: FaultyRegistry, layer: Descriptor):
    """The ranges follow one another without gap or overlap, and small blobs come in one piece."""
    await pull_and_delete(client, registry)
    ranges = asked_ranges(registry, layer)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == layer.size - 1
    assert all(before[1] + 1 == after[0] for before, after in pairwise(ranges))
    assert registry.served(layer.digest) == layer.size
    assert len([each for each in registry.blob_requests() if "Range" not in each.headers]) == 1  # the configuration


async def test_no_more_ranges_at_once_than_said(client: Client, registry: FaultyRegistry, layer: Descriptor):
    """While the first range does not come to its end, no more are begun than may be under way."""
    registry.fault(Stall(CHUNK // 2), path=layer.digest, nth=1)
    with pytest.raises(RegistryError):
        await client.pull(registry.reference("library/test"), registry=RANGED, via="client")
    assert len(registry.blob_requests(layer.digest)) <= LIMITS.layer_parallelism
    registry.clear()
    await pull_and_delete(client, registry)


@pytest.mark.parametrize("nth", [1, 2, (2, 3, 5, 7)])
async def test_broken_ranges_are_resumed(client: Client, registry: FaultyRegistry, layer: Descriptor, nth):
    """A range whose connection breaks goes on at its exact byte, to its own end."""
    registry.fault(Drop(CHUNK // 3), path=layer.digest, nth=nth)
    await pull_and_delete(client, registry)
    registry.assert_all_fired()
    assert registry.served(layer.digest) == layer.size


async def test_an_interrupted_pull_goes_on(client: Client, registry: FaultyRegistry, layer: Descriptor):
    """A pull that failed in the middle of a layer is resumed where the content store has got to."""
    registry.fault(
        Respond(404), path=layer.digest, match=lambda request: f"bytes={4 * CHUNK}-" in request.headers.get("Range")
    )
    with pytest.raises(RegistryError):
        await client.pull(registry.reference("library/test"), registry=RANGED, via="client")
    (status,) = await client.content.list_statuses()
    assert status.offset == 4 * CHUNK
    registry.clear()
    registry.requests.clear()
    await pull_and_delete(client, registry)
    assert asked_ranges(registry, layer)[0][0] == 4 * CHUNK


async def test_registries_without_ranges(client: Client, registry: FaultyRegistry, layer: Descriptor):
    """A registry that sends everything at once is read in one piece, once."""
    registry.fault(IgnoreRange(), path=BLOBS)
    await pull_and_delete(client, registry)
    assert len(registry.blob_requests(layer.digest)) == 1
    assert registry.served(layer.digest) == layer.size


async def test_ranges_that_are_refused(client: Client, registry: FaultyRegistry, layer: Descriptor):
    """416 to every range ends in everything at once."""
    registry.fault(Respond(416), path=layer.digest, match=lambda request: "Range" in request.headers)
    await pull_and_delete(client, registry)


@pytest.mark.parametrize("told", [f"bytes 0-9/{3 * MIB}", "bytes 7-8/*", "nonsense", None])
async def test_ranges_that_are_not_what_was_asked_for(
    client: Client, registry: FaultyRegistry, layer: Descriptor, told: str | None
):
    """Another part than the one asked for is never taken for it."""
    registry.fault(SetHeaders({"Content-Range": told}), path=layer.digest, nth=3)
    with pytest.raises((RegistryError, SizeMismatchError)):
        await client.pull(registry.reference("library/test"), registry=RANGED, via="client")
    registry.clear()
    await pull_and_delete(client, registry)


async def test_wrong_bytes_in_a_range(client: Client, registry: FaultyRegistry, layer: Descriptor):
    """One wrong byte is a digest mismatch, leaves no ingest, and the next pull is right."""
    registry.fault(Corrupt(5), path=layer.digest, nth=4)
    with pytest.raises(DigestMismatchError):
        await client.pull(registry.reference("library/test"), registry=RANGED, via="client")
    assert await client.content.list_statuses() == []
    registry.clear()
    await pull_and_delete(client, registry)


async def test_ranges_that_are_too_long(client: Client, registry: FaultyRegistry, layer: Descriptor):
    """A range that goes on beyond its end is cut there: the rest is of no use."""
    registry.fault(Lengthen(MIB), path=layer.digest, nth=2)
    await pull_and_delete(client, registry)


@pytest.mark.timeout(900)
async def test_cancelled_anywhere(client: Client, registry: FaultyRegistry, request: pytest.FixtureRequest):
    """Cancelled at any suspension point, a pull in ranges leaves nothing but what the next one resumes."""
    every = 1 if request.config.getoption("--storm", default=False) else 12

    async def flow() -> None:
        await client.pull(registry.reference("library/test"), unpack=False, registry=RANGED, via="client")

    tally = Tally()
    modes = tuple(Mode) if every == 1 else (Mode.SCOPE, Mode.TASK)
    async for outcome in sweep(flow, every=every, modes=modes):
        outcome.check()
        tally.add(outcome)
        left = await left_in(client)
        assert left.leases == 0, outcome
        for record in await client.images.list():
            await client.images.delete(record.name, synchronous=True)
        throwaway = await client.leases.create("collects")
        await client.leases.delete(throwaway.id, synchronous=True)
    assert tally.delivered > 5, str(tally)
    await pull_and_delete(client, registry)
