"""Options of runc, and other runtimes: each seen by what it does. OOM and exit events of a container."""

import shutil
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, Image, RuncOptions, Runtime, ShimOptions, TaskExit, TaskOOM, deleting
from containerd_py.errors import ContainerdError, DataLossError, InvalidArgumentError
from containerd_py.oci.spec_options import with_memory_limit, with_memory_swap
from containerd_py.services.runc import options_value
from containerd_py.typeurl import TypedValue

SLEEP = ["/bin/sleep", "1000"]


async def test_a_runtime_of_ones_own(client: Client, busybox: Image, tmp_path: Path):
    """binary_name is started instead of runc, with root as the folder of its state; the record keeps the options."""
    wrapper = tmp_path / "my-runtime"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\nexec runc "$@"\n')
    wrapper.chmod(0o755)
    options = RuncOptions(binary_name=str(wrapper), root=str(tmp_path / "state"), no_pivot_root=True)
    async with (
        deleting(await client.create_container("own", image=busybox, args=SLEEP, runtime=options)) as container,
        deleting(await container.create_task()) as task,
    ):
        await task.start()
        record = await container.record()
        assert record.runtime.name == "io.containerd.runc.v2"
        assert RuncOptions.from_value(record.runtime.options) == options
        assert (tmp_path / "state" / client.namespace / "own" / "state.json").exists()
        calls = (tmp_path / "calls").read_text()
        assert "--no-pivot" in calls
        assert "create" in calls


@pytest.mark.lines("2.1")
async def test_options_of_one_task(client: Client, busybox: Image, tmp_path: Path):
    """A task's own options hold instead of its container's."""
    container = await client.create_container("one", image=busybox, args=SLEEP, runtime=RuncOptions(root="/nowhere/x"))
    own = RuncOptions(root=str(tmp_path / "own"))
    async with deleting(container), deleting(await container.create_task(options=own)) as task:
        await task.start()
        assert (tmp_path / "own" / client.namespace / "one").is_dir()
        await task.stop(grace=0)


@pytest.mark.lines("2.1")
async def test_the_owner_of_pipes(client: Client, busybox: Image):
    """io_uid and io_gid own the pipes, so that a user who is not root can open /dev/stdout."""
    say = ["/bin/sh", "-c", "stat -Lc '%u %g' /proc/self/fd/1; echo again >/dev/stdout"]
    options = RuncOptions(io_uid=1234, io_gid=4321)
    completed = await client.run(busybox, say, user="1234:4321", runtime=options)
    assert completed.stdout == b"1234 4321\nagain\n"


@pytest.mark.lines("2.1")
async def test_the_cgroup_of_the_shim(client: Client, busybox: Image):
    """shim_cgroup, which is there already, is where the shim goes, apart from the container."""
    path = f"/{client.namespace}-shim"
    options = RuncOptions(shim_cgroup=path)
    made = [folder / path[1:] for folder in Path("/sys/fs/cgroup").iterdir() if (folder / "tasks").exists()]
    for folder in made:
        folder.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (folder / name).exists():
                (folder / name).write_text((folder.parent / name).read_text())
    try:
        async with client.open_run(busybox, SLEEP, runtime=options) as task:
            shim = Path(f"/proc/{task.pid}/stat").read_text().rpartition(")")[2].split()[1]
            assert path in Path(f"/proc/{shim}/cgroup").read_text()
            assert path not in Path(f"/proc/{task.pid}/cgroup").read_text()
    finally:
        for folder in made:
            if folder.exists():  # controllers mounted together are one folder by two names
                folder.rmdir()


@pytest.mark.lines("2.1")
async def test_the_keyring(client: Client, busybox: Image, tmp_path: Path):
    """no_new_keyring reaches runc; without it a container gets a session keyring of its own."""
    wrapper = tmp_path / "my-runtime"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\nexec runc "$@"\n')
    wrapper.chmod(0o755)
    for wanted in (False, True):
        await client.run(busybox, ["/bin/true"], runtime=RuncOptions(binary_name=str(wrapper), no_new_keyring=wanted))
        assert ("--no-new-keyring" in (tmp_path / "calls").read_text()) is wanted


@pytest.mark.lines("2.1")
async def test_a_cgroup_that_systemd_makes(client: Client, busybox: Image):
    """systemd_cgroup reaches runc, which takes the cgroup's path for systemd's form of it."""
    with pytest.raises(ContainerdError, match=r"slice:prefix:name|systemd"):
        await client.run(busybox, ["/bin/true"], runtime=RuncOptions(systemd_cgroup=True))


async def test_runtimes_by_name_and_path(client: Client, busybox: Image, daemon_bin: Path, tmp_path: Path):
    """A runtime's name stands for a binary in the daemon's PATH, a path for itself; what is not there says so."""
    shim = tmp_path / "containerd-shim-other-v1"
    shutil.copy2(daemon_bin / "containerd-shim-runc-v2", shim)
    container = await client.create_container(image=busybox, args=SLEEP)
    async with deleting(container), deleting(await container.create_task(runtime_path=str(shim))) as task:
        await task.start()
        parent = Path(f"/proc/{task.pid}/stat").read_text().rpartition(")")[2].split()[1]
        assert str(shim) in Path(f"/proc/{parent}/cmdline").read_text()
        await task.stop(grace=0)
    with pytest.raises(ContainerdError, match=r"containerd-shim-missing-v1|io\.containerd\.missing"):
        await client.run(busybox, ["/bin/true"], runtime="io.containerd.missing.v1")


@pytest.mark.lines("2.1")
async def test_options_of_other_runtimes(client: Client, busybox: Image):
    """Options are kept as they are given, of whatever type, and are given back typed where the type is known."""
    kata = Runtime(name="io.containerd.kata.v2", options=ShimOptions(config_path="/etc/kata.toml", config_body=b"x"))
    async with deleting(await client.create_container(image=busybox, args=SLEEP, runtime=kata)) as container:
        runtime = (await container.record()).runtime
        assert runtime == kata
        assert ShimOptions.from_value(runtime.options).config_path == "/etc/kata.toml"
        with pytest.raises(InvalidArgumentError, match="no options of runc"):
            RuncOptions.from_value(runtime.options)


async def test_out_of_memory_and_the_end_are_told(client: Client, busybox: Image):
    """A container over its memory limit is killed: an OOM event and an exit event with 137 say so, in that order."""
    eat = ["/bin/sh", "-c", "exec tail /dev/zero"]
    limits = [with_memory_limit(16 * 2**20), with_memory_swap(16 * 2**20)]
    seen = []
    filters = [f'topic~="/tasks/(oom|exit)",namespace=="{client.namespace}"']
    async with (
        client.events.subscribe(*filters) as envelopes,
        client.open_run(busybox, eat, id="hungry", spec_options=limits) as task,
    ):
        with anyio.fail_after(30):
            async for envelope in envelopes:
                seen.append(envelope.event)
                if isinstance(envelope.event, TaskExit):
                    break
        assert (await task.wait()).code == 137
    assert isinstance(seen[0], TaskOOM)
    assert (seen[-1].container_id, seen[-1].exit_status) == ("hungry", 137)


def test_options_are_written_as_the_daemon_reads_them():
    """Every option survives its way into a record and back; what cannot be is refused."""
    options = RuncOptions(
        binary_name="crun",
        root="/r",
        systemd_cgroup=True,
        no_pivot_root=True,
        no_new_keyring=True,
        shim_cgroup="/s",
        io_uid=1,
        io_gid=2**32 - 1,
        criu_path="/opt/" + "x" * 300,
        criu_image_path="/i",
        criu_work_path="/w",
        task_api_address="unix:///t",
        task_api_version=3,
    )
    assert RuncOptions.from_value(options.to_value()) == options
    assert RuncOptions.from_value(RuncOptions().to_value()) == RuncOptions()
    value = TypedValue(type_url="other", value=b"x")
    assert options_value(value) is value
    with pytest.raises(InvalidArgumentError, match="io_uid=-1"):
        RuncOptions(io_uid=-1).to_value()
    with pytest.raises(DataLossError):
        RuncOptions.from_value(TypedValue(type_url="containerd.runc.v1.Options", value=b"\x1a\xff"))
