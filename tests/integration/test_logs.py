"""json-file logs: written by a process of the shim's, read back by any program."""

import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from containerd_py import Client, Container, Daemon, Image, deleting, json_file_log
from containerd_py.errors import InvalidArgumentError, NotFoundError

COUNT = 10_000


async def read(container: Container, **options) -> list[bytes]:
    async with container.logs(**options) as lines:
        return [line.data async for line in lines]


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


async def test_ten_thousand_lines_are_exact(client: Client, busybox: Image, tmp_path: Path):
    """Every line of both streams is there, once, in order, with its time; the format is Docker's."""
    script = f"seq {COUNT}; for i in 1 2 3; do echo err$i >&2; done; printf 'no end'"
    async with deleting(await client.create_container("web", image=busybox, args=shell(script))) as container:
        began = datetime.now(UTC)
        async with deleting(await container.create_task(io=json_file_log(tmp_path / "log"))) as task:
            await task.start()
            async with container.logs(follow=True) as lines:
                followed = [line async for line in lines]
            assert (await task.delete()).code == 0
        async with container.logs() as lines:
            again = [line async for line in lines]
        assert again == followed
        assert [line.data for line in again if line.stream == "stdout"] == [
            *(b"%d\n" % number for number in range(1, COUNT + 1)),
            b"no end",
        ]
        assert [line.data for line in again if line.stream == "stderr"] == [b"err1\n", b"err2\n", b"err3\n"]
        times = [line.time for line in again]
        assert times == sorted(times)
        assert began <= times[0] <= times[-1] <= datetime.now(UTC)
        assert (await read(container, tail=2, timestamps=True))[1] == f"{times[-1]} no end".encode()
    entry = json.loads((tmp_path / "log" / "web-json.log").read_text().splitlines()[0])
    assert list(entry) == ["log", "stream", "time"]
    assert (entry["log"], entry["stream"]) == ("1\n", "stdout")
    assert entry["time"] == str(times[0])
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700


async def test_bytes_and_long_lines_come_back_as_they_were(client: Client, busybox: Image, tmp_path: Path):
    """What is no UTF-8, and lines longer than an entry, are read back byte for byte."""
    script = r"printf '\377\000\n\303\251\342\202\254\n'; dd if=/dev/zero bs=1k count=100 2>/dev/null | tr '\0' x; echo"
    async with (
        deleting(await client.create_container(image=busybox, args=shell(script))) as container,
        deleting(await container.create_task(io=json_file_log(tmp_path))) as task,
    ):
        await task.start()
        data = b"".join(await read(container, follow=True))
    assert data == b"\xff\x00\n\xc3\xa9\xe2\x82\xac\n" + b"x" * 102400 + b"\n"


async def test_what_was_written_before_the_call_is_there(client: Client, busybox: Image, tmp_path: Path):
    """Without following, everything the process has written by now is read, and no waiting is done."""
    script = "seq 1000; sleep 1000"
    async with (
        deleting(await client.create_container(image=busybox, args=shell(script))) as container,
        deleting(await container.create_task(io=json_file_log(tmp_path))) as task,
    ):
        await task.start()
        with anyio.fail_after(10):
            while len(await read(container)) < 1000:
                await anyio.sleep(0.01)
        assert await read(container, tail=3) == [b"998\n", b"999\n", b"1000\n"]
        assert await read(container, tail=0) == []
        assert await read(container, tail=5000) == await read(container)
        assert await read(container, since=timedelta(minutes=5)) == await read(container)
        assert await read(container, since=datetime.now(UTC) + timedelta(minutes=5)) == []
        assert await read(container, until=timedelta(minutes=5)) == []


async def test_lines_arrive_while_it_runs(client: Client, busybox: Image, tmp_path: Path):
    """Following gives each line soon after it was written, from the tail on, and ends when `until` has passed."""
    script = "echo old; echo start; while [ ! -e /go ]; do sleep 0.02; done; echo going; sleep 1000"
    async with (
        deleting(await client.create_container(image=busybox, args=shell(script))) as container,
        deleting(await container.create_task(io=json_file_log(tmp_path))) as task,
    ):
        await task.start()
        with anyio.fail_after(10):
            while len(await read(container)) < 2:
                await anyio.sleep(0.01)
        async with container.logs(follow=True, tail=1) as lines:
            assert (await anext(lines)).data == b"start\n"
            with anyio.move_on_after(0.2) as scope:
                await anext(lines)
            assert scope.cancelled_caught
            await task.run_exec(["/bin/touch", "/go"])
            with anyio.fail_after(5):
                assert (await anext(lines)).data == b"going\n"
        began = time.monotonic()
        until = datetime.now(UTC) + timedelta(seconds=0.5)
        with anyio.fail_after(30):  # the task runs on: only `until` ends it
            assert await read(container, follow=True, until=until) == [b"old\n", b"start\n", b"going\n"]
        assert time.monotonic() - began > 0.4


async def test_since_and_until_choose_by_time(client: Client, busybox: Image, tmp_path: Path):
    """Lines not before `since` and not after `until`, and of those the tail."""
    script = "for i in 1 2 3 4 5; do echo $i; sleep 0.05; done"
    async with deleting(await client.create_container(image=busybox, args=shell(script))) as container:
        async with deleting(await container.create_task(io=json_file_log(tmp_path))) as task:
            await task.start()
            async with container.logs(follow=True) as lines:
                times = [line.time async for line in lines]
        assert await read(container, since=times[1], until=times[3]) == [b"2\n", b"3\n", b"4\n"]
        assert await read(container, since=times[1], until=times[3], tail=2) == [b"3\n", b"4\n"]
        assert await read(container, until=times[0], follow=True) == [b"1\n"]


async def test_rotation_while_following_loses_nothing(client: Client, busybox: Image, tmp_path: Path):
    """Files are renamed under the reader, and each line still comes once; no more files stay than were asked for."""
    script = f"i=0; while [ $i -lt 60 ]; do seq {COUNT // 20}; i=$((i+1)); sleep 0.05; done"
    async with deleting(await client.create_container("web", image=busybox, args=shell(script))) as container:
        io = json_file_log(tmp_path, max_size=100_000, max_files=12)
        async with deleting(await container.create_task(io=io)) as task:
            await task.start()
            assert await read(container, follow=True) == [b"%d\n" % number for number in range(1, COUNT // 20 + 1)] * 60
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"logger-lock", "web-json.log", *(f"web-json.log.{number}" for number in range(1, 12))}
        assert all(path.stat().st_size <= 100_000 for path in tmp_path.glob("web-json.log*"))
        kept = await read(container)
        assert 11_000 < len(kept) < 17_000
        assert kept[-1] == b"%d\n" % (COUNT // 20)


async def test_one_file_starts_anew(client: Client, busybox: Image, tmp_path: Path):
    """With a single file, making room drops what is in it; the file is never larger than asked for."""
    async with deleting(
        await client.create_container("web", image=busybox, args=["/bin/seq", str(COUNT)])
    ) as container:
        async with deleting(
            await container.create_task(io=json_file_log(tmp_path, max_size=50_000, max_files=1))
        ) as task:
            await task.start()
            await task.wait()
        assert {path.name for path in tmp_path.iterdir()} == {"logger-lock", "web-json.log"}
        kept = await read(container)
        assert kept == [b"%d\n" % number for number in range(COUNT - len(kept) + 1, COUNT + 1)]
        assert (tmp_path / "web-json.log").stat().st_size <= 50_000


async def test_a_torn_last_line_is_passed_over(client: Client, busybox: Image, tmp_path: Path):
    """What a killed writer left half-written is no line; the next task's lines follow it unharmed."""
    container = await client.create_container("web", image=busybox, args=["/bin/echo", "hello"])
    async with deleting(container):
        for expected in ([b"hello\n"], [b"hello\n", b"hello\n"]):
            async with deleting(await container.create_task(io=json_file_log(tmp_path))) as task:
                await task.start()
                await task.wait()
            with (tmp_path / "web-json.log").open("a") as file:
                file.write('{"log":"torn')
            assert await read(container) == expected
            assert await read(container, follow=True, tail=5) == expected


async def test_the_log_goes_on_when_the_program_is_killed(
    client: Client, daemon: Daemon, busybox: Image, tmp_path: Path
):
    """The program that started the container is killed while it writes: another one reads all of it."""
    program = f"""
import anyio
from containerd_py import connect, json_file_log

async def main():
    async with connect({daemon.address!r}, namespace={client.namespace!r}) as client:
        image = await client.load_image({busybox.name!r})
        script = "for i in $(seq 50); do echo $i; sleep 0.02; done"
        container = await client.create_container("left", image=image, args=["/bin/sh", "-c", script])
        task = await container.create_task(io=json_file_log({str(tmp_path)!r}))
        await task.start()
        print("started", flush=True)
        await anyio.sleep(60)

anyio.run(main)
"""
    async with await anyio.open_process([sys.executable, "-c", program], stderr=None) as process:
        assert await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 100) == b"started"
        process.kill()
        await process.wait()
    container = await client.load_container("left")
    async with deleting(container), deleting(await container.load_task()):
        assert await read(container, follow=True) == [b"%d\n" % number for number in range(1, 51)]


async def test_a_terminals_output_can_be_logged(client: Client, busybox: Image, tmp_path: Path):
    """A terminal's output goes to the log as it is, without anybody attached."""
    container = await client.create_container(image=busybox, args=["/bin/echo", "hello"], terminal=True)
    async with deleting(container):
        async with deleting(await container.create_task(io=json_file_log(tmp_path, terminal=True))) as task:
            await task.start()
            await task.wait()
        assert await read(container) == [b"hello\r\n"]


async def test_what_there_is_not_is_said(client: Client, busybox: Image, tmp_path: Path):
    """No log, no such tail, a time without a zone, a folder that cannot be: each is refused in words."""
    async with deleting(await client.create_container(image=busybox, args=["/bin/true"])) as container:
        with pytest.raises(NotFoundError, match="json_file_log"):
            await read(container)
        with pytest.raises(InvalidArgumentError, match="tail"):
            container.logs(tail=-1)
        with pytest.raises(InvalidArgumentError, match="time zone"):
            container.logs(since=datetime(2026, 1, 1))  # noqa: DTZ001
        (tmp_path / "file").touch()
        with pytest.raises(InvalidArgumentError, match="log folder"):
            await container.create_task(io=json_file_log(tmp_path / "file"))
        with pytest.raises(InvalidArgumentError, match="absolute"):
            json_file_log("relative")
        with pytest.raises(InvalidArgumentError, match="positive"):
            json_file_log(tmp_path, max_files=0)


async def test_a_log_process_that_was_killed_hinders_no_reader(client: Client, busybox: Image, tmp_path: Path):
    """Where nobody answers for the log any more, what is there is read."""
    async with (
        deleting(
            await client.create_container("web", image=busybox, args=shell("echo hello; sleep 1000"))
        ) as container,
        deleting(await container.create_task(io=json_file_log(tmp_path))) as task,
    ):
        await task.start()
        while not await read(container):
            await anyio.sleep(0.01)
        (pid,) = [
            int(found.parent.name)
            for found in Path("/proc").glob("[0-9]*/cmdline")
            if str(tmp_path).encode() in found.read_bytes()
        ]
        os.kill(pid, signal.SIGKILL)
        with anyio.fail_after(5):
            assert await read(container) == [b"hello\n"]
