"""What spec options ask for is so inside the container, or in its cgroup: each seen in a real one."""

import re
from pathlib import Path

import attrs
import pytest

from containerd_py import Client, Image, deleting, open_fifos
from containerd_py.cio.copying import collect
from containerd_py.errors import ContainerdError, InvalidArgumentError, NotFoundError
from containerd_py.oci import spec_options as so
from containerd_py.oci.host import device_at

pytestmark = pytest.mark.lines("2.1")  # it is runc that does it
CGROUPS = Path("/sys/fs/cgroup")


async def inside(client: Client, image: Image, script: str, *options: so.SpecOption, **more) -> list[str]:
    """Run a shell script under options and return the lines it wrote."""
    done = await client.run(image, ["/bin/sh", "-c", script], spec_options=options, **more)
    return done.stdout.decode().splitlines()


async def test_kernel_parameters(client: Client, busybox: Image):
    """Sysctls of the container's own namespaces are set there and nowhere else."""
    settings = so.with_sysctl({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096", "net.core.somaxconn": "77"})
    script = "cd /proc/sys; cat net/ipv4/ip_forward kernel/msgmax net/core/somaxconn"
    assert await inside(client, busybox, script, settings) == ["1", "4096", "77"]
    assert Path("/proc/sys/kernel/msgmax").read_text() != "4096\n"


async def test_hooks_run_at_their_points(client: Client, busybox: Image, tmp_path: Path):
    """Each hook runs once, in order, with its arguments, environment and the container's state on its input."""
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\necho "$1 $WHERE $(sed -n \'s/.*"id":"\\([^"]*\\)".*/\\1/p\')" >>{tmp_path}/seen\n')
    hook.chmod(0o755)
    points = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    options = [
        so.with_hooks(point, {"path": str(hook), "args": ["hook", point], "env": ["WHERE=here"]}) for point in points
    ]
    await inside(client, busybox, "true", *options, id="hooked")
    assert (tmp_path / "seen").read_text().splitlines() == [f"{point} here hooked" for point in points]
    with pytest.raises(ContainerdError, match="hook"):
        await inside(client, busybox, "true", so.with_hooks("createRuntime", {"path": "/bin/false"}))


async def test_cgroup_paths_and_limits(client: Client, busybox: Image):
    """The container is in the cgroup that is asked for, below a parent, with all limits set there."""
    path = f"/{client.namespace}-parent/child"
    options = [
        so.with_cgroup(path),
        so.with_memory_limit(64 * 2**20),
        so.with_memory_reservation(32 * 2**20),
        so.with_cpu_shares(512),
        so.with_cpu_cfs(20_000, 50_000),
        so.with_cpus("0"),
        so.with_cpus_mems("0"),
        so.with_pids_limit(33),
    ]
    expected = {
        "memory/memory.limit_in_bytes": str(64 * 2**20),
        "memory/memory.soft_limit_in_bytes": str(32 * 2**20),
        "cpu/cpu.shares": "512",
        "cpu/cpu.cfs_quota_us": "20000",
        "cpu/cpu.cfs_period_us": "50000",
        "cpuset/cpuset.cpus": "0",
        "cpuset/cpuset.mems": "0",
        "pids/pids.max": "33",
    }
    try:
        async with client.open_run(busybox, ["/bin/sleep", "1000"], spec_options=options) as task:
            assert path in Path(f"/proc/{task.pid}/cgroup").read_text()
            found = {
                name: (CGROUPS / name.partition("/")[0] / path[1:] / name.partition("/")[2]).read_text().strip()
                for name in expected
            }
            assert found == expected
    finally:
        for parent in CGROUPS.glob(f"*/{client.namespace}-parent"):
            if not parent.parent.is_symlink():
                parent.rmdir()


async def test_block_io(client: Client, busybox: Image):
    """Rates of a block device are in the cgroup; writing past the page cache is really held up by them."""
    disk = device_at("/dev/loop0")
    where = {"major": disk["major"], "minor": disk["minor"]}
    block_io = so.with_block_io(
        {
            "throttleReadBpsDevice": [{**where, "rate": 2**20}],
            "throttleWriteIOPSDevice": [{**where, "rate": 11}],
        }
    )
    async with client.open_run(busybox, ["/bin/sleep", "1000"], id="slow", spec_options=[block_io]) as _:
        folder = CGROUPS / "blkio" / client.namespace / "slow"
        number = f"{where['major']}:{where['minor']}"
        assert f"{number} {2**20}" in (folder / "blkio.throttle.read_bps_device").read_text()
        assert f"{number} 11" in (folder / "blkio.throttle.write_iops_device").read_text()


async def test_masked_and_readonly_paths(client: Client, busybox: Image):
    """Masked paths are empty, read-only ones refuse writing; without them neither is so."""
    masks = so.with_masked_paths("/proc/meminfo", "/sys/kernel")
    script = "wc -c </proc/meminfo; ls /sys/kernel | wc -l; echo 1 >/proc/sys/kernel/msgmax || echo refused"
    assert await inside(client, busybox, script, masks) == ["0", "0", "refused"]
    free = [so.with_masked_paths(), so.with_readonly_paths()]
    read, listed, *_rest = await inside(client, busybox, script.replace("1 >", "8192 >"), *free)
    assert int(read) > 0
    assert int(listed) > 0
    assert _rest == []


async def test_memory_file_systems(client: Client, busybox: Image):
    """/dev/shm has the size asked for; a tmpfs its size, permissions and options."""
    options = [so.with_dev_shm_size(128), so.with_tmpfs("/scratch", size=256 * 1024, mode=0o700, options=["noexec"])]
    script = "df -k /dev/shm /scratch | tail -n 2; stat -c %a /scratch; grep -c ' /scratch tmpfs .*noexec' /proc/mounts"
    shm, scratch, mode, noexec = await inside(client, busybox, script, *options)
    assert shm.split()[1] == "128"
    assert scratch.split()[1] == "256"
    assert (mode, noexec) == ("700", "1")


async def test_the_process_itself(client: Client, busybox: Image):
    """Limits, umask, OOM score, privileges, capabilities and names are those asked for."""
    options = [
        so.with_rlimit("RLIMIT_NOFILE", soft=99, hard=100),
        so.with_umask(0o027),
        so.with_oom_score_adj(321),
        so.with_new_privileges(),
        so.with_capabilities("CAP_CHOWN", "CAP_KILL"),
        so.with_hostname("box"),
        so.with_env_file("FROM=file\n"),
        so.with_process_cwd("/tmp"),
    ]
    script = """
        ulimit -Sn; ulimit -Hn; umask; cat /proc/self/oom_score_adj; grep -h -e NoNewPrivs -e CapBnd /proc/self/status
        hostname; echo $FROM; pwd
    """
    lines = await inside(client, busybox, script, *options)
    assert lines[:4] == ["99", "100", "0027", "321"]
    assert lines[4].split() == ["CapBnd:", f"{1 << 0 | 1 << 5:016x}"]
    assert lines[5].split() == ["NoNewPrivs:", "0"]
    assert lines[6:] == ["box", "file", "/tmp"]


async def test_privileged_and_readonly(client: Client, busybox: Image):
    """A privileged container mounts; a read-only root refuses writing while its volumes do not."""
    mount = "mount -t tmpfs none /mnt && echo mounted; grep Seccomp: /proc/self/status; ls /sys/fs/cgroup >/dev/null"
    made = ["mkdir /mnt 2>/dev/null; " + mount]
    assert (await inside(client, busybox, made[0], so.with_privileged()))[0] == "mounted"
    script = "touch /a 2>/dev/null || echo refused; touch /scratch/a && echo written"
    lines = await inside(client, busybox, script, so.with_tmpfs("/scratch"), read_only=True)
    assert lines == ["refused", "written"]


async def test_devices_of_the_host(client: Client, busybox: Image):
    """A host's device is there under its name or another, may be used as asked, and no other device may."""
    script = """
        stat -c '%t:%T %a' /dev/mine; true </dev/mine && echo read; true >/dev/mine || echo not written
        mknod /dev/other c 10 234 && true </dev/other || echo no other
    """
    lines = await inside(client, busybox, script, devices=["/dev/loop-control:/dev/mine:r"])
    assert lines == ["a:ed 600", "read", "not written", "no other"]
    assert await inside(client, busybox, "ls /dev/cpu/0", devices=["/dev/cpu"]) == sorted(
        path.name for path in Path("/dev/cpu/0").iterdir()
    )
    for text in ("loop-control", "/dev/null:x", "/dev/null:/a:r:w", "/dev/null:/a:"):
        with pytest.raises(InvalidArgumentError, match="devices"):
            await client.create_container(image=busybox, args=["/bin/true"], devices=[text])
    with pytest.raises(NotFoundError, match="no device"):
        await client.create_container(image=busybox, args=["/bin/true"], devices=["/dev/nothing"])


async def test_added_groups(client: Client, busybox: Image):
    """Groups by number or by the image's name are added to the user's own."""
    lines = await inside(client, busybox, "grep Groups: /proc/self/status", user="0:5", groups=["777", "audio"])
    assert {"5", "29", "777"} <= set(lines[0].split()[1:])
    with pytest.raises(NotFoundError):
        await client.create_container(image=busybox, args=["/bin/true"], groups=["nobody-has-this"])
    with pytest.raises(InvalidArgumentError, match="a list"):
        await client.create_container(image=busybox, args=["/bin/true"], groups="audio")


async def test_huge_pages(client: Client, busybox: Image):
    """The limit of huge pages is in the cgroup where the machine has that controller; else runc says which it lacks."""
    option = so.with_hugepage_limit("2MB", 4 * 2**20)
    if (CGROUPS / "hugetlb").is_dir():
        async with client.open_run(busybox, ["/bin/sleep", "1000"], id="huge", spec_options=[option]) as _:
            limit = CGROUPS / "hugetlb" / client.namespace / "huge" / "hugetlb.2MB.limit_in_bytes"
            assert limit.read_text() == f"{4 * 2**20}\n"
    else:
        with pytest.raises(ContainerdError, match="hugetlb"):
            await inside(client, busybox, "true", option)


async def test_labels_and_profiles_the_kernel_has_not(client: Client, busybox: Image):
    """An AppArmor profile, SELinux label or RDT class that is not there reaches runc, which says that it cannot."""
    for option, said in (
        (so.with_apparmor_profile("no-such-profile"), "apparmor"),
        (so.with_selinux_label("no:such:label"), "selinux"),
        (so.with_rdt(clos_id="guaranteed", l3_cache_schema="nothing"), "rdt"),
    ):
        with pytest.raises(ContainerdError, match=re.compile(said, re.IGNORECASE)):
            await inside(client, busybox, "true", option)


async def test_a_root_file_system_from_elsewhere(client: Client, busybox: Image):
    """A task's root file system may be other mounts than a snapshot's, for a container without one."""
    async with client.hold_lease() as leased:
        mounts = await leased.snapshotter("overlayfs").view("looked-at", parent=await busybox.chain_id())
        made = await client.create_container("bare", image=busybox, args=["/bin/ls", "/bin/sh"])
        async with deleting(made) as container:
            await client.snapshotter("overlayfs").remove("bare")
            record = attrs.evolve(await container.record(), snapshot_key="")
            await client.containers.update(record, fields=["snapshotkey"])
            async with (
                open_fifos(stdin=False) as io,
                deleting(await container.create_task(io=io.config, rootfs=mounts)) as task,
            ):
                await task.start()
                assert await collect(task.stdout) == b"/bin/sh\n"
        await leased.snapshotter("overlayfs").remove("looked-at")
