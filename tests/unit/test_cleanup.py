"""What was added to a cleanup is undone in order, whatever happens, and every failure is told."""

import asyncio
import subprocess
from pathlib import Path

import anyio
import pytest

from containerd_py import Cleanup, FailedPreconditionError, NotFoundError


class Recorder:
    """Makes steps that note when they ran."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def step(self, name: str, error: Exception | None = None):
        async def run() -> None:
            await anyio.sleep(0.001)
            if error is not None:
                raise error
            self.done.append(name)

        return run


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


async def test_last_goes_first_and_directories_go_last(recorder: Recorder, tmp_path: Path):
    """Steps run in reverse; directories, added in between, wait for all of them."""
    async with Cleanup() as cleanup:
        cleanup.add_step("first", recorder.step("first"))
        state = tmp_path / "state"
        state.mkdir(mode=0o700)
        (state / "file").write_text("x")
        cleanup.add_directory(state)

        async def look() -> None:
            recorder.done.append(f"second, state {state.exists()}")

        cleanup.add_step("second", look)
    assert recorder.done == ["second, state True", "first"]
    assert not state.exists()


async def test_all_failures_are_raised_together(recorder: Recorder):
    """A failing step keeps no other from running; what has gone already is no failure."""
    with pytest.raises(ExceptionGroup, match="2 of 4 things are left behind") as raised:
        async with Cleanup() as cleanup:
            cleanup.add_step("one", recorder.step("one"))
            cleanup.add_step("two", recorder.step("two", ValueError("bad")))
            cleanup.add_step("three", recorder.step("three", NotFoundError("gone")))
            cleanup.add_step("four", recorder.step("four", OSError("worse")))
    assert [type(error) for error in raised.value.exceptions] == [OSError, ValueError]
    assert raised.value.exceptions[0].__notes__ == ["while four"]
    assert cleanup.failures == raised.value.exceptions
    assert recorder.done == ["one"]


async def test_the_blocks_own_error_comes_first(recorder: Recorder):
    """What ended the block is raised as it is; failures are its notes."""
    with pytest.raises(KeyError) as raised:
        async with Cleanup() as cleanup:
            cleanup.add_step("undoing", recorder.step("undoing", ValueError("bad")))
            raise KeyError
    assert raised.value.__notes__ == ["left behind: bad (while undoing)"]
    assert [str(error) for error in cleanup.failures] == ["bad"]


async def test_cancellation_does_not_reach_it(recorder: Recorder):
    """A block that is cancelled, by a scope or a task's cancel, is undone whole."""
    with anyio.move_on_after(0.01):
        async with Cleanup() as cleanup:
            cleanup.add_step("one", recorder.step("one"))
            cleanup.add_step("two", recorder.step("two"))
            await anyio.sleep_forever()
    assert recorder.done == ["two", "one"]
    task = asyncio.current_task()
    assert task is not None
    with pytest.raises(asyncio.CancelledError):
        async with Cleanup() as cleanup:
            cleanup.add_step("three", recorder.step("three"))
            cleanup.add_step("four", recorder.step("four"))
            asyncio.get_running_loop().call_later(0.0005, task.cancel)
    task.uncancel()
    assert recorder.done == ["two", "one", "four", "three"]


async def test_keep_forgets(recorder: Recorder):
    """What is kept is not undone; what is added afterwards is."""
    async with Cleanup() as cleanup:
        cleanup.add_step("kept", recorder.step("kept"))
        cleanup.keep()
        cleanup.add_step("later", recorder.step("later"))
    assert recorder.done == ["later"]


async def test_directories_are_removed_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A relative path means the directory of that moment; links in it are not followed; one that has gone is fine."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "link").symlink_to(outside)
    monkeypatch.chdir(tmp_path)
    async with Cleanup() as cleanup:
        cleanup.add_directory("state")
        cleanup.add_directory(tmp_path / "missing")
        monkeypatch.chdir("/")
    assert [*tmp_path.iterdir()] == [outside]
    assert (outside / "precious").read_text() == "x"


async def test_links_are_not_followed(tmp_path: Path):
    """A link in a directory's place is a failure, and what it leads to stays."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(ExceptionGroup) as raised:
        async with Cleanup() as cleanup:
            cleanup.add_directory(tmp_path / "link")
    assert raised.group_contains(OSError)
    assert (tmp_path / "real").is_dir()


async def test_what_is_mounted_stays(tmp_path: Path):
    """Nothing is removed of a directory with something mounted in it."""
    place = tmp_path / "state" / "a place"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        (place / "precious").write_text("x")
        with pytest.raises(ExceptionGroup) as raised:
            async with Cleanup() as cleanup:
                cleanup.add_directory(tmp_path / "state")
        assert raised.group_contains(FailedPreconditionError, match="is mounted there")
        assert (place / "precious").exists()
    finally:
        subprocess.run(["umount", place], check=True)
