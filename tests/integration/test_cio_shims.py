"""FIFOs and log URIs as the real shims of every line treat them."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import anyio
import attrs
import pytest

from containerd_py import Client, Image
from containerd_py.cio.config import NULL_IO, IOConfig, log_file
from containerd_py.cio.copying import Capture, collect, send_all
from containerd_py.cio.fifos import attach_fifos, open_fifos
from containerd_py.errors import ContainerdError
from containerd_py.lifetimes import deleting

TALK = ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, (b"out\n", b"err\n")),
        ({"stderr": False}, (b"out\n", None)),
        ({"stdout": False}, (None, b"err\n")),
        ({"stdout": False, "stderr": False}, (None, None)),
        ({"stdin": False, "stdout": False, "stderr": False}, (None, None)),
        ({"terminal": True}, (b"out\r\nerr\r\n", None)),
        ({"terminal": True, "stdout": False}, (None, None)),
    ],
    ids=lambda value: "-".join(value) or "all" if isinstance(value, dict) else "",
)
async def test_any_choice_of_streams_works(client: Client, busybox: Image, wanted, expected):
    """Every shim takes every choice of streams, an unwanted output as /dev/null; what is wanted arrives whole."""
    terminal = wanted.get("terminal", False)
    async with (
        open_fifos(**wanted) as io,
        deleting(await client.create_container(image=busybox, args=TALK, terminal=terminal)) as container,
        deleting(await container.create_task(io=io.config)) as task,
    ):
        await task.start()
        found = tuple([None if output is None else await collect(output) for output in (io.stdout, io.stderr)])
        assert (found, (await task.wait()).code) == (expected, 3)


async def test_32_mib_there_and_back_are_exact(client: Client, busybox: Image):
    """What goes into cat comes out of it, byte for byte, with input sent from before the task is made."""
    data = random.Random(11).randbytes(32 << 20)
    capture = Capture()
    async with (
        open_fifos(stderr=False) as io,
        anyio.create_task_group() as pumps,
    ):
        pumps.start_soon(send_all, io.stdin, data)
        pumps.start_soon(capture.take, io.stdout)
        async with (
            deleting(await client.create_container(image=busybox, args=["/bin/cat"])) as container,
            deleting(await container.create_task(io=io.config)) as task,
        ):
            await task.start()
            assert (await task.wait()).code == 0
    assert hashlib.sha256(capture.data).digest() == hashlib.sha256(data).digest()


async def test_nothing_waits_for_a_task_that_could_not_be_made(client: Client, busybox: Image):
    """Where the runtime refuses, pumps that wait already come to their end."""
    async with open_fifos() as io, anyio.create_task_group() as pumps:
        pumps.start_soon(collect, io.stdout)
        pumps.start_soon(send_all, io.stdin, bytes(4 << 20))
        async with deleting(await client.create_container(image=busybox, args=["/no/such/program"])) as container:
            with pytest.raises(ContainerdError):
                await container.create_task(io=io.config)
            with anyio.fail_after(5):
                assert await collect(io.stderr) == b""


async def test_another_reader_goes_on_where_the_first_one_left(client: Client, busybox: Image):
    """The FIFOs of a running task are found by the paths the daemon has, and work both ways."""
    command = ["/bin/sh", "-c", "echo a; sleep 1; echo b; cat; echo c"]
    async with (
        open_fifos(stderr=False) as first,
        deleting(await client.create_container(image=busybox, args=command)) as container,
        deleting(await container.create_task(io=first.config)) as task,
    ):
        await task.start()
        assert first.stdout is not None
        assert await first.stdout.receive() == b"a\n"
        first.close()
        status = await task.status()
        config = IOConfig(stdin=status.stdin, stdout=status.stdout, stderr=status.stderr)
        assert config == attrs.evolve(first.config, lent=None)
        async with attach_fifos(config) as second:
            again = await container.load_task(io=second.config)
            assert again.stdin is not None
            await send_all(again.stdin, b"input\n")
            assert second.stdout is not None
            assert await collect(second.stdout) == b"b\ninput\nc\n"
        assert (await task.wait()).code == 0


async def test_output_goes_to_a_log_file(client: Client, busybox: Image, tmp_path: Path):
    """The shim appends both outputs to a log file, makes its folder, and needs no reader."""
    path = tmp_path / "with space" / "ü%.log"
    # The pause: shims lose what stderr holds when stdout ends first, see log_file.
    command = ["/bin/sh", "-c", "echo err >&2; sleep 0.3; echo out"]
    for _ in range(2):
        async with (
            deleting(await client.create_container(image=busybox, args=command)) as container,
            deleting(await container.create_task(io=log_file(path))) as task,
        ):
            await task.start()
            await task.wait()
    assert sorted(path.read_text().split()) == ["err", "err", "out", "out"]


async def test_execs_lose_no_output_and_get_their_input(client: Client, busybox: Image):
    """Short execs, which end while their FIFOs are being opened, are exact every time."""
    async with (
        deleting(await client.create_container(image=busybox, args=["/bin/sleep", "1000"])) as container,
        deleting(await container.create_task(io=NULL_IO)) as task,
    ):
        await task.start()
        for number in range(20):
            data = b"%d" % number * 3000
            done = await task.run_exec(["/bin/sh", "-c", "cat; echo done >&2; exit 7"], input=data, check=False)
            assert (done.exit_code, done.stdout, done.stderr) == (7, data, b"done\n")
        await task.stop(grace=0)
