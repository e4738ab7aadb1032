"""Containers, their tasks and execs, one step at a time."""

import json
import signal
from typing import Any

import anyio
import pytest

from containerd_py import (
    NULL_IO,
    Client,
    Container,
    Daemon,
    Image,
    attach_fifos,
    connect,
    deleting,
    log_file,
    open_fifos,
)
from containerd_py.errors import (
    AlreadyExistsError,
    ContainerdError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ProcessExitError,
    TaskLostError,
)
from containerd_py.oci.spec_options import with_hostname, with_memory_limit
from containerd_py.services.tasks import TaskState
from containerd_py.typeurl import TypedValue

SLEEP = ["/bin/sleep", "1000"]


async def test_a_container_is_a_record_a_snapshot_and_a_spec(client: Client, busybox: Image):
    """create_container makes a snapshot on the image, a hardened spec, and a record that names both."""
    extension = TypedValue(type_url="test.example/kind", value=b"\x00data")
    container = await client.create_container(
        "whole", image=busybox, args=SLEEP, labels={"a": "b"}, extensions={"mine": extension}
    )
    async with deleting(container):
        record = await container.record()
        assert (record.id, record.image, record.snapshotter, record.snapshot_key) == (
            "whole",
            busybox.name,
            "overlayfs",
            "whole",
        )
        assert record.labels["a"] == "b"
        assert record.labels["io.containerd.image.config.stop-signal"] == "SIGTERM"
        assert record.extensions == {"mine": extension}
        assert (await client.snapshotter("overlayfs").stat("whole")).parent == await busybox.chain_id()
        spec = await container.spec()
        assert spec["process"]["noNewPrivileges"] is True
        assert spec["linux"]["cgroupsPath"] == f"/{client.namespace}/whole"
        assert (await container.image()).name == busybox.name
        assert [found.id for found in await client.list_containers(['id=="whole"'])] == ["whole"]
        assert (await client.load_container("whole")).id == "whole"
    with pytest.raises(NotFoundError):
        await client.load_container("whole")
    with pytest.raises(NotFoundError):
        await client.snapshotter("overlayfs").stat("whole")


async def test_a_taken_id_leaves_the_first_alone(client: Client, busybox: Image):
    """A second container of the same ID is refused, and the first keeps its snapshot and record."""
    async with deleting(await client.create_container("taken", image=busybox, args=SLEEP)) as first:
        with pytest.raises(AlreadyExistsError):
            await client.create_container("taken", image=busybox, args=SLEEP)
        assert (await first.record()).id == "taken"
        assert (await client.snapshotter("overlayfs").stat("taken")).name == "taken"


async def test_labels_and_updates(client: Client, busybox: Image):
    """set_labels changes just those labels; update replaces whole parts."""
    container = await client.create_container(image=busybox, args=SLEEP, labels={"a": "1", "b": "2"})
    async with deleting(container):
        labels = await container.set_labels({"a": "", "c": "3"})
        assert {key: value for key, value in labels.items() if len(key) == 1} == {"b": "2", "c": "3"}
        spec = await container.spec()
        spec["hostname"] = "renamed"
        spec["unknown"] = {"kept": True}  # type: ignore[typeddict-unknown-key]
        await container.update(spec=spec)
        again = await container.spec()
        assert again["hostname"] == "renamed"
        assert again["unknown"] == {"kept": True}  # type: ignore[typeddict-item]


async def test_a_container_with_a_task_is_not_deleted(client: Client, busybox: Image):
    """A task, even one that has ended, keeps its container from being deleted."""
    async with (
        deleting(await client.create_container(image=busybox, args=["/bin/true"])) as container,
        deleting(await container.create_task()) as task,
    ):
        await task.start()
        await task.wait()
        with pytest.raises(FailedPreconditionError, match="task"):
            await container.delete()


async def test_a_task_goes_through_its_states(client: Client, busybox: Image):
    """created, running, paused, running, stopped; each step is seen by another handle."""
    async with (
        deleting(await client.create_container(image=busybox, args=SLEEP)) as container,
        deleting(await container.create_task(io=NULL_IO)) as task,
    ):
        assert (await task.status()).state is TaskState.CREATED
        await task.start()
        other = await container.load_task()
        assert other.pid == task.pid
        assert (await other.status()).state is TaskState.RUNNING
        await other.pause()
        assert (await task.status()).state is TaskState.PAUSED
        await other.resume()
        assert task.pid in [process.pid for process in await task.pids()]
        with pytest.raises(FailedPreconditionError):
            await task.delete()
        await task.kill("TERM")  # sleep is PID 1 there and ignores what it does not handle
        await task.kill(signal.SIGKILL)
        assert (await other.wait()).code == 137
        assert (await task.status()).state is TaskState.STOPPED
        with pytest.raises(NotFoundError):
            await task.kill()
        assert (await task.delete()).code == 137


async def test_waiting_for_a_deleted_task_never_hangs(client: Client, busybox: Image):
    """Once the daemon knows the task no longer, a new wait says that its end is lost."""
    async with deleting(await client.create_container(image=busybox, args=["/bin/true"])) as container:
        task = await container.create_task()
        await task.start()
        await task.wait()
        other = await container.load_task()
        await task.delete()
        assert (await task.wait()).code == 0  # it had been waited for in time
        with anyio.fail_after(5), pytest.raises(TaskLostError):
            await other.wait()


async def test_one_task_at_a_time(client: Client, busybox: Image):
    """A second task is refused and the first is not disturbed; after its end another may be created."""
    async with deleting(await client.create_container(image=busybox, args=SLEEP)) as container:
        async with deleting(await container.create_task()) as task:
            with pytest.raises(AlreadyExistsError):
                await container.create_task()
            assert (await task.status()).state is TaskState.CREATED
        async with deleting(await container.create_task()) as task:
            await task.start()
            assert (await task.status()).state is TaskState.RUNNING


async def test_terminal_of_spec_and_io_must_agree(client: Client, busybox: Image):
    """A terminal in one and not in the other is refused with what to do."""
    async with deleting(await client.create_container(image=busybox, args=SLEEP, terminal=True)) as container:
        with pytest.raises(FailedPreconditionError, match="terminal=True"):
            await container.create_task(io=NULL_IO)


async def test_handles_of_one_object_are_equal(client: Client, busybox: Image, daemon: Daemon):
    """Handles say whether they mean the same object: of another connection too, not of another namespace or target."""
    async with deleting(await client.create_container("same", image=busybox, args=SLEEP)) as container:
        assert await client.list_containers() == [container]
        assert {container, await client.load_container("same")} == {container}
        assert Container(client.in_namespace("elsewhere").services, "same") != container
        assert container not in {"same", busybox}
    assert await client.load_image(busybox.name) == busybox
    assert busybox in set(await client.list_images())
    async with connect(daemon.address, namespace=client.namespace) as other:
        assert await other.load_image(busybox.name) == busybox
    copy = await busybox.tag("other:name")
    async with deleting(copy):
        assert copy != busybox


async def test_what_is_no_io_is_refused(client: Client, busybox: Image):
    """The FIFOs themselves in the place of their configuration are refused with what to do."""
    async with (
        open_fifos() as io,
        deleting(await client.create_container("taken", image=busybox, args=SLEEP)) as container,
    ):
        with pytest.raises(InvalidArgumentError, match=r"`\.config`"):
            await container.create_task(io=io)  # type: ignore[arg-type]
        with pytest.raises(AlreadyExistsError, match="container ID 'taken' is taken"):
            await client.create_container("taken", image=busybox, args=SLEEP)


async def test_exec_has_its_own_everything(client: Client, busybox: Image):
    """An exec has its own arguments, environment, directory, user, input, output and exit code."""
    async with client.open_run(busybox, SLEEP, env={"A": "container", "B": "container"}) as task:
        result = await task.run_exec(
            ["/bin/sh", "-c", "echo $A $B $PWD $(id -u); cat; echo no >&2; exit 6"],
            env={"B": "exec"},
            cwd="/etc",
            user="nobody",
            input=b"typed",
            check=False,
        )
        first, rest = result.stdout.decode().split("\n", 1)
        assert first.startswith("container exec /etc ")
        assert first.split()[-1] != "0"
        assert (rest, result.stderr, result.exit_code) == ("typed", b"no\n", 6)
        with pytest.raises(ProcessExitError, match="exit code 6"):
            await task.run_exec(["/bin/sh", "-c", "exit 6"])


async def test_exec_ends_with_its_block(client: Client, busybox: Image):
    """An exec is killed and deleted when its block is left; the task runs on."""
    async with client.open_run(busybox, SLEEP) as task:
        async with task.open_exec(SLEEP, id="mine") as process:
            assert process.id == "mine"
            assert process.pid > 0
            assert (await process.status()).state is TaskState.RUNNING
            with pytest.raises(AlreadyExistsError):
                await task.run_exec(["/bin/true"], id="mine")
        with pytest.raises(NotFoundError):
            await process.status()
        assert (await task.status()).state is TaskState.RUNNING


@pytest.mark.lines("2.1")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"id": ""}, "exec ID"),  # an exec without an ID would be the task itself, and undoing it the task's end
        ({"id": "../mine"}, "exec ID"),
        ({"args": ["/bin/echo", 5]}, "process args: 5"),
        ({"args": b"/bin/true"}, "args must be a list"),
        ({"env": {"A": "b\0c"}}, "environment"),
        ({"input": "text"}, "input must be bytes"),
        ({"input": [b"a"]}, "input must be bytes"),
    ],
)
async def test_a_wrong_exec_is_refused_and_the_task_runs_on(
    client: Client, busybox: Image, wrong: dict[str, Any], message: str
):
    """What cannot be an exec is refused before anything is made, and the container's task runs on."""
    async with client.open_run(busybox, SLEEP) as task:
        with pytest.raises(InvalidArgumentError, match=message):
            await task.run_exec(**{"args": ["/bin/true"]} | wrong)
        assert (await task.status()).state is TaskState.RUNNING
        assert len(await task.pids()) == 1


@pytest.mark.lines("2.1")
async def test_an_exec_may_leave_a_child_behind(client: Client, busybox: Image):
    """A child that holds an exec's output open delays its deletion as long as the shim waits, and fails nothing."""
    async with client.open_run(busybox, SLEEP) as task:
        result = await task.run_exec(["/bin/sh", "-c", "sleep 40 & echo started"])
        assert (result.stdout, result.exit_code) == (b"started\n", 0)
        assert len(await task.pids()) == 2  # the child runs on


async def test_a_lent_exec_is_killed_at_the_end(client: Client, busybox: Image):
    """`deleting` ends an exec that runs, as it does a task."""
    async with client.open_run(busybox, SLEEP) as task:
        async with deleting(await task.create_exec(SLEEP, id="lent")) as process:
            await process.start()
        with pytest.raises(NotFoundError):
            await task.load_exec("lent")
        assert len(await task.pids()) == 1


async def test_exec_unsets_variables_as_a_container_does(client: Client, busybox: Image):
    """In `env` of an exec, as of a container, None takes a variable away."""
    async with client.open_run(busybox, SLEEP, env={"A": "container"}) as task:
        assert (await task.run_exec(["/bin/sh", "-c", "echo ${A-unset}"], env={"A": None})).stdout == b"unset\n"


async def test_exec_of_a_missing_command_leaves_nothing(client: Client, busybox: Image):
    """A command that is not there is named, and no exec stays behind."""
    async with client.open_run(busybox, SLEEP) as task:
        with pytest.raises(ContainerdError, match="no-such-command"):
            await task.run_exec(["/bin/no-such-command"])
        assert len(await task.pids()) == 1


async def test_short_execs_lose_no_output(client: Client, busybox: Image):
    """200 execs that end at once: every byte of each is there."""
    async with client.open_run(busybox, SLEEP) as task:
        for number in range(40):
            result = await task.run_exec(["/bin/echo", f"{number}" * 100])
            assert result.stdout == f"{number}".encode() * 100 + b"\n"


async def test_output_can_go_to_a_file(client: Client, busybox: Image, tmp_path):
    """log_file has the shim append both streams to a file."""
    log = tmp_path / "task.log"
    # The shim closes the file when stdout ends and loses what comes on stderr after: stderr first, then a moment.
    script = "echo err >&2; sleep 0.2; echo out"
    container = await client.create_container(image=busybox, args=["/bin/sh", "-c", script])
    async with deleting(container), deleting(await container.create_task(io=log_file(log))) as task:
        await task.start()
        await task.wait()
        await task.delete()
    assert sorted(log.read_text().splitlines()) == ["err", "out"]


async def test_another_reader_takes_over(client: Client, busybox: Image):
    """What one program started, another finds by its ID, reads on and waits for."""
    container = await client.create_container(
        image=busybox, args=["/bin/sh", "-c", "read line; echo got $line; exit 4"]
    )
    async with deleting(container), open_fifos() as io:
        task = await container.create_task(io=io.config)
        async with deleting(task):
            await task.start()
            found = await client.load_container(container.id)
            recorded = (await found.load_task()).io
            io.close()
            async with attach_fifos(recorded) as attached:
                other = await found.load_task(attached.config)
                assert other.stdin is not None
                assert other.stdout is not None
                await other.stdin.send(b"this\n")
                assert await other.stdout.receive() == b"got this\n"
                assert (await other.wait()).code == 4


async def test_metrics_and_limits(client: Client, busybox: Image):
    """Metrics are typed; a limit changed while the task runs is seen in them."""
    async with client.open_run(busybox, SLEEP, spec_options=[with_memory_limit(64 * 2**20)]) as task:
        metrics = await task.metrics()
        assert metrics.memory.limit == 64 * 2**20
        with anyio.fail_after(10):
            while (await task.metrics()).pids.current != 1:  # threads of runc's init, on their way out
                await anyio.sleep(0.01)
        assert metrics.cgroup_version in {1, 2}
        await task.update(resources={"memory": {"limit": 32 * 2**20}})
        assert (await task.metrics()).memory.limit == 32 * 2**20
    with pytest.raises(NotFoundError):
        await task.metrics()


async def test_spec_options_come_last(client: Client, busybox: Image):
    """Spec options see and may change everything."""
    completed = await client.run(busybox, ["/bin/hostname"], spec_options=[with_hostname("chosen")])
    assert completed.stdout == b"chosen\n"


async def test_a_terminal_is_resized(client: Client, busybox: Image):
    """A new size is seen inside."""
    async with client.open_run(busybox, ["/bin/sh", "-c", "read x; stty size"], stdin=True, terminal=True) as task:
        await task.resize(91, 37)
        assert task.stdin is not None
        assert task.stdout is not None
        await task.stdin.send(b"\n")
        out = b"".join([chunk async for chunk in task.stdout])
    assert b"37 91" in out


async def test_ctr_sees_our_container_and_we_see_its(client: Client, busybox: Image, ctr):
    """Containers are the same seen by ctr and by us, both ways: record, spec's essentials, snapshot, exit code."""
    async with deleting(await client.create_container("ours", image=busybox, args=["/bin/sleep", "1000"])) as container:
        info = json.loads(await ctr("containers", "info", "ours"))
        assert (info["ID"], info["Image"], info["SnapshotKey"], info["Snapshotter"]) == (
            "ours",
            busybox.name,
            "ours",
            "overlayfs",
        )
        async with deleting(await container.create_task()) as task:
            await task.start()
            assert f"ours {task.pid} RUNNING".split() in [
                line.split() for line in (await ctr("tasks", "ls")).splitlines()
            ]
            out = await ctr("tasks", "exec", "--exec-id", "theirs", "ours", "/bin/echo", "hello")
            assert out == "hello\n"
    await ctr(
        "run", "--detach", busybox.name, "theirs", "/bin/sh", "-c", "trap 'exit 8' TERM; while :; do sleep 0.05; done"
    )
    theirs = await client.load_container("theirs")
    ours_spec, their_spec = await _spec_of_ours(client, busybox), await theirs.spec()
    for key in ("capabilities", "rlimits", "noNewPrivileges", "cwd", "env", "user"):
        assert ours_spec["process"].get(key) == their_spec["process"].get(key), key  # type: ignore[misc]
    assert {m["destination"] for m in ours_spec["mounts"]} == {m["destination"] for m in their_spec["mounts"]}
    assert {n["type"] for n in ours_spec["linux"]["namespaces"]} >= {
        n["type"] for n in their_spec["linux"]["namespaces"]
    }
    task = await theirs.load_task()
    await anyio.sleep(0.3)
    assert (await task.stop()).code == 8
    await theirs.delete()
    assert await ctr("containers", "ls", "-q") == ""


async def _spec_of_ours(client: Client, busybox: Image):
    async with deleting(await client.create_container(image=busybox, args=["/bin/true"])) as container:
        return await container.spec()
