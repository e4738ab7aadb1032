"""Files in and out of containers that run and that do not, on all lines."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import anyio
import pytest

from containerd_py import (
    ArchiveError,
    Client,
    Daemon,
    FailedPreconditionError,
    Image,
    InvalidArgumentError,
    NotFoundError,
    UserNamespace,
    deleting,
    open_fifos,
)
from tests.integration.copies import IDLE, described, make_tree, resting, running


def run_tar(*arguments) -> None:
    subprocess.run(["tar", *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.parametrize("state", ["resting", "running"])
async def test_a_tree_comes_back_as_it_went(client: Client, busybox: Image, tmp_path: Path, state: str):
    """Into a container and out again: content, modes, owners, times, links, holes and attributes are the same."""
    tree = make_tree(tmp_path)
    async with running(client, busybox) if state == "running" else resting(client, busybox) as lent:
        container = lent[0] if state == "running" else lent
        await container.copy_from_local(tree, "/tmp", owner="source")
        await container.copy_to_local("/tmp/tree", tmp_path / "back", owner="source")
    assert described(tmp_path / "back") == described(tree)


@pytest.mark.lines("2.1")
async def test_an_archive_may_be_bytes(client: Client, busybox: Image):
    """A small archive goes in as bytes; what is none at all is refused."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as writer:
        member = tarfile.TarInfo("greeting")
        member.size = 5
        writer.addfile(member, io.BytesIO(b"hello"))
    async with running(client, busybox) as (container, task):
        await container.copy_in("/tmp", packed.getvalue())
        assert (await task.run_exec(["/bin/cat", "/tmp/greeting"])).stdout == b"hello"
        with pytest.raises(InvalidArgumentError, match="not int"):
            await container.copy_in("/tmp", 5)  # type: ignore[arg-type]


@pytest.mark.lines("2.1")
async def test_streams_are_tar(client: Client, busybox: Image, tmp_path: Path):
    """What comes out is an archive that others read, and what others write goes in."""
    tree = make_tree(tmp_path)
    packed = tmp_path / "in.tar"
    run_tar("-C", tmp_path, "-S", "-cf", packed, "tree")
    async with resting(client, busybox) as container:
        await container.copy_in("/tmp", packed)
        async with container.copy_out("/tmp/tree", sparse=True) as archive:
            data = b"".join([piece async for piece in archive])
    (tmp_path / "out").mkdir()
    (tmp_path / "out.tar").write_bytes(data)
    run_tar("-C", tmp_path / "out", "-xpf", tmp_path / "out.tar")
    mine, theirs = described(tmp_path / "out" / "tree"), described(tree)
    assert {name: value[:4] for name, value in mine.items() if name != "plain"} == {
        name: (*value[:2], value[2] // 10**9 * 10**9, value[3]) for name, value in theirs.items() if name != "plain"
    }
    with tarfile.open(fileobj=io.BytesIO(data)) as read:
        assert read.getnames()[0] == "tree"


@pytest.mark.lines("1.6", "2.1")
@pytest.mark.parametrize("state", ["resting", "running"])
async def test_what_is_mounted_counts(client: Client, busybox: Image, tmp_path: Path, state: str):
    """Volumes and single files are copied into and out of, whether the container runs or not; /proc is empty."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "hosts").write_text("old")
    mounts = [
        {"type": "bind", "source": str(tmp_path / "volume"), "destination": "/data", "options": ["rbind"]},
        {"type": "bind", "source": str(tmp_path / "hosts"), "destination": "/etc/hosts", "options": ["bind"]},
    ]
    (tmp_path / "new").write_text("new content")
    lend = running if state == "running" else resting
    async with lend(client, busybox, mounts=mounts) as lent:
        container = lent if state == "resting" else lent[0]
        await container.copy_from_local(tmp_path / "new", "/data/in")
        await container.copy_from_local(tmp_path / "new", "/etc/hosts")
        async with container.copy_out("/") as archive:
            data = b"".join([piece async for piece in archive])
    with tarfile.open(fileobj=io.BytesIO(data)) as read:
        names = read.getnames()
    assert (tmp_path / "volume" / "in").read_text() == "new content"
    assert (tmp_path / "hosts").read_text() == "new content"
    assert {"data/in", "etc/hosts", "proc", "sys", "bin/busybox"} <= {name.removeprefix("./") for name in names}
    assert not [name for name in names if name.removeprefix("./").startswith(("proc/", "sys/"))]


@pytest.mark.lines("2.1")
async def test_volumes_count_before_a_container_has_ever_run(
    client: Client, busybox: Image, tmp_path: Path, data_root: Path
):
    """A named volume in a place that the image does not have is written to and read from; the task finds it."""
    (tmp_path / "file").write_text("said\n")
    options = {"volumes": ["kept:/var/lib/kept", "kept:/var/lib/read:ro"], "args": ["/bin/cat", "/var/lib/read/file"]}
    async with resting(client, busybox, **options) as container:
        with pytest.raises(NotFoundError):
            await container.copy_to_local("/var/lib/kept/file", tmp_path / "back")
        await container.copy_from_local(tmp_path / "file", "/var/lib/kept")
        await container.copy_to_local("/var/lib/read/file", tmp_path / "back")
        with pytest.raises(FailedPreconditionError):
            await container.copy_from_local(tmp_path / "file", "/var/lib/read")
        changed = {change.path for change in await container.changes()}
        async with open_fifos() as io, deleting(await container.create_task(io=io.config)) as task:
            await task.start()
            assert await io.stdout.receive() == b"said\n"
            await task.wait()
    assert (tmp_path / "back").read_text() == "said\n"
    assert "/var/lib/kept" in changed
    assert "/var/lib/kept/file" not in changed
    assert [path.read_text() for path in data_root.glob("*/volumes/*/kept/_data/*")] == ["said\n"]
    await client.volumes.delete("kept")


@pytest.mark.lines("2.1")
async def test_owners_are_root_or_as_told(client: Client, busybox: Image, tmp_path: Path):
    """Files belong to the container's root, to whom they did, or to whom one says; outside to this user."""
    (tmp_path / "file").write_text("x")
    os.chown(tmp_path / "file", 12, 34)
    (tmp_path / "file").chmod(0o4755)
    for ids in (None, UserNamespace.of(100_000)):
        async with resting(client, busybox, user_namespace=ids) as container:
            for owner, expected in ((None, (0, 0)), ("source", (12, 34)), ((5, 6), (5, 6))):
                await container.copy_from_local(tmp_path / "file", "/tmp/in", owner=owner)
                async with container.copy_out("/tmp/in") as archive:
                    assert (archive.status.owner, archive.status.mode & 0o7777) == (expected, 0o4755)
            await container.copy_to_local("/tmp/in", tmp_path / "out")
            status = (tmp_path / "out").stat()
            assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (os.geteuid(), os.getegid(), 0o755)


async def test_mapped_files_are_the_containers_own(client: Client, busybox: Image, tmp_path: Path):
    """What is copied into a container with a user namespace belongs to its root, whether it runs or not."""
    (tmp_path / "file").write_text("from outside\n")
    ids = UserNamespace.of(100_000)
    look = "stat -c '%u:%g' /tmp/file /tmp/later /bin/busybox; cat /tmp/file; echo more >> /tmp/later"
    async with resting(client, busybox, user_namespace=ids, args=IDLE) as container:
        await container.copy_from_local(tmp_path / "file", "/tmp/file")
        async with deleting(await container.create_task()) as task:
            await task.start()
            await container.copy_from_local(tmp_path / "file", "/tmp/later")
            seen = await task.run_exec(["/bin/sh", "-c", look])
            async with container.copy_out("/bin/busybox") as archive:
                assert archive.status.owner == (0, 0)
        async with container.copy_out("/bin/busybox") as archive:
            assert archive.status.owner == (0, 0)
        await container.copy_to_local("/tmp/later", tmp_path / "back")
    assert seen.stdout.decode().split() == ["0:0", "0:0", "0:0", "from", "outside"]
    assert (tmp_path / "back").read_text() == "from outside\nmore\n"


@pytest.mark.lines("2.1")
async def test_what_goes_wrong_is_told(client: Client, busybox: Image, tmp_path: Path):
    """No such path, no such directory, a read-only place, a socket's like: each its own error, and nothing is left."""
    (tmp_path / "file").write_text("x")
    async with running(client, busybox, read_only=True) as (container, _):
        with pytest.raises(FailedPreconditionError, match="read-only"):
            await container.copy_from_local(tmp_path / "file", "/etc/new")
        with pytest.raises(NotFoundError, match="missing"):
            await container.copy_to_local("/missing", tmp_path / "out")
        with pytest.raises(NotFoundError):
            await container.copy_from_local(tmp_path / "file", "/missing/")
        with pytest.raises(NotFoundError):
            await container.copy_from_local(tmp_path / "missing", "/tmp")
        with pytest.raises(NotFoundError):
            await container.copy_to_local("/etc/passwd", tmp_path / "no" / "out")
        with pytest.raises(FailedPreconditionError):
            await container.copy_to_local("/etc", tmp_path / "file")
        with pytest.raises(ArchiveError):
            await container.copy_in("/dev/shm", _nonsense())
        with pytest.raises(InvalidArgumentError):
            await container.copy_to_local("", tmp_path)
    with pytest.raises(NotFoundError):
        await container.copy_to_local("/etc", tmp_path)


async def _nonsense():
    yield b"this is no archive" * 1000


@pytest.mark.lines("2.1")
async def test_a_program_killed_while_it_copies_leaves_nothing(
    client: Client, daemon: Daemon, namespace: str, busybox: Image, tmp_path: Path
):
    """The mounts of a container that does not run go with the program, and the container can be deleted."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(8 << 30)
    async with resting(client, busybox) as container:
        argv = [sys.executable, "-c", COPYING, daemon.address, namespace, container.id, str(tmp_path / "large")]
        async with await anyio.open_process(argv) as program:
            assert (await program.stdout.receive()).startswith(b"copying")
            mounts = Path(f"/proc/{program.pid}/mountinfo").read_text()
            program.kill()
        for mounted in (mounts, Path("/proc/self/mountinfo").read_text()):
            assert str(daemon.root) not in mounted
    assert container.id not in [each.id for each in await client.list_containers()]


COPYING = """
import sys
import anyio
from containerd_py import connect
async def main(address, namespace, name, path):
    async with connect(address, namespace=namespace) as client, anyio.create_task_group() as group:
        container = await client.load_container(name)
        group.start_soon(container.copy_from_local, path, "/tmp/large")
        await anyio.sleep(0.5)
        print("copying", flush=True)
anyio.run(main, *sys.argv[1:])
"""
