"""A private daemon: comes up, serves, survives what tests do to it, and leaves nothing on the host."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import anyio
import pytest

from containerd_py._daemon.leftovers import CGROUPS, RUNC_ROOT, find_shims, mount_points_under
from containerd_py.daemon import open_daemon
from containerd_py.errors import ContainerdError, DaemonStartError
from containerd_py.testing.images import busybox_layout


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def ctr(daemon, daemon_bin, *arguments):
    done = await anyio.run_process([daemon_bin / "ctr", "--address", daemon.address, *arguments])
    return done.stdout.decode()


async def run_sleeper(daemon, daemon_bin, layout, namespace, name):
    """Start a container that ignores SIGTERM, with a second process; return the process ids of both."""
    in_namespace = ["--namespace", namespace]
    with_tar = layout.folder.with_suffix(".tar")
    await anyio.run_process(["tar", "--directory", str(layout.folder), "--create", "--file", str(with_tar), "."])
    await ctr(daemon, daemon_bin, *in_namespace, "images", "import", str(with_tar))
    script = 'trap "" TERM; sleep 1000 & while :; do sleep 1; done'
    image = "localhost/busybox:latest"
    await ctr(daemon, daemon_bin, *in_namespace, "run", "--null-io", "-d", image, name, "/bin/sh", "-c", script)
    listed = (await ctr(daemon, daemon_bin, *in_namespace, "tasks", "ps", name)).splitlines()[1:]
    return [int(line.split()[0]) for line in listed]


@pytest.fixture
def layout(tmp_path):
    return busybox_layout(tmp_path / "busybox")


async def test_serves_and_tells_its_version(daemon_line, daemon_bin):
    """The daemon is ready when the block begins, and knows which one it is."""
    async with open_daemon(containerd=daemon_bin / "containerd") as daemon:
        assert daemon.version.startswith(f"{daemon_line}.")
        assert daemon.version in await ctr(daemon, daemon_bin, "version")
        assert len(daemon.address) < 100  # bytes; the daemon adds ".ttrpc", and Linux allows 107
        assert daemon.snapshotter == "overlayfs"


async def test_a_bare_name_is_looked_up_in_path(daemon_line, daemon_bin, monkeypatch):
    """`containerd` may be a name, as for any command."""
    monkeypatch.setenv("PATH", str(daemon_bin), prepend=os.pathsep)
    async with open_daemon() as daemon:
        assert daemon.version.startswith(f"{daemon_line}.")


async def test_nothing_is_left_of_running_tasks(daemon_bin, layout, namespace):
    """Tasks are killed, shims ended, sockets, cgroups, mounts and folders removed."""
    async with open_daemon(containerd=daemon_bin / "containerd") as daemon:
        pids = await run_sleeper(daemon, daemon_bin, layout, namespace, "sleeper")
        pids += find_shims(daemon.address)
        assert len(pids) >= 3
        assert mount_points_under(daemon.state)
        cgroups = list(CGROUPS.glob(f"**/{namespace}"))
        assert cgroups
        address, root, state = daemon.address, daemon.root, daemon.state
    assert not any(is_alive(pid) for pid in pids)
    assert find_shims(address) == []
    assert not root.exists()
    assert not state.parent.exists()
    assert mount_points_under(root) == mount_points_under(state) == []
    assert not any(path.exists() for path in cgroups)
    assert not (RUNC_ROOT / namespace).exists()


async def test_nothing_is_left_when_the_daemon_had_died(daemon_bin, layout, namespace):
    """Clearing needs no daemon; that it died by itself is told."""
    with pytest.raises(DaemonStartError, match="was ended by signal 9; the end of its log"):
        async with open_daemon(containerd=daemon_bin / "containerd") as daemon:
            pids = await run_sleeper(daemon, daemon_bin, layout, namespace, "sleeper")
            os.kill(daemon.pid, signal.SIGKILL)
            with anyio.fail_after(5):
                while daemon.returncode is None:
                    await anyio.sleep(0.01)
    assert not any(is_alive(pid) for pid in pids)
    assert not daemon.root.exists()
    assert not daemon.state.parent.exists()


async def test_what_the_block_raised_is_kept(daemon_bin):
    """An error in the block goes on; that the daemon died is a note on it."""
    with pytest.raises(KeyError) as raised:
        async with open_daemon(containerd=daemon_bin / "containerd") as daemon:
            os.kill(daemon.pid, signal.SIGKILL)
            while daemon.returncode is None:
                await anyio.sleep(0.01)
            raise KeyError("mine")
    assert any("signal 9" in note for note in raised.value.__notes__)


async def test_a_cancelled_block_is_cleared(daemon_bin, layout, namespace):
    """Cancellation does not reach the clearing."""
    with anyio.CancelScope() as scope:
        async with open_daemon(containerd=daemon_bin / "containerd") as daemon:
            pids = await run_sleeper(daemon, daemon_bin, layout, namespace, "sleeper")
            scope.cancel()
            await anyio.sleep_forever()
    assert not any(is_alive(pid) for pid in [*pids, daemon.pid])
    assert not daemon.root.exists()


async def test_tasks_outlive_a_killed_daemon_and_its_restart(daemon_bin, layout, namespace):
    """`kill` and `restart` touch the daemon alone: root, address and running tasks stay."""
    async with open_daemon(containerd=daemon_bin / "containerd") as daemon:
        first, *_ = await run_sleeper(daemon, daemon_bin, layout, namespace, "sleeper")
        old_pid, address = daemon.pid, daemon.address
        await daemon.kill()
        assert daemon.returncode == -signal.SIGKILL
        await daemon.restart()
        assert daemon.pid != old_pid
        assert daemon.address == address
        assert is_alive(first)
        assert "RUNNING" in await ctr(daemon, daemon_bin, "--namespace", namespace, "tasks", "list")
    assert not is_alive(first)


async def test_two_at_once(daemon_bin, layout, namespace):
    """Daemons share nothing: ending one leaves the other's tasks alone."""
    async with open_daemon(containerd=daemon_bin / "containerd") as one:
        async with open_daemon(containerd=daemon_bin / "containerd") as other:
            assert one.address != other.address
            pids = await run_sleeper(one, daemon_bin, layout, namespace, "sleeper")
        assert all(is_alive(pid) for pid in pids)
        assert "RUNNING" in await ctr(one, daemon_bin, "--namespace", namespace, "tasks", "list")


async def test_a_given_root_is_kept(daemon_bin, layout, tmp_path):
    """What is in a root of the caller's own is there again next time."""
    root = tmp_path / "deep" / "root"
    async with open_daemon(containerd=daemon_bin / "containerd", root=root) as daemon:
        await ctr(daemon, daemon_bin, "namespaces", "create", "kept")
    assert mount_points_under(root) == []
    async with open_daemon(containerd=daemon_bin / "containerd", root=root) as daemon:
        assert "kept" in await ctr(daemon, daemon_bin, "namespaces", "list", "--quiet")


async def test_a_kept_log(daemon_bin, tmp_path):
    """The log stays where the caller wants it."""
    async with open_daemon(
        containerd=daemon_bin / "containerd", log_path=tmp_path / "log", log_level="debug"
    ) as daemon:
        assert daemon.log_path == tmp_path / "log"
    assert "level=debug" in (tmp_path / "log").read_text()


async def test_mapped_users_may_pass(daemon_bin):
    """A container's users can be strangers to the host, and reach their root file system through the state folder."""
    async with open_daemon(containerd=daemon_bin / "containerd") as daemon:
        for folder in (daemon.state, daemon.state.parent):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o711


async def test_plugins_can_be_set(daemon_bin):
    """Settings by plugin URI reach the daemon, which refuses nonsense by name."""
    broken = {"io.containerd.gc.v1.scheduler": {"pause_threshold": "not a number"}}
    with pytest.raises(DaemonStartError, match=r"pause_threshold|scheduler|not a number"):
        async with open_daemon(containerd=daemon_bin / "containerd", plugins=broken):
            pass


async def test_upgrade_in_place(tmp_path):
    """A later line's daemon goes on with the tasks and the data of an earlier one."""
    daemons = Path(__file__).parents[2] / ".cache" / "daemons"
    layout = busybox_layout(tmp_path / "busybox")
    async with open_daemon(containerd=daemons / "1.6" / "bin" / "containerd") as daemon:
        pids = await run_sleeper(daemon, daemons / "1.6" / "bin", layout, "upgraded", "sleeper")
        await daemon.restart(containerd=daemons / "2.1" / "bin" / "containerd")
        assert daemon.version.startswith("2.1.")
        listed = await ctr(daemon, daemons / "2.1" / "bin", "--namespace", "upgraded", "tasks", "list")
        assert "RUNNING" in listed
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.parametrize("name", ["no-such-containerd", "/no/such/containerd"])
async def test_a_missing_binary_says_what_to_install(name):
    """Nothing is made before the binary is found."""
    with pytest.raises(DaemonStartError, match=f"{name}.*install containerd"):
        async with open_daemon(containerd=name):
            pass


async def test_a_binary_that_ends_at_once_shows_its_words(tmp_path):
    """A daemon that does not come up is told with its last lines."""
    fake = tmp_path / "containerd"
    fake.write_text("#!/bin/sh\necho no room for $2\nexit 3\n")
    fake.chmod(0o755)
    told = r"exit code 3; the end of its log:\nno room for .*/config\.toml"
    with pytest.raises(DaemonStartError, match=told) as raised:
        async with open_daemon(containerd=fake):
            pass
    assert not Path(str(raised.value).split()[-1]).parent.exists()


async def test_a_binary_of_another_kind(tmp_path):
    """What cannot be executed is told as such."""
    fake = tmp_path / "containerd"
    fake.write_bytes(b"\x7fELF not really")
    fake.chmod(0o755)
    with pytest.raises(DaemonStartError, match=r"cannot run .*Exec format error"):
        async with open_daemon(containerd=fake):
            pass


def test_error_class():
    """Whoever catches this package's errors catches these."""
    assert issubclass(DaemonStartError, ContainerdError)
