"""Checkpoints and restores broken off anywhere: nothing is left, nobody stays frozen, the same call then works."""

import pytest

from containerd_py import Client, Image, deleting
from containerd_py.services.tasks import TaskState
from tests.faults.test_container_faults import left
from tests.harness.cancel import Mode, Tally, sweep

pytestmark = pytest.mark.lines("2.1")
SLEEP = ["/bin/sleep", "1000"]
REF = "example.org/saved:1"


@pytest.fixture
def every(request: pytest.FixtureRequest) -> int:
    return 1 if request.config.getoption("--storm", default=False) else 12


@pytest.mark.timeout(900)
@pytest.mark.parametrize("with_task", [False, True])
async def test_a_checkpoint_cancelled_anywhere(client: Client, busybox: Image, with_task: bool, every: int):
    """Cancelled at any suspension point, a checkpoint leaves no image and no lease, and the task runs on."""
    tally = Tally()
    async with (
        deleting(await client.create_container("saved", image=busybox, args=SLEEP)) as container,
        deleting(await container.create_task()) as task,
    ):
        await task.start()

        async def save() -> None:
            async with deleting(await container.checkpoint(REF, task=with_task)):
                pass

        async for outcome in sweep(save, every=every * 4 if with_task else every, modes=(Mode.SCOPE, Mode.TASK)):
            outcome.check()
            tally.add(outcome)
            assert (await task.status()).state is TaskState.RUNNING, outcome
            assert [image.name for image in await client.images.list() if image.name == REF] == [], outcome
            assert await client.leases.list() == [], outcome
        await save()
        await task.stop(grace=0)
    assert tally.delivered > 0, str(tally)
    assert await left(client) == {}


@pytest.mark.timeout(600)
async def test_a_restore_cancelled_anywhere(client: Client, busybox: Image, every: int):
    """Cancelled at any suspension point, a restore leaves neither record nor snapshot nor lease."""
    tally = Tally()
    async with deleting(await client.create_container("first", image=busybox, args=SLEEP)) as container:
        saved = await container.checkpoint(REF, task=False)
    async with deleting(saved):

        async def restore() -> None:
            async with deleting(await client.restore_container("second", saved)):
                pass

        async for outcome in sweep(restore, every=every, modes=(Mode.SCOPE, Mode.TASK)):
            outcome.check()
            tally.add(outcome)
            assert await left(client) == {}, outcome
        await restore()
    assert tally.delivered > 0, str(tally)
