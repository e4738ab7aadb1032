"""A private daemon and a local registry under cancellation: nothing is left, whenever it strikes."""

from __future__ import annotations

from pathlib import Path

import pytest

from containerd_py.daemon import open_daemon
from containerd_py.testing.registry import open_registry
from tests.harness.cancel import Mode, Tally, sweep


@pytest.fixture
def every(request):
    return 1 if request.config.getoption("--storm") else 5


@pytest.mark.lines("2.1")
@pytest.mark.parametrize("again", [(), (1,), range(1, 1000)], ids=["once", "twice", "storm"])
async def test_open_daemon_cancelled_anywhere(daemon_bin, tmp_path, every, again):
    """Cancelled at any point, in any way, also again and again while it clears up, the daemon is gone."""
    roots = iter(range(10_000))
    tally = Tally()

    async def flow():
        root = tmp_path / str(next(roots))
        async with open_daemon(containerd=daemon_bin / "containerd", root=root) as daemon:
            assert daemon.version

    async for outcome in sweep(flow, every=every, again=again):
        outcome.check()
        tally.add(outcome)
        assert processes_with(tmp_path) == []
    assert tally.delivered > 0, str(tally)
    await flow()


@pytest.mark.parametrize("mode", Mode)
async def test_open_registry_cancelled_anywhere(every, mode):
    """Cancelled at any point, in any way, the registry is gone (`no_leaks` watches)."""
    tally = Tally()

    async def flow():
        async with open_registry() as registry:
            assert registry.pid

    async for outcome in sweep(flow, every=every, modes=[mode]):
        outcome.check()
        tally.add(outcome)
    assert tally.delivered > 0, str(tally)
    await flow()


def processes_with(folder: Path) -> list[int]:
    """Find the daemons that keep their data below the folder: its path is in their configuration, which they have."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                held = [str(descriptor.readlink()) for descriptor in (entry / "fd").iterdir()]
            except OSError:
                continue
            if any(path.startswith(f"{folder}/") for path in held):
                found.append(int(entry.name))
    return found
