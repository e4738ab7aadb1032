"""A terminal session cancelled anywhere: the console is as it was, and nothing is left."""

import json
from pathlib import Path

import pytest

from containerd_py import Client, Daemon, Image
from tests.harness.cancel import Mode
from tests.integration.console import program_on_console

SWEEP = """
import json, termios
from tests.harness.cancel import sweep

modes, outcomes = termios.tcgetattr(0), []
async with client.open_run(image, ["/bin/sleep", "1000"], id="host") as task:

    async def flow():
        command = ["/bin/sh", "-c", "echo shown; exit 3"]
        async with task.open_exec(command, stdin=True, terminal=True) as process:
            async with attached_terminal(process) as session:
                assert (await session.wait()).code == 3

    async for outcome in sweep(flow, every={every}, limit=30):
        outcome.check()
        outcomes.append([outcome.mode.value, outcome.status.value, termios.tcgetattr(0) == modes])
    left = len(await client.tasks.list_pids("host")) - 1
    with open({report!r}, "w") as report:
        json.dump([outcomes, left], report)
print("all visited")
"""
EVERY = 3  # the storm session visits every point


@pytest.mark.timeout(600)
async def test_cancelled_anywhere_the_console_is_as_it_was(
    client: Client, daemon: Daemon, busybox: Image, tmp_path: Path, request: pytest.FixtureRequest
):
    """Wherever and however a session on an exec is cancelled, the modes are put back, and the exec is gone."""
    every = 1 if request.config.getoption("--storm", default=False) else EVERY
    report = tmp_path / "report.json"
    names = {"address": daemon.address, "namespace": client.namespace, "image": busybox.name}
    async with program_on_console(SWEEP.format(every=every, report=str(report)), names) as program:
        await program.see(b"all visited", within=500)
        assert await program.end() == 0
    outcomes, left = json.loads(report.read_text())
    assert {mode for mode, _, _ in outcomes} == {mode.value for mode in Mode}
    assert "cancelled" in {status for _, status, _ in outcomes}
    assert all(is_restored for _, _, is_restored in outcomes)
    assert left == 0
