"""Names of containers: one holder each, whoever races for it, and never lost with a program that was killed."""

import os
import stat
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, Image, deleting
from containerd_py.errors import (
    AlreadyExistsError,
    ContainerdError,
    InvalidArgumentError,
    NotFoundError,
    ProcessExitError,
)
from tests.integration.other_program import open_other_program

SLEEP = ["/bin/sleep", "1000"]
CREATE = "containerd_py._flows.create_container"
DELETE = "containerd_py._flows.delete_container"
RECORDS = "containerd_py.services.containers:ContainersService"


def store_of(data_root: Path) -> Path:
    (store,) = data_root.iterdir()
    return store


async def test_a_name_comes_with_a_private_directory(client: Client, busybox: Image, data_root: Path):
    """A named container has a directory of mode 0700 where nerdctl would have it, and both go with the container."""
    async with deleting(await client.create_container(image=busybox, args=SLEEP, name="web")) as container:
        store = store_of(data_root)
        state = store / "containers" / client.namespace / container.id
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert (store / "names" / client.namespace / "web").read_text() == container.id
        labels = await container.labels()
        assert labels["nerdctl/name"] == "web"
        assert labels["nerdctl/state-dir"] == str(state)
        assert (await client.load_container_named("web")).id == container.id
        assert await container.name() == "web"
    assert not state.exists()
    assert list((store / "names" / client.namespace).iterdir()) == []
    with pytest.raises(NotFoundError, match="web"):
        await client.load_container_named("web")


@pytest.mark.lines("2.1")
async def test_a_container_without_a_name_needs_no_directory(client: Client, busybox: Image, data_root: Path):
    """What nobody asked for is not made."""
    async with deleting(await client.create_container(image=busybox, args=SLEEP)) as container:
        assert await container.name() is None
        assert not data_root.exists()


@pytest.mark.lines("2.1")
async def test_a_taken_name_tells_its_holder(client: Client, busybox: Image):
    """The second container of a name is refused, the error names the first, and nothing of the second is left."""
    async with deleting(await client.create_container(image=busybox, args=SLEEP, name="web")) as first:
        with pytest.raises(AlreadyExistsError, match=f"belongs to container {first.id}"):
            await client.create_container("second", image=busybox, args=SLEEP, name="web")
        assert [found.id for found in await client.list_containers()] == [first.id]
        with pytest.raises(NotFoundError):
            await client.snapshotter("overlayfs").stat("second")
    await (await client.create_container(image=busybox, args=SLEEP, name="web")).delete()


@pytest.mark.lines("2.1")
async def test_a_run_leaves_nothing(client: Client, busybox: Image, data_root: Path):
    """A run with a name and a volume of its own takes both with it, also when it fails."""
    options = {"name": "web", "volumes": ["/own"]}
    await client.run(busybox, ["/bin/true"], **options)
    with pytest.raises(ProcessExitError):
        await client.run(busybox, ["/bin/false"], **options)
    with pytest.raises(ContainerdError):
        await client.run(busybox, ["/no-such-command"], **options)
    assert list(data_root.glob("*/*/*/*")) == []


@pytest.mark.lines("2.1")
async def test_a_failure_gives_the_name_back(client: Client, busybox: Image, data_root: Path):
    """A container that cannot be made leaves neither name nor directory."""
    with pytest.raises(NotFoundError):
        await client.create_container("failed", image=busybox, args=SLEEP, name="web", user="nobody-of-that-name")
    store = store_of(data_root)
    assert list((store / "names" / client.namespace).iterdir()) == []
    assert list((store / "containers" / client.namespace).iterdir()) == []


@pytest.mark.lines("2.1")
async def test_what_cannot_be_a_name_is_refused(client: Client, busybox: Image, data_root: Path):
    """A name is what nerdctl takes for one, and never a path."""
    for name in ("", "x", "../up", "a/b", "-a", "a b", "ü" * 3, "a" * 77, "a\n"):
        with pytest.raises(InvalidArgumentError, match="cannot be the name of a container"):
            await client.create_container(image=busybox, args=SLEEP, name=name)
    assert not data_root.exists()


@pytest.mark.lines("2.1")
async def test_of_two_programs_one_wins(client: Client, busybox: Image):
    """However two programs race for a name, one has it and the other is told who."""
    async with (
        open_other_program(client, "create", busybox.name, "web") as one,
        open_other_program(client, "create", busybox.name, "web") as two,
    ):
        said: list[str] = []

        async def go(program) -> None:
            said.append(await program.go())

        async with anyio.create_task_group() as group:
            group.start_soon(go, one)
            group.start_soon(go, two)
    done, refused = sorted(said)
    winner = done.removeprefix("done ")
    assert [found.id for found in await client.list_containers()] == [winner]
    assert refused.startswith("refused ")
    assert winner in refused
    await (await client.load_container(winner)).delete()


@pytest.mark.lines("2.1")
async def test_many_flows_of_one_program_race_as_well(client: Client, busybox: Image):
    """Of twenty that want a name at once, one gets it."""
    won: list[str] = []

    async def create() -> None:
        with suppress(AlreadyExistsError):
            won.append((await client.create_container(image=busybox, args=SLEEP, name="web")).id)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(create)
    assert [found.id for found in await client.list_containers()] == won
    assert len(won) == 1
    await (await client.load_container(won[0])).delete()


@pytest.mark.lines("2.1")
@pytest.mark.parametrize("step", [f"{CREATE}:acquire_name:after", f"{RECORDS}.create:before"])
async def test_a_maker_that_was_killed_holds_no_name(client: Client, busybox: Image, data_root: Path, step: str):
    """The name of a container that never came to be is free at once, and its directory is cleared away."""
    async with open_other_program(client, "create", busybox.name, "web", step) as program:
        assert await program.go() == ""
    async with deleting(await client.create_container(image=busybox, args=SLEEP, name="web")) as container:
        directories = [path.name for path in (store_of(data_root) / "containers" / client.namespace).iterdir()]
        assert directories == [container.id]
        assert await client.cleanup_state_directories() == []
        assert (await client.load_container_named("web")).id == container.id
    await forget_leases(client)


@pytest.mark.lines("2.1")
async def test_directories_of_killed_makers_are_found(client: Client, busybox: Image, data_root: Path):
    """A directory without a container is removed on request; one that a container has stays."""
    async with open_other_program(client, "create", busybox.name, "web", f"{CREATE}:acquire_name:before") as program:
        assert await program.go() == ""
    folder = store_of(data_root) / "containers" / client.namespace
    (leftover,) = [path.name for path in folder.iterdir()]
    async with deleting(await client.create_container(image=busybox, args=SLEEP, name="web")) as container:
        assert await client.cleanup_state_directories() == [leftover]
        assert [path.name for path in folder.iterdir()] == [container.id]


@pytest.mark.lines("2.1")
async def test_a_maker_that_was_killed_at_the_end_has_made_it(client: Client, busybox: Image):
    """Once the record is there the name is the container's, and goes with it."""
    async with open_other_program(client, "create", busybox.name, "web", f"{RECORDS}.create:after") as program:
        assert await program.go() == ""
    (container,) = await client.list_containers()
    with pytest.raises(AlreadyExistsError, match=container.id):
        await client.create_container(image=busybox, args=SLEEP, name="web")
    assert await client.cleanup_state_directories() == []
    await container.delete()
    await (await client.create_container(image=busybox, args=SLEEP, name="web")).delete()
    await forget_leases(client)


@pytest.mark.lines("2.1")
@pytest.mark.parametrize(
    "step",
    [f"{DELETE}:remove_state_directory:before", f"{RECORDS}.delete:before", f"{RECORDS}.delete:after"],
)
async def test_a_deletion_that_was_killed_can_be_finished(client: Client, busybox: Image, data_root: Path, step: str):
    """The next program deletes what is left, and the name is free."""
    container = await client.create_container(image=busybox, args=SLEEP, name="web")
    async with open_other_program(client, "delete", container.id, "", step) as program:
        assert await program.go() == ""
    for left in await client.list_containers():
        await left.delete()
    await (await client.create_container(image=busybox, args=SLEEP, name="web")).delete()
    assert list((store_of(data_root) / "containers" / client.namespace).iterdir()) == []
    assert list((store_of(data_root) / "names" / client.namespace).iterdir()) == []


@pytest.mark.lines("2.1")
async def test_names_that_nerdctl_is_using_are_left_alone(client: Client, busybox: Image, data_root: Path):
    """nerdctl takes the name before the container exists and holds no lock: such a name is not taken over at once."""
    await (await client.create_container(image=busybox, args=SLEEP, name="web")).delete()
    store = store_of(data_root)
    name, state = store / "names" / client.namespace / "db", store / "containers" / client.namespace / "half-made"
    name.write_text("half-made")
    state.mkdir()
    with pytest.raises(AlreadyExistsError, match="half-made"):
        await client.create_container(image=busybox, args=SLEEP, name="db")
    assert await client.cleanup_state_directories() == []
    os.utime(name, (0, 0))
    await (await client.create_container(image=busybox, args=SLEEP, name="db")).delete()


@pytest.mark.lines("2.1")
async def test_a_name_that_nobody_can_hold_is_free(client: Client, busybox: Image, data_root: Path):
    """What is no container's ID in a name's file keeps nobody from taking the name."""
    await (await client.create_container(image=busybox, args=SLEEP, name="web")).delete()
    for content in (b"", b"\xff\x00", b"../../etc", b"no such", b"x" * 5000):
        (store_of(data_root) / "names" / client.namespace / "web").write_bytes(content)
        await (await client.create_container(image=busybox, args=SLEEP, name="web")).delete()


@pytest.mark.lines("2.1")
async def test_a_label_leads_to_nothing_else(client: Client, busybox: Image, tmp_path: Path):
    """A container whose label names another directory is deleted without it."""
    for place in (tmp_path / "precious", tmp_path / "containers" / client.namespace / "other"):
        place.mkdir(parents=True)
        labels = {"nerdctl/state-dir": str(place), "nerdctl/name": "web"}
        await (await client.create_container(image=busybox, args=SLEEP, labels=labels)).delete()
        assert place.exists()


async def forget_leases(client: Client) -> None:
    """Delete the leases of programs that were killed; they would end by themselves within a day."""
    for lease in await client.leases.list():
        await client.leases.delete(lease.id, synchronous=True)
