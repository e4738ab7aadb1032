"""Pulls that are cancelled anywhere, and daemons that die under them: nothing is left, and the next pull succeeds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from containerd_py import Client, connect
from containerd_py.errors import NotFoundError, UnavailableError
from containerd_py.services.content_writer import CHUNK_SIZE
from tests.faults.layers import tar_layer
from tests.harness.cancel import Mode, Tally, sweep
from tests.harness.leaks import assert_namespace_empty
from tests.harness.registry import BLOBS, FaultyRegistry, open_registry
from tests.harness.registry_actions import Stall
from tests.integration.pulled import abort_ingests, left_in

MiB = 1024 * 1024
GC_SNAPSHOT = "containerd.io/gc.ref.snapshot.overlayfs"
EVERY = 3  # the storm session visits every point


@pytest.fixture
async def registry() -> AsyncIterator[FaultyRegistry]:
    async with open_registry() as registry:
        yield registry


async def delete(client: Client, name: str) -> None:
    """Delete an image, or make sure that there is none."""
    try:
        await client.images.delete(name, synchronous=True)
    except NotFoundError:
        throwaway = await client.leases.create("collects")
        await client.leases.delete(throwaway.id, synchronous=True)


async def sweep_pull(client: Client, daemon, ref: str, via: str, every: int) -> Tally:
    """Cancel a pull at every so many of its suspension points, and look at what is left each time."""

    async def flow() -> None:
        await client.pull(ref, via=via)

    tally = Tally()
    modes = tuple(Mode) if every == 1 else (Mode.SCOPE, Mode.TASK)
    async for outcome in sweep(flow, every=every, modes=modes):
        outcome.check()
        tally.add(outcome)
        left = await left_in(client)
        assert left.leases == 0
        for _ in range(40):  # the daemon ends a transfer and its snapshots a moment after we have left it
            if not left.unfinished:
                break
            await delete(client, ref)
            await anyio.sleep(0.05)
            left = await left_in(client)
        assert left.unfinished == 0, outcome
        await delete(client, ref)
        await abort_ingests(client)  # what a client-side pull has fetched is kept for the next one
    await delete(client, ref)
    await assert_namespace_empty(daemon, client.namespace)
    return tally


@pytest.fixture
def every(request: pytest.FixtureRequest) -> int:
    return 1 if request.config.getoption("--storm", default=False) else EVERY


@pytest.mark.timeout(900)
async def test_a_pull_cancelled_anywhere_leaves_nothing(client: Client, daemon, registry: FaultyRegistry, every: int):
    """Cancelled at any suspension point, in any way, a client-side pull leaves nothing and the same pull succeeds."""
    registry.add_image([tar_layer("a"), tar_layer("b", 300_000, seed=1)], compress=True)
    ref = registry.reference("library/test:latest")
    tally = await sweep_pull(client, daemon, ref, "client", every)
    assert tally.delivered > 10, str(tally)


@pytest.mark.timeout(900)
@pytest.mark.lines("2.1")
async def test_a_transfer_cancelled_anywhere_leaves_nothing(
    client: Client, daemon, registry: FaultyRegistry, every: int
):
    """Cancelled at any suspension point, a pull by transfer leaves nothing, here or at the daemon."""
    registry.add_image([tar_layer("a"), tar_layer("b", 300_000, seed=1)], compress=True)
    ref = registry.reference("library/test:latest")
    tally = await sweep_pull(client, daemon, ref, "transfer", every)
    assert tally.delivered > 10, str(tally)


@pytest.mark.timeout(900)
async def test_unpacking_cancelled_anywhere_leaves_nothing(client: Client, registry: FaultyRegistry, every: int):
    """Cancelled at any suspension point, in any way, unpacking leaves no unfinished snapshot and no lease."""
    registry.add_image([tar_layer("a"), tar_layer("b", 300_000, seed=1)], compress=True)
    image = await client.pull(registry.reference("library/test:latest"), unpack=False, via="client")
    tally = Tally()
    modes = tuple(Mode) if every == 1 else (Mode.SCOPE, Mode.TASK)
    async for outcome in sweep(image.unpack, every=every, modes=modes):
        outcome.check()
        tally.add(outcome)
        left = await left_in(client)
        assert (left.leases, left.unfinished) == (0, 0), outcome
        await client.content.update((await image.manifest()).config.digest, {GC_SNAPSHOT: ""})
        await delete(client, "no image: collects the snapshots")
        assert (await left_in(client)).snapshots == {}
    assert tally.delivered > 5, str(tally)
    await image.unpack()
    await image.delete(synchronous=True)


@pytest.fixture
async def interrupted(own_daemon, namespace: str) -> AsyncIterator[Client]:
    async with connect(own_daemon.address, namespace=namespace) as client:
        yield client


async def test_a_daemon_killed_in_mid_pull(own_daemon, interrupted: Client, registry: FaultyRegistry):
    """SIGKILL of the daemon is a typed error, though the registry is silent; the next pull resumes."""
    client = interrupted
    registry.add_image([tar_layer("a"), tar_layer("b", 8 * MiB, seed=1)])
    ref = registry.reference("library/test:latest")
    large = max(registry.content.repository("library/test").blobs.items(), key=lambda item: len(item[1]))[0]
    stall = registry.fault(Stall(4 * MiB), path=large, nth=1)
    is_killed = False
    with anyio.fail_after(30), pytest.raises(UnavailableError):
        async with client.open_pull(ref, via="client") as pull:
            async for progress in pull:
                if progress.progress >= 4 * MiB and not is_killed:
                    is_killed = True
                    await own_daemon.kill()
    stall.assert_fired(1)
    await own_daemon.restart()
    image = await client.pull(ref, via="client")
    assert await image.is_unpacked()
    resumed = registry.blob_requests(large)[-1].headers.get("Range") or "bytes=0-"
    assert int(resumed.removeprefix("bytes=").removesuffix("-")) >= 4 * MiB - 2 * CHUNK_SIZE
    left = await left_in(client)
    assert (left.leases, left.unfinished, left.ingests) == (0, 0, 0)
    await image.delete(synchronous=True)


async def test_a_folder_that_a_dead_daemon_left_is_no_obstacle(
    own_daemon, interrupted: Client, registry: FaultyRegistry
):
    """A daemon killed while it made a snapshot finds its folder in the way of the next one, and gets over it."""
    registry.add_image([tar_layer("a"), tar_layer("b", seed=1)])
    folder = own_daemon.root / "io.containerd.snapshotter.v1.overlayfs" / "snapshots"
    left = [folder / str(number) / "fs" / "left" for number in (1, 2)]
    for each in left:
        each.mkdir(parents=True)
    image = await interrupted.pull(registry.reference("library/test:latest"), via="client")
    assert await image.is_unpacked()
    assert not any(each.exists() for each in left)
    await image.delete(synchronous=True)


@pytest.mark.lines("2.1")
async def test_a_daemon_killed_in_mid_transfer(own_daemon, interrupted: Client, registry: FaultyRegistry):
    """SIGKILL of the daemon that pulls itself: typed, no lease is left, and the next pull succeeds."""
    client = interrupted
    registry.add_image([tar_layer("a"), tar_layer("b", 8 * MiB, seed=1)])
    ref = registry.reference("library/test:latest")
    stall = registry.fault(Stall(MiB), path=BLOBS, nth=(2, 3))
    with pytest.raises(UnavailableError):
        async with client.open_pull(ref, via="transfer") as pull, anyio.create_task_group() as group:

            async def kill() -> None:
                await stall.wait_fired()
                await own_daemon.kill()

            group.start_soon(kill)
            await pull.wait()
    await own_daemon.restart()
    registry.clear()
    image = await client.pull(ref, via="transfer")
    assert await image.is_unpacked()
    await delete(client, "what the dead daemon had prepared goes with a collection")
    left = await left_in(client)
    assert (left.leases, left.unfinished, left.ingests) == (0, 0, 0)
    await image.delete(synchronous=True)
