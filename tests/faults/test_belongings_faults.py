"""What containers have outside of the daemon, under cancellation and a daemon that dies: never left without them."""

from pathlib import Path

import anyio
import pytest

from containerd_py import Client, Image, connect, deleting, json_file_log
from containerd_py.errors import ContainerdError
from tests.harness.cancel import Mode, Tally, sweep

SLEEP = ["/bin/sleep", "1000"]
EVERY = 9  # the storm session visits every point


def belongings(data_root: Path) -> list[str]:
    """Name what lies in the directories of all containers and namespaces."""
    return [str(path.relative_to(data_root)) for path in data_root.glob("*/*/*/*")]


@pytest.fixture
def every(request: pytest.FixtureRequest) -> int:
    return 1 if request.config.getoption("--storm", default=False) else EVERY


@pytest.mark.lines("2.1")
@pytest.mark.timeout(600)
async def test_cancelled_anywhere_nothing_is_left(client: Client, busybox: Image, data_root: Path, every: int):
    """Cancelled at any point of its life, a container leaves no name, no directory, no volume and no log."""

    async def live() -> None:
        options = {"name": "web", "volumes": ["/own"]}
        async with (
            deleting(await client.create_container(image=busybox, args=SLEEP, **options)) as container,
            deleting(await container.create_task(io=json_file_log())) as task,
        ):
            await task.start()

    tally = Tally()
    async for outcome in sweep(live, every=every, modes=tuple(Mode) if every == 1 else (Mode.SCOPE, Mode.TASK)):
        outcome.check()
        tally.add(outcome)
        assert await client.list_containers() == [], outcome
        assert belongings(data_root) == [], outcome
    assert tally.delivered > 0, str(tally)
    await live()
    assert belongings(data_root) == []


@pytest.mark.lines("2.1")
async def test_a_daemon_that_dies_keeps_nothing_from_being_undone(
    own_daemon, namespace: str, seeded_images, data_root: Path
):
    """A container that was being made when the daemon died is gone when it is back, and its name can be taken."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        image = await client.pull(seeded_images.busybox, via="client")
        failures = []

        async def create(number: int) -> None:
            try:
                await client.create_container(image=image, args=SLEEP, name=f"web-{number}", volumes=["/own"])
            except ContainerdError as error:
                failures.append(error)

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(create, number)
            while not list(data_root.glob("*/containers/*/*")):
                await anyio.sleep(0.001)
            await own_daemon.kill()
            await own_daemon.restart()
        for left in await client.list_containers():
            await left.delete()
        assert await client.cleanup_state_directories() == []
        for number in range(8):
            await (await client.create_container(image=image, args=SLEEP, name=f"web-{number}")).delete()
        assert not list(data_root.glob("*/containers/*/*"))
        assert not list(data_root.glob("*/names/*/*"))
        await client.volumes.prune()
        assert await client.volumes.list() == []
        await image.delete(synchronous=True)
    assert failures
