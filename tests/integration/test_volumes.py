"""Volumes: data that outlives containers, and data that goes with them."""

import json
import stat
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, Image, Volume, VolumeMount, deleting
from containerd_py.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError
from containerd_py.oci.spec_options import with_mounts, with_process_args
from tests.integration.other_program import open_other_program

SLEEP = ["/bin/sleep", "1000"]


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


async def test_data_outlives_the_container(client: Client, busybox: Image, data_root: Path):
    """What one container writes into a named volume the next one reads; the volume lies where nerdctl has it."""
    await client.run(busybox, shell("echo kept >/data/file"), volumes=["keep:/data"])
    assert (await client.run(busybox, shell("cat /data/file"), volumes=["keep:/data:ro"])).stdout == b"kept\n"
    read_only = await client.run(busybox, shell("echo no >/data/file"), volumes=["keep:/data:ro"], check=False)
    assert b"Read-only" in read_only.stderr
    (store,) = data_root.iterdir()
    folder = store / "volumes" / client.namespace / "keep"
    volume = await client.volumes.load("keep")
    assert volume == Volume(name="keep", path=str(folder / "_data"))
    assert json.loads((folder / "volume.json").read_text()) == {"labels": {}}
    assert (folder / "_data" / "file").read_text() == "kept\n"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    await client.volumes.delete("keep")
    assert await client.volumes.list() == []
    assert not folder.exists()


@pytest.mark.lines("2.1")
async def test_an_empty_volume_gets_the_images_content(client: Client, layered: Image):
    """Files, links, owners and modes of the image are copied once; what is in a volume already stays."""
    script = "ls -ln /etc; stat -c '%a %u' /etc; cat /etc/added || echo changed >/etc/added"

    async def run(*volumes: VolumeMount | str) -> bytes:
        args = with_process_args(*shell(script))
        return (await client.run(layered, user="0", volumes=volumes, spec_options=[args])).stdout

    plain = await run()
    assert b"passwd" in plain
    assert await run("etc:/etc") == plain
    assert (await run("etc:/etc")).endswith(b"changed\n")
    assert b"passwd" not in await run(VolumeMount(destination="/etc", copy=False))
    await client.volumes.delete("etc")


@pytest.mark.lines("2.1")
async def test_a_containers_own_volumes_go_with_it(client: Client, layered: Image):
    """Volumes without a name, also those the image declares, are there while the container is, and named in labels."""
    declared = (await layered.config()).volumes
    assert declared
    container = await client.create_container(image=layered, args=SLEEP, volumes=["/own"], image_volumes=True)
    async with deleting(container):
        mounts = {mount["destination"]: mount["source"] for mount in (await container.spec())["mounts"]}
        volumes = await client.volumes.list()
        assert {volume.path for volume in volumes} == {mounts[place] for place in ("/own", *declared)}
        assert all(volume.is_anonymous for volume in volumes)
        labels = await container.labels()
        assert sorted(json.loads(labels["nerdctl/anonymous-volumes"])) == [volume.name for volume in volumes]
        entry = json.loads(labels["nerdctl/mounts.0"])
        assert (entry["Type"], entry["Driver"], entry["RW"]) == ("volume", "local", True)
        assert entry["Source"] == mounts[entry["Destination"]]
        for volume in volumes:
            assert await client.volumes.users(volume.name) == [container.id]
            with pytest.raises(FailedPreconditionError, match=container.id):
                await client.volumes.delete(volume.name)
        assert await client.volumes.prune(all=True) == []
    assert await client.volumes.list() == []


@pytest.mark.lines("2.1")
async def test_an_image_that_declares_volumes_has_none_unless_asked(client: Client, layered: Image, data_root: Path):
    """A plain container makes nothing outside of the daemon."""
    async with deleting(await client.create_container(image=layered, args=SLEEP)):
        assert not data_root.exists()


@pytest.mark.lines("2.1")
async def test_made_found_and_pruned(client: Client, busybox: Image):
    """Volumes are made once, listed by name, and pruned where nobody uses them; names only on request."""
    named = await client.volumes.create("named", labels={"colour": "red"})
    own = await client.volumes.create()
    assert await client.volumes.list() == sorted([named, own], key=lambda volume: volume.name)
    assert (await client.volumes.load("named")).labels == {"colour": "red"}
    with pytest.raises(AlreadyExistsError):
        await client.volumes.create("named")
    with pytest.raises(NotFoundError):
        await client.volumes.load("other")
    with pytest.raises(NotFoundError):
        await client.volumes.delete("other")
    async with deleting(await client.create_container(image=busybox, args=SLEEP, volumes=["named:/data"])):
        assert [volume.name for volume in await client.volumes.prune(all=True)] == [own.name]
    assert await client.volumes.prune() == []
    assert await client.volumes.prune(all=True) == [named]


@pytest.mark.lines("2.1")
async def test_a_failure_takes_back_what_it_made(client: Client, busybox: Image):
    """Volumes that were made for a container that cannot be made are gone; those that were there before stay."""
    await client.volumes.create("before")
    with pytest.raises(NotFoundError):
        await client.create_container(
            image=busybox, args=SLEEP, volumes=["before:/a", "new:/b", "/c"], user="nobody-of-that-name"
        )
    assert [volume.name for volume in await client.volumes.list()] == ["before"]
    await client.volumes.delete("before")


@pytest.mark.lines("2.1")
async def test_volumes_lie_on_what_they_lie_in(client: Client, busybox: Image, tmp_path: Path):
    """A mount inside another one is seen, in whichever order they are given."""
    (tmp_path / "host").touch()
    bind = {"destination": "/data/inner/host", "type": "bind", "source": str(tmp_path), "options": ["rbind"]}
    done = await client.run(busybox, shell("find /data"), volumes=["/data/inner", "/data"], mounts=[bind])
    assert b"/data/inner/host/host" in done.stdout


@pytest.mark.lines("2.1")
async def test_a_bind_mount_uses_a_volume_too(client: Client, busybox: Image):
    """A container that mounts a volume by its path keeps it from being removed, whatever its labels say."""
    volume = await client.volumes.create("data")
    bind = with_mounts({"destination": "/d", "type": "bind", "source": volume.path, "options": ["rbind"]})
    async with deleting(await client.create_container(image=busybox, args=SLEEP, spec_options=[bind])) as container:
        assert await client.volumes.users("data") == [container.id]
        with pytest.raises(FailedPreconditionError):
            await client.volumes.delete("data")
    await client.volumes.delete("data")


@pytest.mark.lines("2.1")
async def test_an_own_volume_that_another_uses_stays(client: Client, busybox: Image):
    """A container's own volume outlives it where another container has mounted it meanwhile."""
    first = await client.create_container(image=busybox, args=SLEEP, volumes=["/own"])
    (own,) = await client.volumes.list()
    async with deleting(await client.create_container(image=busybox, args=SLEEP, volumes=[f"{own.name}:/borrowed"])):
        await first.delete()
        assert await client.volumes.list() == [own]
    assert await client.volumes.prune() == [own]


@pytest.mark.lines("2.1")
async def test_foreign_labels_remove_nothing(client: Client, busybox: Image):
    """A container that claims a volume for its own by a label takes none with it that somebody has named."""
    await client.volumes.create("precious")
    for claim in ('["precious"]', "[1, null", '["../../names"]', "{}"):
        labels = {"nerdctl/anonymous-volumes": claim, "nerdctl/mounts": "[" * 1000}
        await (await client.create_container(image=busybox, args=SLEEP, labels=labels)).delete()
    assert [volume.name for volume in await client.volumes.list()] == ["precious"]
    await client.volumes.delete("precious")


@pytest.mark.lines("2.1")
async def test_a_program_killed_while_it_removes_leaves_no_half(client: Client, busybox: Image, data_root: Path):
    """A volume is whole or gone: what is left of a removal that was killed is no volume, and is cleared away."""
    container = await client.create_container(image=busybox, args=SLEEP, volumes=["/own"])
    step = "containerd_py._flows.delete_container:remove_own_volumes:after"
    async with open_other_program(client, "delete", container.id, "", step) as program:
        assert await program.go() == ""
    assert await client.volumes.list() == []
    await container.delete()
    (folder,) = (store for store in data_root.glob("*/volumes/*"))
    (folder / ".going-x" / "_data").mkdir(parents=True)
    assert await client.volumes.prune() == []
    assert list(folder.iterdir()) == []


@pytest.mark.lines("2.1")
async def test_many_want_the_same_new_volume(client: Client, busybox: Image):
    """Containers that are created at once share a volume that none of them found."""
    created = []

    async def create() -> None:
        created.append(await client.create_container(image=busybox, args=SLEEP, volumes=["shared:/data"]))

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(create)
    assert sorted(await client.volumes.users("shared")) == sorted(container.id for container in created)
    for container in created:
        await container.delete()
    await client.volumes.delete("shared")
