"""Imports and exports that are cancelled anywhere, lose their daemon, or find damage: nothing half-made is left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, DigestMismatchError, Image, SizeMismatchError, connect
from containerd_py.errors import ContainerdError, NotFoundError, UnavailableError
from tests.harness.cancel import Mode, Tally, sweep
from tests.harness.leaks import assert_namespace_empty
from tests.integration.pulled import left_in
from tests.unit.tars import Layout, archive, chunked, docker_archive, member, tar_layer

EVERY = 9  # the storm session visits every point
NAME = "example.com/made:1"
LARGE = tar_layer("large", bytes(range(256)) * 400)


@pytest.fixture
def every(request: pytest.FixtureRequest) -> int:
    return 1 if request.config.getoption("--storm", default=False) else EVERY


def layout() -> Layout:
    """Make a layout with an image of a small and a large layer."""
    made = Layout()
    made.image(NAME, layers=[tar_layer(), LARGE])
    return made


async def swept(client: Client, flow: Callable[[], Awaitable[object]], every: int, after: Callable) -> Tally:
    """Cancel a flow at every so many of its suspension points; `after` looks at what is left."""
    tally = Tally()
    modes = tuple(Mode) if every == 1 else (Mode.SCOPE, Mode.TASK)
    async for outcome in sweep(flow, every=every, modes=modes):
        outcome.check()
        tally.add(outcome)
        left = await left_in(client)
        for _ in range(40):  # the daemon ends what it was doing a moment after we have left
            if not (left.leases or left.ingests or left.unfinished):
                break
            await anyio.sleep(0.05)
            left = await left_in(client)
        assert (left.leases, left.ingests, left.unfinished) == (0, 0, 0), outcome
        await after(outcome)
    assert tally.delivered > 4, str(tally)
    return tally


@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", ["stream", "folder", "docker"])
async def test_an_import_cancelled_anywhere_leaves_nothing(
    client: Client, daemon, tmp_path: Path, every: int, form: str
):
    """Cancelled at any suspension point, in any way, an import leaves nothing or, at its very end, a whole image."""
    for path, data in layout().files().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    saved = docker_archive(NAME, layers=[tar_layer(), LARGE])
    docker = archive(*(member(path, data) for path, data in saved.items()))

    async def flow() -> None:
        source = {
            "stream": lambda: chunked(layout().tar()),
            "folder": lambda: tmp_path,
            "docker": lambda: chunked(docker),
        }
        await client.import_images(source[form]())

    async def after(_outcome: object) -> None:
        for record in await client.images.list():
            image = await client.load_image(record.name)
            assert (await image.is_unpacked(), (await image.usage()).missing) == (True, 0)
            await image.delete()
        await assert_namespace_empty(daemon, client.namespace)

    await swept(client, flow, every, after)
    await client.images.delete(NAME, synchronous=True)
    await assert_namespace_empty(daemon, client.namespace)


@pytest.mark.timeout(600)
@pytest.mark.lines("2.1")
async def test_an_import_by_transfer_cancelled_anywhere_leaves_nothing(client: Client, daemon, every: int):
    """Cancelled anywhere, nothing is left of it at the daemon but, at its end, a whole image, perhaps packed."""

    async def flow() -> None:
        await client.import_images(chunked(layout().tar()), via="transfer")

    async def after(_outcome: object) -> None:
        for record in await client.images.list():
            assert (await (await client.load_image(record.name)).usage()).missing == 0
            await client.images.delete(record.name)
        await assert_namespace_empty(daemon, client.namespace)

    await swept(client, flow, every, after)
    await client.images.delete(NAME, synchronous=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", ["file", "gzip", "folder", "stream"])
async def test_an_export_cancelled_anywhere_leaves_nothing(client: Client, tmp_path: Path, every: int, form: str):
    """Cancelled anywhere, there is no file, no folder and no lease, or a whole file at its very end."""
    (image,) = await client.import_images(chunked(layout().tar()))
    destination = f"{tmp_path}/made/" if form == "folder" else tmp_path / "made"

    async def flow() -> None:
        if form == "folder":
            _remove(tmp_path / "made")
        if form == "stream":
            async with client.open_export(image) as made:
                assert [chunk async for chunk in made]
        else:
            await client.export_images(image, destination, compression="gzip" if form == "gzip" else "none")

    async def after(_outcome: object) -> None:
        names = [path.name for path in tmp_path.iterdir()]
        assert names in ([], ["made"])
        if names:
            assert await client.import_images(tmp_path / "made", unpack=False)
            (tmp_path / "made").unlink() if form != "folder" else _remove(tmp_path / "made")

    await swept(client, flow, every, after)
    await image.delete(synchronous=True)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(600)
@pytest.mark.lines("2.1")
async def test_an_export_by_transfer_cancelled_anywhere_leaves_nothing(client: Client, tmp_path: Path, every: int):
    """Cancelled anywhere, there is no file and no lease, or a whole file at its very end."""
    (image,) = await client.import_images(chunked(layout().tar()))

    async def flow() -> None:
        await client.export_images(image, tmp_path / "made", via="transfer")

    async def after(_outcome: object) -> None:
        assert [path.name for path in tmp_path.iterdir()] in ([], ["made"])
        (tmp_path / "made").unlink(missing_ok=True)

    await swept(client, flow, every, after)
    await image.delete(synchronous=True)


# ── the daemon dies ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.timeout(120)
async def test_a_dead_daemon_ends_an_import(own_daemon, namespace: str):
    """Killed while the archive stalls, the daemon is missed at once; when it is back the import succeeds."""
    data = layout().tar()
    async with connect(own_daemon.address, namespace=namespace) as client:
        under_way = anyio.Event()

        async def stalling():
            yield data[: len(data) // 2]
            under_way.set()
            await anyio.sleep_forever()

        async def kill() -> None:
            await under_way.wait()
            await own_daemon.kill()

        with anyio.fail_after(10), pytest.raises(UnavailableError):
            async with client.open_import(stalling()) as importing, anyio.create_task_group() as group:
                group.start_soon(kill)
                await importing.wait()
        await own_daemon.restart()
        (image,) = await client.import_images(chunked(data))
        left = await left_in(client)
        assert (left.leases, left.unfinished) == (0, 0)
        await image.delete(synchronous=True)


@pytest.mark.timeout(120)
async def test_a_dead_daemon_ends_an_export(own_daemon, namespace: str, tmp_path: Path):
    """Killed in the middle, it is missed at once, and no file is there; when it is back the export succeeds."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        made = Layout()
        made.image(NAME, layers=[tar_layer("large", os.urandom(16 * 2**20))])
        (image,) = await client.import_images(chunked(made.tar(), 10**6), unpack=False)
        received = 0

        class Killing:
            async def send(self, item: bytes, /) -> None:
                nonlocal received
                received += len(item)
                if received > 2**20:
                    await own_daemon.kill()

        with anyio.fail_after(10), pytest.raises(ContainerdError):
            await client.export_images(image, Killing())
        with pytest.raises(UnavailableError):
            await client.export_images(image, tmp_path / "made")
        assert not [*tmp_path.glob("*made*")]
        await own_daemon.restart()
        await client.export_images(image, tmp_path / "made")
        assert (tmp_path / "made").stat().st_size > 16 * 2**20
        await image.delete(synchronous=True)


# ── damage in the store ─────────────────────────────────────────────────────────────────────────────────────────────


def blob_file(own_daemon, digest: str) -> Path:
    """Find a blob's file in the daemon's own folder."""
    return (
        Path(own_daemon.root) / "io.containerd.content.v1.content" / "blobs" / "sha256" / digest.removeprefix("sha256:")
    )


def damage(file: Path, change: Callable[[bytes], bytes]) -> bytes:
    """Change a blob's file, and return what was in it."""
    data = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(change(data))
    return data


@pytest.mark.timeout(120)
@pytest.mark.parametrize("what", ["layer", "config", "manifest"])
async def test_damaged_content_is_not_exported(own_daemon, namespace: str, tmp_path: Path, what: str):
    """Content that has changed on the daemon's disk is noticed, and no archive is there."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        (image,) = await client.import_images(chunked(layout().tar()), unpack=False)
        manifest = await image.manifest()
        digests = {
            "layer": manifest.layers[1].digest,
            "config": manifest.config.digest,
            "manifest": image.target.digest,
        }
        file = blob_file(own_daemon, digests[what])
        whole = damage(file, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(DigestMismatchError):
            await client.export_images(image, tmp_path / "made")
        file.write_bytes(whole[:-1])
        with pytest.raises((SizeMismatchError, ContainerdError)):
            await client.export_images(image, tmp_path / "made")
        assert not [*tmp_path.glob("*made*")]
        file.write_bytes(whole)
        await client.export_images(image, tmp_path / "made")
        await image.delete(synchronous=True)


@pytest.mark.timeout(120)
@pytest.mark.lines("1.7", "2.1")
async def test_damaged_content_is_not_exported_by_transfer(own_daemon, namespace: str, tmp_path: Path):
    """The daemon notices while it sends, and there is no archive."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        (image,) = await client.import_images(chunked(layout().tar()), unpack=False)
        file = blob_file(own_daemon, (await image.manifest()).layers[1].digest)
        whole = damage(file, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(ContainerdError):
            await client.export_images(image, tmp_path / "made", via="transfer")
        assert not [*tmp_path.glob("*made*")]
        file.write_bytes(whole)
        await image.delete(synchronous=True)


async def test_bad_content_here_does_not_spoil_an_import(client: Client):
    """Content that another import has just refused does not stand in the way of the right one."""
    made = layout()
    good = made.tar()
    path = next(path for path, data in made.blobs.items() if data == LARGE)
    made.blobs[path] = LARGE[:-1] + b"x"
    for _ in range(2):
        with pytest.raises(DigestMismatchError):
            await client.import_images(chunked(made.tar()))
    (image,) = await client.import_images(chunked(good))
    assert isinstance(image, Image)
    with pytest.raises(DigestMismatchError):  # also where the store has the right content
        await client.import_images(chunked(made.tar()))
    await image.delete(synchronous=True)
    with pytest.raises(NotFoundError):
        await client.load_image(NAME)
