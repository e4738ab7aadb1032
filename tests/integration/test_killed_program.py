"""A program killed in the middle of its containers' lives: the next one clears everything away, or goes on with it."""

from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from containerd_py import Cleanup, Client, Daemon, FailedPreconditionError, Image, attach_fifos, connect, deleting
from containerd_py._daemon.cgroups import hierarchies, remove_cgroups
from containerd_py._daemon.leftovers import RUNC_ROOT, container_of, find_shims
from containerd_py._flows import fifo_care
from containerd_py.cio import fifo_orphans
from containerd_py.oci.spec_options import with_cgroup
from tests.integration.other_program import NUMBERS, open_other_program

SERVICES = "containerd_py.services"
POINTS = [  # after these the daemon has done what the program does not know of
    f"{SERVICES}.snapshots:SnapshotsService.prepare:after",
    f"{SERVICES}.containers:ContainersService.create:after",
    f"{SERVICES}.tasks:TasksService.create:after",
    f"{SERVICES}.tasks:TasksService.start:after",
    f"{SERVICES}.tasks:TasksService.exec:after",
    f"{SERVICES}.tasks:TasksService.delete:before",
]


def shims_of(daemon: Daemon, client: Client) -> list[int]:
    return [shim for shim in find_shims(daemon.address) if container_of(shim)[0] == client.namespace]


async def clear_after(client: Client, directory: Path) -> int:
    """Do what the next program does, see that nothing stays, and return how many containers there were."""
    containers = len(await client.list_containers())
    async with Cleanup() as cleanup:
        await cleanup.add_namespace(client.services)
    await client.cleanup_fifos(directory, older_than=timedelta(0))
    assert [record.id for record in await client.containers.list()] == []
    assert [status.id for status in await client.tasks.list()] == []
    assert [lease.id for lease in await client.leases.list()] == []
    assert [info.name for info in await client.snapshotter("overlayfs").list() if not info.is_committed] == []
    assert [*directory.glob("*")] == []
    return containers


@pytest.mark.lines("2.1")
async def test_the_next_program_clears_everything_away(client: Client, busybox: Image, tmp_path: Path):
    """Killed after any of its calls, a program leaves nothing that `Cleanup` of the next one does not undo."""
    directory = tmp_path / "fifos"
    found = []
    for point in POINTS:
        async with open_other_program(client, "stream", busybox.name, str(directory), point) as program:
            assert await program.go() == ""
        found.append(await clear_after(client, directory))
    assert found == [0, 1, 1, 1, 1, 1]


async def end_waiting_shim(client: Client, image: Image, daemon: Daemon, directory: Path, *, after: float) -> None:
    """Kill a program while its task is being created, and let the next one clear that away some seconds after."""
    async with open_other_program(client, "stuck", image.name, str(directory)) as program:
        await program.begin()
        with anyio.fail_after(30):
            while not (shims := shims_of(daemon, client)):
                await anyio.sleep(0.02)
        await anyio.sleep(0.5)  # for runc: the shim has come to its FIFOs
        await program.kill()
    await anyio.sleep(after)
    async with Cleanup() as cleanup:
        await cleanup.add_namespace(client.services)
    with anyio.fail_after(20):
        while shims_of(daemon, client):
            await anyio.sleep(0.02)
    assert shims
    assert (await client.run(image, ["/bin/true"], id="stuck")).exit_code == 0


async def test_a_shim_that_waits_for_a_killed_program(client: Client, busybox: Image, daemon: Daemon, tmp_path: Path):
    """A shim that waits for the reader of a task being created is set free, and ended with what it runs."""
    await end_waiting_shim(client, busybox, daemon, tmp_path, after=0)


def make_cgroups(path: str) -> list[Path]:
    """Make cgroups as runc does, in every hierarchy, and return them."""
    made = [root / path.lstrip("/") for root in hierarchies(Path("/proc/self/mountinfo").read_text())]
    for cgroup in made:
        cgroup.mkdir(parents=True, exist_ok=True)
    return made


@pytest.mark.lines("2.1")
async def test_cgroups_that_runc_does_not_know_of(client: Client, busybox: Image):
    """runc, killed after it made cgroups and before it wrote down its state, leaves them: the next program does not.

    Those that the container's spec names go as well as the default ones, and whatever is in them.
    """
    places = {"default": f"/{client.namespace}/default", "chosen": f"/{client.namespace}/pods/chosen"}
    made = []
    for container_id, path in places.items():
        await client.create_container(container_id, image=busybox, spec_options=[with_cgroup(path)])
        (RUNC_ROOT / client.namespace / container_id).mkdir(parents=True)
        made += [*make_cgroups(path), *make_cgroups(f"{path}/inner/inmost")]
    async with Cleanup() as cleanup:
        await cleanup.add_namespace(client.services)
        assert all(cgroup.exists() for cgroup in made)
    assert [cgroup for cgroup in made if cgroup.exists()] == []
    (RUNC_ROOT / client.namespace).rmdir()  # is empty again
    assert remove_cgroups([f"/{client.namespace}/pods"]) == []


@pytest.mark.lines("2.1")
async def test_a_cgroup_with_a_process_in_it(client: Client, busybox: Image):
    """What runs in the cgroup of a container that was lost runs on, and is told; the container goes."""
    path = f"/{client.namespace}/used"
    await client.create_container("used", image=busybox)
    made = make_cgroups(path)
    [cgroup] = [cgroup for cgroup in made if "pids" in cgroup.parts or len(made) == 1]
    async with await anyio.open_process(["/bin/sleep", "1000"]) as process:
        try:
            (cgroup / "cgroup.procs").write_text(str(process.pid))
            with pytest.raises(ExceptionGroup) as raised:
                async with Cleanup() as cleanup:
                    await cleanup.add_namespace(client.services)
            assert [place for place in made if place.exists()] == [cgroup]
            assert process.returncode is None
        finally:
            process.kill()
    assert raised.group_contains(FailedPreconditionError, match=f"{cgroup} is in use by process {process.pid}")
    assert await client.list_containers() == []
    assert remove_cgroups([path]) == []


@pytest.mark.lines("2.1")
async def test_fifos_of_the_namespace(client: Client, busybox: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """FIFOs of the tasks go with these, full ones as well; those in the default directory when they are old; no others.

    A shim that cannot pass on its task's output would hold up the task's deletion for 10 s.
    """
    own, default = tmp_path / "own", tmp_path / "default"
    monkeypatch.setattr(fifo_orphans, "default_directory", lambda: default)
    async with open_other_program(client, "abandon", busybox.name, str(own)) as program:
        await program.go()
    await anyio.sleep(1)  # until the FIFO is full
    [tasks] = own.iterdir()
    for directory in (own, default):
        (directory / "containerd-py-other").mkdir(0o700, parents=True)
    async with Cleanup() as cleanup:
        await cleanup.add_namespace(client.services)
        assert tasks.exists()
    assert sorted(tmp_path.glob("*/*")) == [default / "containerd-py-other", own / "containerd-py-other"]
    monkeypatch.setattr(fifo_care, "_LONG_AGO", timedelta(0))
    async with Cleanup() as cleanup:
        await cleanup.add_namespace(client.services)
    assert list(tmp_path.glob("*/*")) == [own / "containerd-py-other"]


async def test_the_next_program_goes_on_where_the_first_was_killed(client: Client, busybox: Image, tmp_path: Path):
    """What a killed program had not read is read by the next, every byte; input goes on, the end is told, all goes."""
    directory = tmp_path / "fifos"
    async with open_other_program(client, "abandon", busybox.name, str(directory)) as program:
        taken = int((await program.go()).removeprefix("done "))
    everything = b"".join(b"%d\n" % number for number in range(1, NUMBERS + 1))
    [container] = await client.list_containers()
    recorded = (await container.load_task()).io
    async with (
        deleting(container),
        attach_fifos(recorded, remove=True) as io,
        deleting(await container.load_task(io.config)) as task,
    ):
        assert task.stdin is not None
        assert task.stdout is not None
        await task.stdin.send(b"last words\n")
        rest = b"".join([chunk async for chunk in task.stdout])
        assert (await task.wait()).code == 4
    assert rest == everything[taken:] + b"last words\n"
    assert [*directory.iterdir()] == []


async def test_who_did_not_start_it_waits_through_a_restart(own_daemon: Daemon, namespace: str, seeded_images):
    """Another program's wait, begun before the daemon was killed and restarted, learns the end as ours does."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        image = await client.pull(seeded_images.busybox, via="client")
        async with client.open_run(image, ["/bin/sh", "-c", "read line; exit 6"], id="waited", stdin=True) as task:
            async with open_other_program(client, "wait", "waited") as program, anyio.create_task_group() as group:
                told: list[str] = []

                async def listen() -> None:
                    told.append(await program.go())

                group.start_soon(listen)
                await anyio.sleep(0.2)
                await own_daemon.kill()
                await own_daemon.restart()
                assert task.stdin is not None
                await task.stdin.send(b"go\n")
                assert (await task.wait()).code == 6
            assert told == ["done 6"]
        await image.delete(synchronous=True)
