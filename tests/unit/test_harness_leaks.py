"""The client and host sides of the leak oracle notice what a test leaves in this process and around it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.harness import leaks_host
from tests.harness.leaks import LeakError, leak_oracle
from tests.harness.leaks_daemon import leaked

pytestmark = pytest.mark.anyio
QUICK = 0.1  # seconds to settle, where a leak is meant to be found


@pytest.fixture
def closing() -> Iterator[contextlib.ExitStack]:
    """Undo deliberate leaks after the test."""
    with contextlib.ExitStack() as stack:
        yield stack


async def test_a_clean_body_passes() -> None:
    """Work that ends leaves nothing: worker threads kept for later, and things that settle soon, included."""
    async with leak_oracle():
        await anyio.to_thread.run_sync(len, "x")
        await asyncio.get_running_loop().run_in_executor(None, len, "x")
        await anyio.run_process(["true"])
        with tempfile.TemporaryDirectory():
            pass
        late = threading.Timer(0.1, lambda: None)
        late.start()


async def test_a_descriptor_is_found(closing: contextlib.ExitStack) -> None:
    """A socket left open is told with both its ends."""
    with pytest.raises(LeakError, match="fd socket") as caught:
        async with leak_oracle(settle=QUICK):
            left, right = socket.socketpair()
            closing.callback(left.close)
            closing.callback(right.close)
    assert len(caught.value.found["fd socket"]) == 2


async def test_a_reconnect_is_no_leak(closing: contextlib.ExitStack) -> None:
    """A descriptor replaced by another of its kind is none too many."""
    first = socket.socket(socket.AF_UNIX)
    async with leak_oracle():
        second = socket.socket(socket.AF_UNIX)
        closing.callback(second.close)
        first.close()


async def test_kinds_of_descriptors_are_told_apart(closing: contextlib.ExitStack, tmp_path: Path) -> None:
    """Pipes, FIFOs, files and folders are listed as what they are."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(LeakError) as caught:
        async with leak_oracle(settle=QUICK):
            for descriptor in (
                os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK),
                os.open(tmp_path, os.O_RDONLY),
                os.open("/dev/null", os.O_RDONLY),
                *os.pipe(),
            ):
                closing.callback(os.close, descriptor)
    assert set(caught.value.found) == {"fd fifo", "fd directory", "fd file", "fd pipe"}
    assert len(caught.value.found["fd pipe"]) == 2


async def test_a_thread_is_found() -> None:
    """A thread still running is told by name."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="left-behind")
    with pytest.raises(LeakError, match="thread: left-behind"):
        async with leak_oracle(settle=QUICK):
            thread.start()
    end.set()
    thread.join()


async def test_a_busy_worker_thread_is_found() -> None:
    """A pool's thread is only forgiven while it is idle."""
    end = threading.Event()
    with pytest.raises(LeakError, match="thread: "):
        async with leak_oracle(settle=QUICK):
            working = asyncio.get_running_loop().run_in_executor(None, end.wait)
    end.set()
    await working


async def test_a_task_is_found() -> None:
    """A task that outlives the test is told."""
    with pytest.raises(LeakError, match="task: left-behind"):
        async with leak_oracle(settle=QUICK):
            task = asyncio.get_running_loop().create_task(asyncio.sleep(30), name="left-behind")
    task.cancel()
    await asyncio.wait([task])


async def test_an_unraisable_error_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a destructor raises is told, a ResourceWarning made an error included."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    with pytest.raises(LeakError, match=r"unraisable: ResourceWarning"):
        async with leak_oracle(settle=QUICK):
            socket.socket()


async def test_an_error_in_the_loop_is_found() -> None:
    """What reaches the loop's exception handler is told, and still reaches the handler that was there."""
    loop = asyncio.get_running_loop()
    previous = loop.get_exception_handler()
    seen = []
    loop.set_exception_handler(lambda _, context: seen.append(context))
    with pytest.raises(LeakError, match=r"in the event loop: .*ZeroDivisionError"):
        async with leak_oracle(settle=QUICK):
            loop.call_soon(lambda: 1 / 0)
            await anyio.sleep(0)
    assert len(seen) == 1
    loop.set_exception_handler(previous)


async def test_files_are_found_when_this_process_made_them(closing: contextlib.ExitStack, tmp_path: Path) -> None:
    """Litter of our own is told; what other processes make, and what lies under an ignored folder, is not."""
    folder = Path(tempfile.gettempdir())
    there = folder / f"there-{os.getpid()}"
    there.touch()
    closing.callback(there.unlink)
    with pytest.raises(LeakError) as caught:
        async with leak_oracle(settle=QUICK, ignore=[tmp_path]):
            (tmp_path / "ignored").write_text("x")
            Path(tempfile.gettempdir()).mkdir(exist_ok=True)
            there.write_text("changed")
            made = Path(tempfile.mkdtemp())
            closing.callback(made.rmdir)
            handle, name = tempfile.mkstemp()
            os.close(handle)
            closing.callback(os.unlink, name)
            descriptor = os.open(folder, os.O_RDONLY)
            relative = f"{made.name}-relative"
            os.mkdir(relative, dir_fd=descriptor)
            os.close(descriptor)
            closing.callback(os.rmdir, folder / relative)
            foreign = folder / f"{made.name}-foreign"
            subprocess.run(["mkdir", foreign], check=True)
            closing.callback(foreign.rmdir)
    assert set(caught.value.found) == {"file"}
    assert set(caught.value.found["file"]) == {str(made), name, str(folder / relative)}


async def test_children_and_zombies_are_found() -> None:
    """A child process is told whether it runs or waits to be reaped."""
    with pytest.raises(LeakError, match=r"child: .*zombie"):
        async with leak_oracle(settle=QUICK):
            child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(child, 0)
    with pytest.raises(LeakError, match=r"child: .*sleep running"):
        async with leak_oracle(settle=QUICK):
            child = os.posix_spawn("/bin/sleep", ["sleep", "100"], {})
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


async def test_a_failing_body_fails_as_it_does_and_tells_its_leaks(closing: contextlib.ExitStack) -> None:
    """The test's own error wins; leaks are a note on it."""
    with pytest.raises(ValueError, match="the test") as caught:
        async with leak_oracle(settle=QUICK):
            left = socket.socket()
            closing.callback(left.close)
            raise ValueError("the test")
    assert "fd socket" in caught.value.__notes__[0]


async def test_hooks_are_taken_back() -> None:
    """Nothing of an oracle outlives it."""
    before = (sys.unraisablehook, asyncio.get_running_loop().get_exception_handler())
    async with leak_oracle():
        pass
    assert (sys.unraisablehook, asyncio.get_running_loop().get_exception_handler()) == before


async def test_a_daemon_needs_a_namespace() -> None:
    """An oracle that would look nowhere refuses to."""
    with pytest.raises(ValueError, match="namespace"):
        async with leak_oracle(daemon=_Nowhere()):
            pass


class _Nowhere:
    address = "/nonexistent"
    root = state = Path("/nonexistent")


def test_what_was_there_before_is_no_leak() -> None:
    """Only new names count, kind by kind."""
    before = {"a": {"1": "", "2": ""}, "b": {"1": ""}}
    after = {"a": {"2": "", "3": "new"}, "b": {"1": "changed"}, "c": {"1": ""}}
    assert leaked(before, after) == {"a": {"3": "new"}, "c": {"1": ""}}


def test_shims_are_known_by_their_daemon_and_namespace(tmp_path: Path) -> None:
    """Shims of other daemons, and of other namespaces, are not ours."""
    shim = tmp_path / "containerd-shim-test"
    shim.symlink_to("/bin/sh")
    address = str(tmp_path / "containerd.sock")
    script = ["-c", "echo; read line", "-namespace", "ours", "-address", address]
    with subprocess.Popen([shim, *script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"  # a process is visible a moment before its arguments are
        assert list(leaks_host.shims(address)) == [str(process.pid)]
        assert list(leaks_host.shims(address, "ours")) == [str(process.pid)]
        assert leaks_host.shims(address, "theirs") == {}
        assert leaks_host.shims("/other", "ours") == {}
        process.communicate()


def test_mounts_are_known_by_their_folder() -> None:
    """Only what is mounted in or under a folder counts, not what shares its beginning."""
    assert leaks_host.mounts([Path("/proc")])["/proc"] == "proc"
    assert leaks_host.mounts([Path("/pro")]) == {}
