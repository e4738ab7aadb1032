"""FIFO folders that killed programs left: found and removed, and never one that somebody uses."""

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, Daemon, Image, PermissionDeniedError, attach_fifos, deleting, open_fifos
from containerd_py.cio import fifo_orphans

NOW = timedelta(0)
PROGRAM = """
import anyio, sys
from containerd_py import connect, open_fifos
async def main(address, namespace, name, directory):
    async with connect(address, namespace=namespace) as client, open_fifos(directory=directory) as io:
        container = await client.load_container(name)
        task = await container.create_task(io=io.config)
        await task.start()
        print("started", flush=True)
        await anyio.sleep_forever()
anyio.run(main, *sys.argv[1:])
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = Path("/run") / f"fifos-{os.getpid()}-{tmp_path.name}"
    made.mkdir(mode=0o700)
    yield made
    for folder in made.iterdir():
        for fifo in folder.iterdir():
            fifo.unlink()
        folder.rmdir()
    made.rmdir()


@pytest.mark.lines("2.1")
async def test_what_a_killed_program_left_goes_with_its_task(
    client: Client, daemon: Daemon, namespace: str, busybox: Image, directory: Path
):
    """While its task runs, and while it is there at all, the folder stays and can be attached to; then it goes."""
    async with deleting(await client.create_container(image=busybox, args=["/bin/cat"])) as container:
        argv = [sys.executable, "-c", PROGRAM, daemon.address, namespace, container.id, str(directory)]
        async with await anyio.open_process(argv) as program:
            assert (await program.stdout.receive()).startswith(b"started")
            (folder,) = directory.iterdir()
            assert await client.cleanup_fifos(directory, older_than=NOW) == []
            program.send_signal(signal.SIGKILL)
        assert await client.cleanup_fifos(directory, older_than=NOW) == []
        task = await container.load_task()
        async with attach_fifos(task.io) as io:
            await io.stdin.send(b"still there\n")
            assert await io.stdout.receive() == b"still there\n"
        await task.kill(signal.SIGKILL)
        await task.wait()
        assert await client.cleanup_fifos(directory, older_than=NOW) == []
        await task.delete()
        assert await client.cleanup_fifos(directory, older_than=NOW, dry_run=True) == [str(folder)]
        assert await client.cleanup_fifos(directory, older_than=NOW) == [str(folder)]
    assert list(directory.iterdir()) == []


@pytest.mark.lines("2.1")
async def test_what_is_in_use_or_not_ours_stays(client: Client, directory: Path):
    """Folders that a program has open, that are new, or that others made or put something into, stay."""
    foreign = directory / "12345"
    foreign.mkdir(0o700)
    os.mkfifo(foreign / "stdin")
    mixed = directory / "containerd-py-mixed"
    mixed.mkdir(0o700)
    (mixed / "file").touch()
    loose = directory / "containerd-py-loose"
    loose.mkdir()
    loose.chmod(0o755)
    (directory / "containerd-py-link").symlink_to(foreign)
    async with open_fifos(directory=directory):
        assert await client.cleanup_fifos(directory, older_than=NOW) == []
    (directory / "containerd-py-empty").mkdir(0o700)
    assert await client.cleanup_fifos(directory) == []
    assert await client.cleanup_fifos(directory, older_than=NOW) == [str(directory / "containerd-py-empty")]
    (directory / "containerd-py-link").unlink()
    (mixed / "file").unlink()


@pytest.mark.lines("2.1")
async def test_who_cannot_see_shims_removes_nothing(client: Client, directory: Path, tmp_path: Path, monkeypatch):
    """A user from whom other users' shims hide what they have open is told, and nothing is removed."""
    (directory / "containerd-py-empty").mkdir(0o700)
    process = tmp_path / "1"
    process.mkdir()
    (process / "comm").write_text("containerd-shim\n")
    (process / "fd").symlink_to("fd")
    monkeypatch.setattr(fifo_orphans, "_PROCESSES", tmp_path)

    def refuse(path: Path):
        if path.name == "fd":
            raise PermissionError(13, "denied", str(path))
        return original(path)

    original = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(PermissionDeniedError, match="run as root"):
        await client.cleanup_fifos(directory, older_than=NOW)
    monkeypatch.undo()
    assert (directory / "containerd-py-empty").exists()
