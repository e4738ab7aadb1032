"""Shims and their runtime: what they leave, what they survive, and what they are told."""

import json
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from containerd_py import Client, Daemon, Image, RuncOptions, Runtime, connect, deleting, open_fifos
from containerd_py.errors import ContainerdError, NotFoundError
from containerd_py.services.tasks import TaskState
from tests.conformance.made import are_gone, created
from tests.harness.leaks import LeakOracle

RUNC = "io.containerd.runc.v2"
SLEEP = ["/bin/sleep", "1000"]


def bundle(daemon: Daemon, client: Client, container_id: str) -> Path:
    return daemon.state / "io.containerd.runtime.v2.task" / client.namespace / container_id


def shim_socket(folder: Path) -> Path:
    """Find the socket at which a shim answers, as it told the daemon."""
    told = folder / "bootstrap.json"
    address = json.loads(told.read_text())["address"] if told.exists() else (folder / "address").read_text()
    return Path(address.removeprefix("unix://"))


def shim_pid(client: Client, container_id: str) -> int:
    """Find the shim of a container among this machine's processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_text().split("\0")
        except OSError:
            continue  # ended meanwhile
        if "shim" in arguments[0] and {client.namespace, container_id} <= set(arguments):
            return int(path.parent.name)
    raise AssertionError(f"container {container_id} has no shim")


def open_fifos_of(pid: int) -> int:
    """Count the FIFOs that a process has open."""
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += descriptor.readlink().is_absolute() and stat.S_ISFIFO(descriptor.stat().st_mode)
        except FileNotFoundError:
            continue  # closed meanwhile
    return found


async def test_nothing_of_a_shim_stays(client: Client, busybox: Image, daemon: Daemon):
    """After a container's life its shim's socket is gone, and the daemon has no more FIFOs open than before."""
    before = open_fifos_of(daemon.pid)
    async with created(client, busybox, SLEEP) as task:
        await task.start()
        socket = shim_socket(bundle(daemon, client, task.id))
        shim = shim_pid(client, task.id)
        assert socket.is_socket()
    assert await are_gone([shim])
    with anyio.fail_after(20):
        while socket.exists() or open_fifos_of(daemon.pid) > before:
            await anyio.sleep(0.02)


async def test_a_shim_is_killed_after_the_daemon(client: Client, busybox: Image, daemon: Daemon):
    """Short of memory, the kernel takes a shim rather than the daemon: its score is the daemon's and one."""
    async with created(client, busybox, SLEEP) as task:
        scores = [
            int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (daemon.pid, shim_pid(client, task.id))
        ]
        assert scores[1] == min(scores[0] + 1, 1000)


async def test_names_may_be_as_long_as_they_can(daemon: Daemon, seeded_images, no_leaks: LeakOracle):
    """The longest namespace and the longest container ID make a path for a socket that fits all the same."""
    namespace = "n" * 76
    no_leaks.expect("namespace", namespace)
    async with connect(daemon.address, namespace=namespace) as client:
        async with deleting(await client.pull(seeded_images.busybox, via="client")) as image:
            completed = await client.run(image, ["/bin/echo", "long"], id="c" * 64)
            assert completed.stdout == b"long\n"
            await image.delete(synchronous=True)
        await client.namespaces.delete(namespace)


async def test_another_shim_binary_is_used(client: Client, busybox: Image, daemon_bin: Path, tmp_path: Path):
    """A shim is started from the path it is given, and the task runs as any."""
    binary = Path(shutil.copy(daemon_bin / "containerd-shim-runc-v2", tmp_path / "containerd-shim-mine-v2"))
    container = await client.create_container(image=busybox, args=["/bin/sh", "-c", "exit 7"])
    async with deleting(container), deleting(await container.create_task(runtime_path=str(binary))) as task:
        shims = [path for path in Path("/proc").glob("[0-9]*/exe") if _leads_to(path, binary)]
        assert len(shims) == 1
        await task.start()
        assert (await task.wait()).code == 7


def _leads_to(link: Path, target: Path) -> bool:
    try:
        return link.readlink() == target
    except OSError:
        return False


async def test_options_reach_the_runtime(client: Client, busybox: Image):
    """A container's runtime options hold for its tasks, and options given with a task hold instead."""
    runtime = Runtime(name=RUNC, options=RuncOptions(binary_name="no-runc"))
    async with deleting(await client.create_container(image=busybox, args=SLEEP, runtime=runtime)) as container:
        with pytest.raises(ContainerdError, match="no-runc"):
            await container.create_task()
        with pytest.raises(ContainerdError, match="no-runc"):
            await container.create_task(options=RuncOptions(binary_name="no-runc", no_new_keyring=True))
        async with deleting(await container.create_task(options=RuncOptions(binary_name="runc"))) as task:
            await task.start()
            assert (await task.status()).state is TaskState.RUNNING


async def test_outputs_may_belong_to_a_group(client: Client, busybox: Image):
    """The runtime's options say to which group the pipes of a container's streams belong."""
    runtime = Runtime(name=RUNC, options=RuncOptions(io_uid=1000, io_gid=1001))
    async with open_fifos(stdin=False) as io:
        arguments = ["/bin/busybox", "stat", "-L", "-c", "%g", "/proc/self/fd/1"]
        async with created(client, busybox, arguments, io=io.config, runtime=runtime) as task:
            await task.start()
            assert task.stdout is not None
            assert await task.stdout.receive() == b"1001\n"  # runc gives them to the user who runs


async def test_a_shim_may_live_in_a_cgroup(client: Client, busybox: Image, daemon: Daemon, namespace: str):
    """A shim is put into the cgroup that the task's options name."""
    folders = [path / namespace for path in _cgroup_roots()]
    try:
        for folder in folders:
            folder.mkdir()
        async with deleting(await client.create_container(image=busybox, args=SLEEP)) as container:
            options = RuncOptions(shim_cgroup=f"/{namespace}")
            async with deleting(await container.create_task(options=options)) as task:
                shim = shim_pid(client, task.id)
                inside = [folder for folder in folders if str(shim) in (folder / "cgroup.procs").read_text().split()]
                assert inside
    finally:
        with anyio.fail_after(20, shield=True):
            while any(_still_used(folder) for folder in folders):
                await anyio.sleep(0.02)


def _cgroup_roots() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.procs").exists():
        return [root]
    # A cpuset takes nobody before it has processors: it is left out.
    return [path for path in root.iterdir() if not path.is_symlink() and "cpuset" not in path.name]


def _still_used(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


async def test_a_container_deleted_behind_the_daemon(client: Client, busybox: Image, daemon: Daemon):
    """Where somebody used runc itself, the wait ends, killing finds nothing, and deleting cleans up."""
    async with created(client, busybox, SLEEP) as task:
        await task.start()
        root = Path("/run/containerd/runc") / client.namespace
        command = ["runc", "--root", root, "delete", "--force", task.id]
        await to_thread.run_sync(lambda: subprocess.run(command, check=True, capture_output=True, timeout=30))
        with anyio.fail_after(20):
            assert (await task.wait()).code == 137
        with pytest.raises(NotFoundError):
            await task.kill(signal.SIGKILL)


SLOW_RUNC = """#!/bin/sh
# runc whose execs are reported late
runc "$@"
code=$?
case " $* " in *" exec "*) sleep 1 ;; esac
exit $code
"""


async def test_execs_that_are_just_starting_end_with_the_task(client: Client, busybox: Image, tmp_path: Path):
    """The first process ends while execs are still being started: all three ends are told."""
    runc = tmp_path / "slow-runc"
    runc.write_text(SLOW_RUNC)
    runc.chmod(0o755)
    runtime = Runtime(name=RUNC, options=RuncOptions(binary_name=str(runc)))
    ends: list[int] = []
    async with created(client, busybox, SLEEP, runtime=runtime) as task:
        await task.start()
        execs = [await task.create_exec(SLEEP, id=f"exec{number}") for number in range(2)]

        async def start_and_wait(index: int) -> None:
            await execs[index].start()
            ends.append((await execs[index].wait()).code)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for index in range(2):
                    group.start_soon(start_and_wait, index)
                while len(await task.pids()) != 3:
                    await anyio.sleep(0.02)
                await task.kill(signal.SIGKILL)
                ends.append((await task.wait()).code)
        for process in execs:
            assert (await process.status()).state is TaskState.STOPPED
            await process.delete()
    assert ends == [137, 137, 137]


async def test_a_daemon_that_was_killed_finds_its_shims(own_daemon: Daemon, namespace: str, seeded_images):
    """A killed daemon's successor reads the shims' logs again, its tasks can be waited for, killed and deleted."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        image = await client.pull(seeded_images.busybox, via="client")
        async with created(client, image, SLEEP) as task:
            await task.start()
            shim = shim_pid(client, task.id)
            logs = open_fifos_of(own_daemon.pid)
            await own_daemon.kill()
            await own_daemon.restart()
            assert await client.version()
            with anyio.fail_after(20):
                while open_fifos_of(own_daemon.pid) < logs:
                    await anyio.sleep(0.02)
            assert (await task.status()).pid == task.pid
            await task.kill(signal.SIGKILL)
            assert (await task.wait()).code == 137
            await task.delete()
            assert await are_gone([task.pid, shim])
        await image.delete(synchronous=True)
