"""Checkpoints with criu: what runs goes on where it was, on every line; and what is said where there is no criu."""

import re
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, Image, UserNamespace, connect, deleting, open_fifos
from containerd_py.cio.copying import lines
from containerd_py.daemon import open_daemon
from containerd_py.errors import (
    AlreadyExistsError,
    CheckpointError,
    CriuNotFoundError,
    FailedPreconditionError,
    InvalidArgumentError,
)
from containerd_py.oci.spec_options import with_hostname
from containerd_py.services.runc import RuncOptions
from containerd_py.services.tasks import TaskState
from tests.conftest import CRIU

# Counts in its memory; what it counted is seen in a file.
COUNT = ["/bin/sh", "-c", "i=0; while true; do i=$((i+1)); echo $i > /count; sleep 0.05; done"]


async def _count(task) -> int:
    completed = await task.run_exec(["/bin/cat", "/count"])
    return int(completed.stdout or b"0")


async def _reach(task, wanted: int) -> int:
    with anyio.fail_after(20):
        while (count := await _count(task)) < wanted:
            await anyio.sleep(0.05)
    return count


async def test_a_container_goes_on_from_its_checkpoint(client: Client, busybox: Image):
    """A checkpoint with exit, a restore under another ID, a task from it: the count goes on, in the restored files."""
    ref = "example.org/saved:1"
    async with deleting(await client.create_container("first", image=busybox, args=COUNT)) as container:  # noqa: SIM117
        async with deleting(await container.create_task()) as task:
            await task.start()
            counted = await _reach(task, 10)
            async with deleting(await container.checkpoint(ref, exit=True)) as saved:
                assert saved.name == ref
                with anyio.fail_after(10):
                    assert (await task.wait()).code == 137
                async with deleting(await client.restore_container("second", ref)) as restored:
                    record = await restored.record()
                    assert (record.image, record.snapshot_key) == (busybox.name, "second")
                    assert (await restored.spec())["linux"]["cgroupsPath"] == f"/{client.namespace}/second"
                    async with deleting(await restored.create_task(checkpoint=saved)) as again:
                        await again.start()
                        assert (await again.status()).state is TaskState.RUNNING
                        assert await _reach(again, counted + 1) > counted
                        await again.stop(grace=0)


async def test_a_task_runs_on_after_its_checkpoint(client: Client, busybox: Image):
    """Without exit the task is frozen for a moment and runs on; a paused one stays paused. The name is made up."""
    async with (
        deleting(await client.create_container(image=busybox, args=COUNT)) as container,
        deleting(await container.create_task()) as task,
    ):
        await task.start()
        await _reach(task, 2)
        async with deleting(await task.checkpoint()) as saved:
            assert re.fullmatch(rf"containerd\.io/checkpoint/{container.id}:[0-9a-f-]+", saved.name)
            assert (await saved.record()).labels["containerd.io/checkpoint"] == "true"
            assert (await task.status()).state is TaskState.RUNNING
            await _reach(task, await _count(task) + 1)
            await task.pause()
            async with deleting(await task.checkpoint()):
                assert (await task.status()).state is TaskState.PAUSED
            await task.resume()


@pytest.mark.lines("2.1")
async def test_output_goes_on_after_a_restore(client: Client, busybox: Image):
    """The FIFOs of the restored task get what the process writes from then on."""
    say = ["/bin/sh", "-c", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done"]
    async with deleting(await client.create_container(image=busybox, args=say)) as container:
        async with open_fifos(stdin=False) as io, deleting(await container.create_task(io=io.config)) as task:
            await task.start()
            async for line in lines(task.stdout):
                if int(line) >= 5:
                    break
            saved = await task.checkpoint(exit=True)
        async with (
            deleting(saved),
            open_fifos(stdin=False) as io,
            deleting(await container.create_task(io=io.config, checkpoint=saved)) as task,
        ):
            await task.start()
            with anyio.fail_after(20):
                async for line in lines(task.stdout):
                    assert int(line) > 5
                    break


@pytest.mark.lines("2.1")
async def test_a_checkpoint_in_a_folder(client: Client, busybox: Image, tmp_path: Path):
    """checkpoint_to writes criu's files into a folder, its logs into another; create_task takes the folder."""
    async with deleting(await client.create_container(image=busybox, args=COUNT)) as container:
        async with deleting(await container.create_task()) as task:
            await task.start()
            counted = await _reach(task, 5)
            await task.checkpoint_to(str(tmp_path / "files"), exit=True, work_path=str(tmp_path / "work"))
            await task.wait()
        assert (tmp_path / "files" / "inventory.img").exists()
        assert (tmp_path / "work" / "dump.log").exists()
        async with deleting(await container.create_task(checkpoint=str(tmp_path / "files"))) as task:
            await task.start()
            assert await _reach(task, counted + 1) > counted


@pytest.mark.lines("2.1")
async def test_a_checkpoint_without_its_task(client: Client, busybox: Image):
    """Files and spec are kept without criu; a task of the restored container begins from the start, in those files."""
    write = ["/bin/sh", "-c", "cat /kept; hostname; echo kept > /kept"]
    options = RuncOptions(no_new_keyring=True)
    async with deleting(await client.create_container(image=busybox, args=write, runtime=options)) as container:
        with pytest.raises(FailedPreconditionError, match="no task"):
            await container.checkpoint("example.org/none:1")
        async with deleting(await container.create_task()) as task:
            await task.start()
            await task.wait()
        async with deleting(await container.checkpoint("example.org/files:1", task=False)) as saved:
            with pytest.raises(AlreadyExistsError):
                await container.checkpoint("example.org/files:1", task=False)
            restored = await client.restore_container("again", saved, spec_options=[with_hostname("other")])
            async with deleting(restored):
                assert RuncOptions.from_value((await restored.record()).runtime.options) == options
                with pytest.raises(InvalidArgumentError, match="no task in it"):
                    await restored.create_task(checkpoint=saved)
                async with open_fifos(stdin=False) as io, deleting(await restored.create_task(io=io.config)) as task:
                    await task.start()
                    await task.wait()
                    assert [line async for line in lines(task.stdout)] == [b"kept\n", b"other\n"]
            async with (
                deleting(await client.restore_container("bare", saved, rw=False)) as bare,
                open_fifos(stdin=False) as io,
                deleting(await bare.create_task(io=io.config)) as task,
            ):
                await task.start()
                await task.wait()
                assert b"kept" not in b"".join([line async for line in lines(task.stdout)])


@pytest.mark.lines("2.1")
async def test_an_image_is_no_checkpoint(client: Client, busybox: Image):
    """Restoring from an ordinary image says what it is not."""
    with pytest.raises(InvalidArgumentError, match="no checkpoint"):
        await client.restore_container("never", busybox)


async def test_ctr_and_we_restore_each_others(client: Client, busybox: Image, ctr):
    """What ctr saves we bring back, and the reverse, memory and files."""
    async with deleting(await client.create_container("ours", image=busybox, args=COUNT)) as container:  # noqa: SIM117
        async with deleting(await container.create_task()) as task:
            await task.start()
            counted = await _reach(task, 5)
            await ctr("containers", "checkpoint", "--rw", "--image", "--task", "ours", "example.org/ctr:1")
            async with deleting(await container.checkpoint("example.org/us:1", exit=True)):
                await task.wait()
                await ctr("containers", "restore", "--rw", "--live", "theirs", "example.org/us:1")
                async with (
                    deleting(await client.load_container("theirs")) as theirs,
                    deleting(await theirs.load_task()) as live,
                ):
                    assert await _reach(live, counted + 1) > counted
    async with (
        deleting(await client.load_image("example.org/ctr:1")) as saved,
        deleting(await client.restore_container("from-ctr", saved)) as restored,
        deleting(await restored.create_task(checkpoint=saved)) as task,
    ):
        await task.start()
        assert await _reach(task, counted + 1) > counted


async def test_without_criu(daemon_bin: Path, daemon_line: str, seeded_images, namespace: str, tmp_path: Path):
    """Where the daemon finds no criu, the error says to install it, and the task runs on; on 1.6 a path helps."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in ("/usr/sbin", "/usr/bin"):  # all there is but criu, which a machine may have
        for program in Path(place).iterdir():
            if program.name != "criu" and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)
    env = {"PATH": f"{daemon_bin}:{folder}"}
    async with (
        open_daemon(containerd=daemon_bin / "containerd", env=env) as daemon,
        connect(daemon.address, namespace=namespace) as client,
        deleting(await client.pull(seeded_images.busybox, via="client")) as image,
        deleting(await client.create_container(image=image, args=COUNT)) as container,
        deleting(await container.create_task()) as task,
    ):
        await task.start()
        with pytest.raises(CriuNotFoundError, match="install it"):
            await task.checkpoint()
        assert (await task.status()).state is TaskState.RUNNING
        files = str(tmp_path / "files")
        with pytest.raises(CriuNotFoundError):
            await task.checkpoint_to(files)
        await task.stop(grace=0)
        again = await container.create_task(checkpoint=files)
        with pytest.raises(CriuNotFoundError, match="install it"):
            await again.start()
        await again.delete(force=True)
        if daemon_line == "1.6":
            options = RuncOptions(criu_path=str(CRIU / "criu"))
            async with (
                deleting(await client.create_container(image=image, args=COUNT, runtime=options)) as named,
                deleting(await named.create_task()) as task,
            ):
                await task.start()
                await (await task.checkpoint()).delete()


@pytest.mark.lines("2.1")
async def test_what_criu_cannot_save(client: Client, busybox: Image):
    """criu's refusal is a typed error with the reason from its log, and the task runs on."""
    listen = ["/bin/sh", "-c", "nc -l -p 9 -e cat & sleep 0.3; sleep 1000 | nc 127.0.0.1 9"]  # a TCP connection
    async with (
        deleting(await client.create_container(image=busybox, args=listen)) as container,
        deleting(await container.create_task()) as task,
    ):
        await task.start()
        await anyio.sleep(1)
        with pytest.raises(CheckpointError) as caught:
            await task.checkpoint()
        assert any("criu's log" in note and "Error" in note for note in caught.value.__notes__)
        assert (await task.status()).state is TaskState.RUNNING


@pytest.mark.lines("2.1")
async def test_a_checkpoint_travels_in_an_archive(
    client: Client, busybox: Image, tmp_path: Path, daemon, seeded_images
):
    """Exported and imported into another namespace, with its image, a checkpoint goes on there."""
    archive = tmp_path / "saved.tar"
    async with (
        deleting(await client.create_container(image=busybox, args=COUNT)) as container,
        deleting(await container.create_task()) as task,
    ):
        await task.start()
        counted = await _reach(task, 5)
        async with deleting(await task.checkpoint("example.org/travels:1", exit=True)) as saved:
            await client.export_images([saved.name, busybox.name], archive, all_platforms=True)
            await task.wait()
    async with connect(daemon.address, namespace=f"{client.namespace}-there") as there:
        await there.import_images(archive, unpack=False, all_platforms=True)
        saved = await there.load_image("example.org/travels:1")
        async with (
            deleting(await there.restore_container("arrived", "example.org/travels:1")) as restored,
            deleting(await restored.create_task(checkpoint=saved)) as task,
        ):
            await task.start()
            assert await _reach(task, counted + 1) > counted
        await saved.delete()
        await there.images.delete(busybox.name, synchronous=True)
        await there.namespaces.delete(there.namespace)


@pytest.mark.lines("2.1")
async def test_a_restore_in_a_user_namespace(client: Client, busybox: Image):
    """A container with a user namespace has it again, and its files belong to whom they belonged."""
    write = ["/bin/sh", "-c", "stat -c '%u %n' /bin/sh /kept; cat /kept; echo kept >/kept; chown 7 /kept"]
    ids = UserNamespace.of(200_000)
    async with deleting(await client.create_container(image=busybox, args=write, user_namespace=ids)) as container:
        async with deleting(await container.create_task()) as task:
            await task.start()
            await task.wait()
        async with (
            deleting(await container.checkpoint("example.org/mapped:1", task=False)) as saved,
            deleting(await client.restore_container("mapped", saved)) as restored,
            open_fifos(stdin=False) as io,
            deleting(await restored.create_task(io=io.config)) as task,
        ):
            await task.start()
            await task.wait()
            assert [line async for line in lines(task.stdout)] == [b"0 /bin/sh\n", b"7 /kept\n", b"kept\n"]
