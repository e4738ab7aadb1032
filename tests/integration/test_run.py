"""run and open_run: a container's whole life in one call."""

import hashlib
import signal
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from containerd_py import Client, Image, ProcessExitError, for_each
from containerd_py.errors import ContainerdError, InvalidArgumentError, NotFoundError
from containerd_py.oci.runtime_spec import Mount
from containerd_py.services.tasks import TaskState


async def test_output_and_exit_code_are_exact(client: Client, busybox: Image):
    """run returns what the process wrote, on the stream it wrote it to, its exit code and when it ended."""
    completed = await client.run(busybox, ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (completed.exit_code, completed.stdout, completed.stderr) == (3, b"out\n", b"err\n")
    assert completed.exited_at is not None
    assert abs(completed.exited_at.timestamp() - time.time()) < 60


async def test_a_failing_command_raises_with_its_output(client: Client, busybox: Image):
    """check turns a non-zero exit code into an error that has code and output."""
    with pytest.raises(ProcessExitError) as caught:
        await client.run(busybox, ["/bin/sh", "-c", "echo told; echo why >&2; exit 4"])
    assert (caught.value.exit_code, caught.value.stdout, caught.value.stderr) == (4, b"told\n", b"why\n")
    assert "why" in str(caught.value)


async def test_input_reaches_the_process_and_ends(client: Client, busybox: Image):
    """Input arrives byte for byte, and its end is seen."""
    data = bytes(range(256)) * 4096
    completed = await client.run(busybox, ["/bin/sh", "-c", "sha256sum; echo end"], input=data)
    assert completed.stdout == f"{hashlib.sha256(data).hexdigest()}  -\nend\n".encode()


async def test_input_nobody_reads_hinders_nothing(client: Client, busybox: Image):
    """A process need not read its input, however much there is."""
    completed = await client.run(busybox, ["/bin/true"], input=b"x" * (4 * 2**20))
    assert completed.exit_code == 0


async def test_empty_input_is_an_end(client: Client, busybox: Image):
    """Empty input is an end of input, not the lack of one."""
    assert (await client.run(busybox, ["/bin/cat"], input=b"")).stdout == b""


@pytest.mark.lines("2.1")
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"timeout": 5}, TypeError, "unexpected keyword argument 'timeout'"),
        ({"input": "text"}, InvalidArgumentError, "not str: encode it first"),
        ({"input": Path("file")}, InvalidArgumentError, "open files with anyio"),
        ({"spec_options": [None]}, InvalidArgumentError, "spec option None"),
        ({"image_or_ref": "127.0.0.1:1/none", "registry": "127.0.0.1:1"}, InvalidArgumentError, "must be a Registry"),
        ({"input": [b"a"]}, InvalidArgumentError, "input must be bytes"),
        ({"capture_limit": -1}, InvalidArgumentError, "capture_limit"),
        ({"args": b"/bin/true"}, InvalidArgumentError, "args must be a list"),
        ({"image_or_ref": None}, InvalidArgumentError, "an Image or a reference"),
        ({"labels": {"a": 5}}, InvalidArgumentError, "label 'a': 5 must be a string"),
        ({"mounts": ["/etc:/x"]}, InvalidArgumentError, "mount: '/etc:/x' must be a mapping"),
        ({"image_or_ref": 5}, InvalidArgumentError, "an Image or a reference"),
    ],
)
async def test_wrong_arguments_say_which(
    client: Client, busybox: Image, wrong: dict[str, Any], error: type[Exception], message: str
):
    """An argument that cannot be is refused by its name, never ignored, and nothing is made."""
    with pytest.raises(error, match=message):
        await client.run(**{"image_or_ref": busybox, "args": ["/bin/true"]} | wrong)


async def test_a_bind_mount_needs_no_option(client: Client, busybox: Image, tmp_path: Path):
    """A mount of type "bind" is one, whether or not its options say so once more."""
    (tmp_path / "file").write_text("here")
    mounts: list[Mount] = [{"destination": "/given", "type": "bind", "source": str(tmp_path), "options": ["ro"]}]
    script = "cat /given/file; touch /given/other 2>/dev/null || echo -n ' read-only'"
    assert (await client.run(busybox, ["/bin/sh", "-c", script], mounts=mounts)).stdout == b"here read-only"


async def test_a_burst_before_the_end_is_not_lost(client: Client, busybox: Image):
    """Everything written just before the exit arrives, however fast the task is deleted."""
    command = ["/bin/sh", "-c", "dd if=/dev/zero bs=64k count=40 2>/dev/null | tr '\\0' x"]
    for _ in range(5):
        assert (await client.run(busybox, command)).stdout == b"x" * (64 * 1024 * 40)


async def test_captured_output_can_be_bounded(client: Client, busybox: Image):
    """capture_limit keeps so much, drops the rest, says so, and lets the process end."""
    command = ["/bin/dd", "if=/dev/zero", "bs=1M", "count=8"]
    completed = await client.run(busybox, command, capture_limit=1000)
    assert (len(completed.stdout), completed.is_truncated, completed.exit_code) == (1000, True, 0)


async def test_open_run_streams_both_ways(client: Client, busybox: Image):
    """A running process is talked to through its streams, and closing its input ends it."""
    async with client.open_run(busybox, ["/bin/cat"], stdin=True) as task:
        assert task.pid > 0
        assert task.stdin is not None
        assert task.stdout is not None
        for word in (b"one", b"two"):
            await task.stdin.send(word)
            assert await task.stdout.receive() == word
        await task.close_stdin()
        assert (await task.wait()).code == 0


async def test_leaving_open_run_ends_everything(client: Client, busybox: Image):
    """Whatever runs when the block is left is killed; task, container and snapshot are gone."""
    async with client.open_run(busybox, ["/bin/sleep", "1000"], id="left") as task:
        pass
    with pytest.raises(NotFoundError):
        await task.status()
    assert await client.list_containers() == []
    snapshots = await client.snapshotter("overlayfs").list()
    assert [info.name for info in snapshots if info.name == "left"] == []


async def test_an_error_in_the_block_is_raised_as_it_is(client: Client, busybox: Image):
    """An error raised in the block reaches the caller itself, in no group, and everything is cleaned."""
    with pytest.raises(ZeroDivisionError):
        async with client.open_run(busybox, ["/bin/sleep", "1000"]):
            raise ZeroDivisionError
    assert await client.list_containers() == []


async def test_many_waiters_learn_the_same(client: Client, busybox: Image):
    """Any number of tasks may wait, before and after the end; each learns code and time."""
    async with client.open_run(busybox, ["/bin/sh", "-c", "sleep 0.2; exit 5"]) as task:
        statuses = await for_each(range(10), lambda _: task.wait())
        assert {status.code for status in statuses} == {5}
        assert await task.wait() == statuses[0]


async def test_a_waiter_that_is_cancelled_disturbs_no_other(client: Client, busybox: Image):
    """Giving up one wait leaves the others waiting."""
    async with client.open_run(busybox, ["/bin/sh", "-c", "sleep 0.5; exit 5"]) as task:
        with anyio.move_on_after(0.05) as scope:
            await task.wait()
        assert scope.cancelled_caught
        assert (await task.wait()).code == 5


@pytest.mark.parametrize("code", [0, 1, 7, 126, 255])
async def test_exit_codes_are_exact(client: Client, busybox: Image, code: int):
    """Exit codes are the process's own."""
    completed = await client.run(busybox, ["/bin/sh", "-c", f"exit {code}"], check=False)
    assert completed.exit_code == code


async def test_a_signal_is_128_and_its_number(client: Client, busybox: Image):
    """A process ended by a signal has 128 and the signal's number as its code."""
    async with client.open_run(busybox, ["/bin/sleep", "1000"]) as task:
        await task.kill(signal.SIGKILL)
        assert (await task.wait()).code == 128 + signal.SIGKILL


async def test_a_missing_command_is_said_by_name(client: Client, busybox: Image):
    """A command that is not there raises, names the command, and leaves nothing."""
    with pytest.raises(ContainerdError, match="no-such-command"):
        await client.run(busybox, ["/bin/no-such-command"])
    assert await client.list_containers() == []
    assert await client.tasks.list() == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("args", "ls"), ("user", "no-such-user"), ("id", "not/an/identifier"), ("network", "web"), ("user", "4294967296")],
)
async def test_bad_options_are_refused_with_nothing_made(client: Client, busybox: Image, option: str, value: str):
    """What cannot work raises a typed error that names it, before or after the snapshot: nothing stays."""
    options = {"args": ["/bin/true"], option: value}
    with pytest.raises((InvalidArgumentError, NotFoundError)) as caught:
        await client.run(busybox, **options)  # type: ignore[arg-type]
    assert value[:8] in str(caught.value)
    assert await client.list_containers() == []


async def test_the_image_decides_what_the_caller_leaves_open(client: Client, layered: Image):
    """Entrypoint, environment, working directory and user come from the image unless given."""
    completed = await client.run(layered, ["a", "b"])
    assert completed.stdout == b"a b\n"
    script = 'echo "$GREETING|$EXTRA|$PWD|$(id -u)|$(cat first)"'
    completed = await client.run(
        layered, ["x"], env={"EXTRA": "more"}, spec_options=[with_command(["/bin/sh", "-c", script])]
    )
    assert completed.stdout.decode().startswith("hello world|more|/data|")
    assert completed.stdout.decode().split("|")[3] != "0"


def with_command(args):
    from containerd_py.oci.spec_options import with_process_args

    return with_process_args(*args)


async def test_options_reach_the_process(client: Client, busybox: Image):
    """env, cwd, user, read_only and mounts are what the process finds."""
    script = "echo $WORD $PWD $(id -u):$(id -g); touch /x 2>&1; ls /given"
    completed = await client.run(
        busybox,
        ["/bin/sh", "-c", script],
        env=["WORD=hello"],
        cwd="/tmp",
        user="1234:5678",
        read_only=True,
        mounts=[
            {"destination": "/given", "type": "bind", "source": "/proc/sys/kernel/random", "options": ["rbind", "ro"]}
        ],
        check=False,
    )
    lines = completed.stdout.decode().splitlines()
    assert lines[0] == "hello /tmp 1234:5678"
    assert "Read-only" in lines[1]
    assert "uuid" in lines


async def test_a_terminal_is_one(client: Client, busybox: Image):
    """terminal=True gives the process a terminal, whose output is one stream with carriage returns."""
    async with client.open_run(busybox, ["/bin/sh", "-c", "tty; stty size"], terminal=True) as task:
        assert task.stderr is None
        assert task.stdout is not None
        out = b"".join([chunk async for chunk in task.stdout])
    assert out.startswith(b"/dev/")
    assert out.endswith(b"\r\n")
    completed = await client.run(busybox, ["/bin/sh", "-c", "tty; echo err >&2"], terminal=True)
    assert completed.stdout.startswith(b"/dev/")
    assert (completed.stdout.endswith(b"err\r\n"), completed.stderr) == (True, b"")


async def test_the_host_network_is_shared_when_asked(client: Client, busybox: Image):
    """network="host" shows the host's interfaces, the default shows none but loopback."""
    alone = await client.run(busybox, ["/bin/sh", "-c", "ls /sys/class/net"])
    assert alone.stdout.split() == [b"lo"]
    count = len(Path("/proc/net/dev").read_text().splitlines()) - 2
    shared = await client.run(busybox, ["/bin/sh", "-c", "tail -n +3 /proc/net/dev | wc -l"], network="host")
    assert int(shared.stdout) == count


async def test_one_hundred_containers_at_concurrency_ten(client: Client, busybox: Image):
    """100 containers, 10 at a time: all outputs exact, nothing left."""

    async def one(number: int) -> bytes:
        return (await client.run(busybox, ["/bin/sh", "-c", f"echo {number}; echo {number} >&2"])).stdout

    outputs = await for_each(range(100), one, limit=10)
    assert outputs == [f"{number}\n".encode() for number in range(100)]
    assert await client.list_containers() == []
    assert await client.tasks.list() == []


async def test_a_paused_task_is_stopped_all_the_same(client: Client, busybox: Image):
    """stop resumes a paused task, sends the signal, and returns the code the process chose."""
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    async with client.open_run(busybox, ["/bin/sh", "-c", script]) as task:
        assert task.stdout is not None
        assert await task.stdout.receive() == b"ready\n"
        await task.pause()
        assert (await task.status()).state is TaskState.PAUSED
        assert (await task.stop()).code == 9


async def test_stop_kills_what_ignores_the_signal(client: Client, busybox: Image):
    """After the grace comes SIGKILL."""
    async with client.open_run(busybox, ["/bin/sh", "-c", "trap '' TERM; echo ready; sleep 1000"]) as task:
        assert task.stdout is not None
        assert await task.stdout.receive() == b"ready\n"
        assert (await task.stop(grace=0.2)).code == 128 + signal.SIGKILL
