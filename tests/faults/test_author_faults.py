"""Builds, commits and conversions that are cancelled, or lose their daemon: nothing is left, the next one succeeds."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, DirectoryLayer, Image, RunLayer, TarLayer, connect
from containerd_py.errors import UnavailableError
from containerd_py.services.tasks import TaskState
from tests.harness.cancel import Mode, Status, Tally, cancel_at, count_suspensions, sweep
from tests.integration.authored import EPOCH, application, busybox_tar

REF = "registry.example/made:1"
SLEEP = ["/bin/sleep", "1000"]
EVERY = {"build": 11, "run": 37, "commit": 11, "convert": 7}  # the storm session visits every point


async def left(client: Client) -> dict[str, list[str]]:
    """Name what a flow may have left, once shims have gone."""
    for _ in range(40):
        found = {
            "images": [record.name for record in await client.images.list([f"name=={REF}"])],
            "containers": [record.id for record in await client.containers.list() if record.id != "host"],
            "tasks": [task.id for task in await client.tasks.list() if task.id != "host"],
            "snapshots": [
                info.name
                for info in await client.snapshotter("overlayfs").list()
                if not info.is_committed and info.name != "host"
            ],
            "leases": [lease.id for lease in await client.leases.list()],
            "ingests": [status.ref for status in await client.content.list_statuses()],
        }
        if not any(found.values()):
            break
        await anyio.sleep(0.05)
    return {what: names for what, names in found.items() if names}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("flow_name", ["build", "run", "commit", "convert"])
async def test_cancelled_anywhere_nothing_is_left(
    client: Client, busybox: Image, flow_name: str, tmp_path: Path, request: pytest.FixtureRequest
):
    """Cancelled at any suspension point, a flow leaves no image, lease, snapshot or ingest, and no task frozen."""
    tar, root = busybox_tar(tmp_path), application(tmp_path)
    is_storm = request.config.getoption("--storm", default=False)
    tally = Tally()
    async with client.open_run(busybox, SLEEP, id="host") as task:

        async def build() -> None:
            await client.build_image(REF, layers=[TarLayer(tar), DirectoryLayer(root)], compression="zstd")

        async def run() -> None:
            layers = [RunLayer(["/bin/touch", "/made"])]
            await client.build_image(REF, base=busybox, layers=layers, source_date_epoch=EPOCH)

        async def commit() -> None:
            await client.commit("host", REF)

        async def convert() -> None:
            await client.convert_image(busybox.name, REF, compression="none")

        flows: dict[str, Callable[[], Awaitable[None]]] = {
            "build": build,
            "run": run,
            "commit": commit,
            "convert": convert,
        }
        modes = tuple(Mode) if is_storm else (Mode.SCOPE, Mode.TASK)
        async for outcome in sweep(flows[flow_name], every=1 if is_storm else EVERY[flow_name], modes=modes):
            outcome.check()
            if outcome.status is Status.FINISHED or outcome.point == 1:  # or what an undisturbed run before made
                await client.untag(REF, synchronous=True)
            tally.add(outcome)
            assert await left(client) == {}, outcome
            assert (await task.status()).state is TaskState.RUNNING, outcome
        await flows[flow_name]()
        image = await client.load_image(REF)
        if flow_name != "build":
            await busybox.delete(synchronous=True)
        assert (await image.check(verify=True)).is_whole
        assert (await client.run(image, ["/bin/echo", "made"])).stdout == b"made\n"
        await image.delete(synchronous=True)
    assert tally.delivered > 5, str(tally)
    assert await left(client) == {}


async def test_what_a_name_stood_for_comes_back(client: Client, busybox: Image, tmp_path: Path):
    """A build that is cancelled after it has taken a name over gives the name back to the image that had it."""
    before = await busybox.tag(REF)
    tar = busybox_tar(tmp_path)
    taken = 0

    async def build() -> None:
        await client.build_image(REF, layers=[TarLayer(tar)], source_date_epoch=EPOCH)

    last = await count_suspensions(build)
    await busybox.tag(REF)
    for point in range(max(1, last - 12), last + 1):
        outcome = await cancel_at(build, point, mode=Mode.TASK)
        outcome.check()
        target = (await client.images.get(REF)).target
        assert (target == before.target) == (outcome.status is Status.CANCELLED), outcome
        taken += outcome.status is Status.CANCELLED
        await busybox.tag(REF)
    assert taken
    await before.delete()


async def test_a_daemon_killed_in_mid_commit_leaves_nothing_frozen(own_daemon, namespace: str, seeded_images):
    """SIGKILL of the daemon while it reads a frozen container: a typed error; the task goes on with the next call."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        image = await client.pull(seeded_images.busybox, via="client")
        fill = "dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null; touch /full; sleep 1000"
        async with client.open_run(image, ["/bin/sh", "-c", fill]) as task:
            while (await task.run_exec(["/bin/test", "-e", "/full"], check=False)).exit_code:
                await anyio.sleep(0.05)
            async with anyio.create_task_group() as group:

                async def kill() -> None:
                    while not await client.content.list_statuses():
                        await anyio.sleep(0.01)
                    assert (await task.status()).state is TaskState.PAUSED
                    await own_daemon.kill()
                    await own_daemon.restart()

                group.start_soon(kill)
                with pytest.raises(UnavailableError):
                    await client.commit(task.id, REF)
            again = await client.commit(task.id, REF)
            assert (await task.status()).state is TaskState.RUNNING
            assert (await client.run(again, ["/bin/ls", "/full"])).stdout == b"/full\n"
        await again.delete()
        await image.delete(synchronous=True)
        assert await left(client) == {}
