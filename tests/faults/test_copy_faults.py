"""Copies into and out of containers whose owner is hostile, that are cancelled anywhere, or that are huge."""

import io
import os
import resource
import tarfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, Container, Daemon, Image
from containerd_py.errors import ContainerdError
from tests.harness.cancel import Mode, Tally, sweep
from tests.integration.copies import described, make_tree, resting, running

pytestmark = pytest.mark.lines("2.1")
# Directories and links with the same names, swapped as fast as a shell can: each "way" is one or the other. The link
# leads to where the host keeps what the container must not get at.
SWAP = """
mkdir -p /tmp/a/way/sub; echo inside > /tmp/a/file; echo inside > /tmp/a/way/sub/file
echo ready > /tmp/ready
while :; do
    mv /tmp/a/way /tmp/real && ln -s "$HOST" /tmp/a/way; rm /tmp/a/way; mv /tmp/real /tmp/a/way
    mv /tmp/a/way/sub /tmp/real && ln -s "../../../../../../..$HOST" /tmp/a/way/sub; rm /tmp/a/way/sub
    mv /tmp/real /tmp/a/way/sub
done
"""
ROUNDS = 30
HOST_FILES = {"file": "secret", "new": "secret", "sub/file": "secret", "sub/new": "secret"}


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Make what belongs to the host and looks like what is in the container."""
    folder = tmp_path / "host"
    (folder / "sub").mkdir(parents=True)
    for name, content in HOST_FILES.items():
        (folder / name).write_text(content)
    return folder


async def wait_for_swaps(container: Container) -> None:
    for _ in range(100):
        with suppress(ContainerdError):
            async with container.copy_out("/tmp/ready"):
                return
        await anyio.sleep(0.05)
    pytest.fail("the container did not begin")


async def test_who_swaps_directories_for_links_gets_nothing_out_of_the_host(
    client: Client, busybox: Image, tmp_path: Path, host: Path
):
    """Copied out while the container swaps them are only files of its own; nothing of the host's is among them."""
    args = ["/bin/sh", "-c", SWAP]
    copies = 0
    async with running(client, busybox, args=args, env={"HOST": str(host)}) as (container, _):
        await wait_for_swaps(container)
        for _ in range(ROUNDS):
            for path, follow_link in (("/tmp/a", False), ("/tmp/a/way/sub", True), ("/tmp/a/way/sub/file", False)):
                data = b""
                with suppress(ContainerdError):  # there at one moment and not at the next
                    async with container.copy_out(path, follow_link=follow_link) as archive:
                        data = b"".join([piece async for piece in archive])
                    copies += 1
                assert b"secret" not in data
    assert copies


async def test_who_swaps_directories_for_links_gets_nothing_onto_the_host(
    client: Client, busybox: Image, tmp_path: Path, host: Path
):
    """Copied in while the container swaps them are only files of its own; the host's stay as they are."""
    before = described(host)
    tree = tmp_path / "new"
    (tree / "way" / "sub").mkdir(parents=True)
    for place in (tree, tree / "way", tree / "way" / "sub"):
        (place / "file").write_text("hostile")
        (place / "new").write_text("hostile")
        (place / "link").symlink_to("file")
        os.link(place / "file", place / "hard")
        os.mkfifo(place / "fifo")
    args = ["/bin/sh", "-c", SWAP]
    copies = 0
    async with running(client, busybox, args=args, env={"HOST": str(host)}) as (container, _):
        await wait_for_swaps(container)
        for _ in range(ROUNDS):
            for source, path in (
                (f"{tree}/.", "/tmp/a"),
                (tree / "file", "/tmp/a/way/sub"),
                (tree / "file", "/tmp/a/way/sub/new"),
            ):
                with suppress(ContainerdError):
                    await container.copy_from_local(source, path)
                    copies += 1
    assert copies
    assert described(host) == before


async def test_copies_are_cancelled_anywhere(client: Client, daemon: Daemon, busybox: Image, tmp_path: Path):
    """Wherever a copy is cancelled no descriptor, no mount and no half of a file stays, and the next one succeeds."""
    tree = make_tree(tmp_path)
    (tree / "large").write_bytes(os.urandom(3 << 20))
    tally = Tally()
    async with resting(client, busybox) as still, running(client, busybox) as (moving, _):

        async def there_and_back(container: Container) -> None:
            await container.copy_from_local(f"{tree}/.", "/tmp")
            await container.copy_to_local("/tmp/.", tmp_path / "back")

        async def through() -> None:
            async with still.copy_out("/tmp") as archive:
                await moving.copy_in("/root", archive)

        for container in (still, moving):
            await there_and_back(container)
            await container.copy_in("/", _root_folder())
        descriptors, mounts = _descriptors(), _mounts(daemon)
        for flow in (lambda: there_and_back(still), lambda: there_and_back(moving), through):
            async for outcome in sweep(flow, every=3, modes=(Mode.SCOPE, Mode.TASK)):
                outcome.check()
                tally.add(outcome)
                assert (_descriptors(), _mounts(daemon)) == (descriptors, mounts)
        for container, path in ((still, "/tmp"), (moving, "/tmp"), (moving, "/root")):
            async with container.copy_out(path) as archive:
                assert b".containerd-py-" not in b"".join([piece async for piece in archive])
    assert not list(tmp_path.rglob(".containerd-py-*"))
    assert tally.delivered > 20


async def _root_folder() -> AsyncIterator[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("root")
        info.type, info.mode = tarfile.DIRTYPE, 0o700
        tar.addfile(info)
    yield out.getvalue()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _mounts(daemon: Daemon) -> list[str]:
    """Return what is mounted of this daemon's snapshots, and on the directory that private mounts are made on."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(daemon.root) in line or line.split()[4].startswith("/sys/root")]


async def test_a_copy_takes_no_memory(client: Client, busybox: Image, tmp_path: Path):
    """Of 1 GiB in and out, as a stream read slowly and as a file with holes of 1 TiB, a few MiB are in memory."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 30)
    with (tmp_path / "holes").open("wb") as file:
        file.seek(1 << 39)
        file.write(b"middle")
        file.truncate(1 << 40)
    async with resting(client, busybox) as container:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await container.copy_from_local(tmp_path / "holes", "/tmp/holes")
        await container.copy_to_local("/tmp/holes", tmp_path / "holes-back")
        await container.copy_from_local(tmp_path / "large", "/tmp/large")
        size = 0
        async with container.copy_out("/tmp/large") as archive:
            assert archive.status.size == 1 << 30
            async for piece in archive:
                size += len(piece)
                if size < 10 << 20:
                    await anyio.sleep(0.01)  # nobody runs ahead of a reader that is slow
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert size == (1 << 30) + 5 * 512  # an extended header, the header, the end
    back = (tmp_path / "holes-back").stat()
    assert (back.st_size, back.st_blocks * 512 < 1 << 20) == (1 << 40, True)
    assert grown < 32 * 1024, f"{grown} KiB"
