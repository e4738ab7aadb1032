"""Finding what a daemon left: by address and by place, never by name alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

from containerd_py._completion import run_to_completion
from containerd_py._daemon.leftovers import clear_state, find_shims, mount_points_under, unmount_under
from containerd_py._daemon.process import DaemonProcess
from containerd_py._daemon.workspace import TemporaryFolders
from containerd_py.errors import DaemonStartError


@pytest.fixture
def fake_shim(tmp_path):
    """Run a process that looks like a shim of some address, with a child."""
    program = tmp_path / "containerd-shim-fake-v1"
    program.symlink_to("/bin/sh")
    children = []

    def start(*arguments):
        script = "sleep 100 & echo $!; wait; read forever"
        pipe = subprocess.PIPE
        child = subprocess.Popen([program, "-c", script, *arguments], stdin=pipe, stdout=pipe, text=True)
        children.append(child)
        grandchild = int(child.stdout.readline())
        while Path(f"/proc/{grandchild}/comm").read_text() != "sleep\n":  # until then it is one more shim to look at
            time.sleep(0.001)
        return child, grandchild

    yield start
    for child in children:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def test_a_shim_is_found_by_its_address(fake_shim, tmp_path):
    """Another daemon's shims are none of ours, nor is an address that merely begins alike."""
    ours, _ = fake_shim("-namespace", "n", "-address", f"{tmp_path}/api.sock")
    fake_shim("-namespace", "n", "-address", f"{tmp_path}/api.sock2")
    assert find_shims(f"{tmp_path}/api.sock") == [ours.pid]


def test_a_shim_ends_with_all_its_descendants(fake_shim, tmp_path):
    """What a shim started ends before it, so that nothing is left to init."""
    shim, grandchild = fake_shim("-address", f"{tmp_path}/api.sock")
    assert clear_state(tmp_path / "state", address=f"{tmp_path}/api.sock", environment=os.environ) == []
    assert shim.wait(5) == -9
    with pytest.raises(ProcessLookupError):
        os.kill(grandchild, 0)


def test_another_program_of_the_same_address_stays(tmp_path):
    """The address alone does not make a shim."""
    command = [sys.executable, "-c", "import time; time.sleep(100)", "-address", f"{tmp_path}/api.sock"]
    with subprocess.Popen(command) as bystander:
        try:
            assert find_shims(f"{tmp_path}/api.sock") == []
        finally:
            bystander.kill()


def test_no_mounts_below_a_plain_folder(tmp_path):
    """A folder without mounts has nothing to unmount, nor has one that is not there."""
    assert mount_points_under(tmp_path) == []
    assert unmount_under(tmp_path / "missing") == []


def test_the_root_file_system_has_mounts_below():
    """The search itself works: /proc is always mounted."""
    assert any(point.startswith("/proc") for point in [*mount_points_under("/"), "/proc"])


def test_a_closed_process_is_not_started_again(tmp_path):
    """Who was cancelled while a thread spawns cannot leave a process behind."""
    process = DaemonProcess()
    process.close(limit=1)
    process.spawn(["/bin/true"], environment={}, log_path=tmp_path / "log")
    assert process.returncode is None
    assert not (tmp_path / "log").exists()


def test_a_process_that_ignores_the_polite_signal(tmp_path):
    """SIGKILL follows after the limit, and the end is ours, not a crash."""
    process = DaemonProcess()
    command = ["/bin/sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 0.1; done']
    process.spawn(command, environment=os.environ, log_path=tmp_path / "log")
    while "ready" not in process.log_tail():
        pass
    process.close(limit=0.2)
    assert process.returncode == -9
    assert not process.died


def test_a_program_that_cannot_run(tmp_path):
    """The error names the program."""
    with pytest.raises(DaemonStartError, match=f"cannot run {tmp_path}: Permission denied"):
        DaemonProcess().spawn([str(tmp_path)], environment={}, log_path=tmp_path / "log")


def test_removed_folders_stay_removed(tmp_path):
    """No folder is made after the others were removed."""
    folders = TemporaryFolders()
    folder = folders.make("x-", parent=tmp_path)
    assert folder.is_dir()
    assert folders.remove() == []
    assert not folder.exists()
    with pytest.raises(RuntimeError, match="removed already"):
        folders.make("y-", parent=tmp_path)


@pytest.mark.parametrize("natively", [True, False])
async def test_completion_outlasts_cancellation(natively):
    """The function runs to its end, whichever way its task is cancelled, and the cancellation is raised then."""
    begun, release, ended = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        release.wait(5)
        ended.append(True)

    async def cancelled(scope):
        with scope:
            await run_to_completion(work)
            await anyio.sleep_forever()

    scope = anyio.CancelScope()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(cancelled(scope))
        while not begun.is_set():
            await anyio.sleep(0.001)
        task.cancel() if natively else scope.cancel()
        await anyio.sleep(0.02)
        assert not task.done()
        release.set()
    assert ended == [True]
    assert task.cancelled() is natively


async def test_completion_hands_over_results_and_errors():
    """What the function returns or raises reaches the caller."""
    assert await run_to_completion(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await run_to_completion(lambda: 1 // 0)
