"""Containers, runs and execs under cancellation and a daemon that dies: nothing is left, the next call works."""

from functools import partial

import anyio
import pytest

from containerd_py import Client, Image, connect, deleting, for_each
from containerd_py._flows.exits import wait_for_exit
from containerd_py.errors import TaskLostError, UnavailableError
from containerd_py.services.tasks import TaskState
from tests.harness.cancel import Mode, Tally, sweep

SLEEP = ["/bin/sleep", "1000"]
EVERY = 4  # the storm session visits every point


async def left(client: Client) -> dict[str, list[str]]:
    """Name what a flow may have left, once shims have gone."""
    for _ in range(40):
        found = {
            "containers": [record.id for record in await client.containers.list()],
            "tasks": [task.id for task in await client.tasks.list()],
            "snapshots": [s.name for s in await client.snapshotter("overlayfs").list() if not s.is_committed],
            "leases": [lease.id for lease in await client.leases.list()],
        }
        if not any(found.values()):
            break
        await anyio.sleep(0.05)
    return {what: names for what, names in found.items() if names}


@pytest.fixture
def every(request: pytest.FixtureRequest) -> int:
    return 1 if request.config.getoption("--storm", default=False) else EVERY


@pytest.mark.timeout(600)
@pytest.mark.parametrize("flow_name", ["create_container", "run", "exec", "connect"])
async def test_cancelled_anywhere_nothing_is_left(client: Client, busybox: Image, flow_name, every: int, daemon):
    """Cancelled at any suspension point, in any way, a flow leaves nothing and the same flow then succeeds."""

    async def create_container() -> None:
        async with deleting(await client.create_container(image=busybox, args=SLEEP)):
            pass

    async def run() -> None:
        assert (await client.run(busybox, ["/bin/cat"], input=b"x")).stdout == b"x"

    async def connecting() -> None:
        async with connect(daemon.address, namespace=client.namespace) as other:
            await other.version()

    tally = Tally()
    async with client.open_run(busybox, SLEEP, id="host") as task:

        async def exec_in_host() -> None:
            assert (await task.run_exec(["/bin/cat"], input=b"x")).stdout == b"x"

        flows = {"create_container": create_container, "run": run, "exec": exec_in_host, "connect": connecting}
        modes = tuple(Mode) if every == 1 else (Mode.SCOPE, Mode.TASK)
        async for outcome in sweep(flows[flow_name], every=every, modes=modes):
            outcome.check()
            tally.add(outcome)
            if flow_name == "exec":
                for _ in range(40):
                    if len(await task.pids()) == 1:
                        break
                    await anyio.sleep(0.05)
                assert len(await task.pids()) == 1, outcome
        await flows[flow_name]()
    assert tally.delivered > 0, str(tally)
    assert await left(client) == {}


async def test_a_daemon_killed_in_mid_run_is_a_typed_error(own_daemon, namespace: str, seeded_images, daemon_line: str):
    """The daemon dies amid runs: each ends with its result or a typed error; the next succeeds."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        image = await client.pull(seeded_images.busybox, via="client")
        outcomes: list[object] = []

        async def one(number: int) -> None:
            try:
                completed = await client.run(image, ["/bin/sh", "-c", f"sleep 1; echo {number}"])
                outcomes.append(completed.stdout)
            except (UnavailableError, TaskLostError) as error:
                outcomes.append(error)

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(one, number)
            while [task.state for task in await client.tasks.list()] != [TaskState.RUNNING] * 4:
                await anyio.sleep(0.02)
            await own_daemon.kill()
            await own_daemon.restart()
        told = {outcome for outcome in outcomes if isinstance(outcome, bytes)}
        assert len(outcomes) == 4
        assert told <= {f"{number}\n".encode() for number in range(4)}
        assert (await client.run(image, ["/bin/echo", "again"])).stdout == b"again\n"
        await image.delete(synchronous=True)


async def test_what_a_dead_daemon_could_not_undo_goes_in_order(own_daemon, namespace: str, seeded_images):
    """A run that ends while the daemon is down is undone when it is back: the task, then its container."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        image = await client.pull(seeded_images.busybox, via="client")
        with pytest.raises(RuntimeError, match="the flow"):
            async with client.open_run(image, SLEEP):
                await own_daemon.kill()
                raise RuntimeError("the flow failed")
        debts = client.services.connection.debts
        assert len(debts) >= 2
        await own_daemon.restart()
        with anyio.fail_after(60):
            while debts:  # each flow pays for two seconds at most
                async with client.hold_lease():
                    pass
        assert await left(client) == {}
        await image.delete(synchronous=True)


async def test_a_wait_survives_a_restart(own_daemon, namespace: str, seeded_images):
    """A daemon that restarts under a running task loses no waiter: the exit is told all the same."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        image = await client.pull(seeded_images.busybox, via="client")
        async with client.open_run(image, ["/bin/sh", "-c", "read line; exit 6"], stdin=True) as task:
            statuses: list[int] = []

            async def wait(_: int) -> None:
                statuses.append((await task.wait()).code)

            async with anyio.create_task_group() as group:
                group.start_soon(for_each, range(3), wait)
                await anyio.sleep(0.1)
                await own_daemon.kill()
                await own_daemon.restart()
                assert task.stdin is not None
                await task.stdin.send(b"go\n")
            assert statuses == [6, 6, 6]
        await image.delete(synchronous=True)


async def test_two_hundred_waits_try_for_the_daemon_as_one(
    own_daemon, namespace: str, seeded_images, monkeypatch: pytest.MonkeyPatch
):
    """While the daemon is away 200 waits make a handful of attempts to connect, and all of them learn the exit."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        image = await client.pull(seeded_images.busybox, via="client")
        channel, attempts = client.services.connection.channel, list[float]()
        connect_once = channel._create_connection

        async def counted():
            attempts.append(anyio.current_time())
            return await connect_once()

        monkeypatch.setattr(channel, "_create_connection", counted)
        async with client.open_run(image, ["/bin/sh", "-c", "read line; exit 6"], stdin=True) as task:
            codes: list[int] = []

            async def wait(_: int) -> None:
                codes.append((await wait_for_exit(client.services, task.id)).code)

            async with anyio.create_task_group() as group:
                group.start_soon(partial(for_each, range(200), wait, limit=200))
                await anyio.sleep(0.5)
                await own_daemon.kill()
                await anyio.sleep(2)
                assert 1 <= len(attempts) <= 12
                await own_daemon.restart()
                assert task.stdin is not None
                await task.stdin.send(b"go\n")
            assert codes == [6] * 200
            assert len(attempts) <= 16
        await image.delete(synchronous=True)
