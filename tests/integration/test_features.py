"""What a daemon serves is asked of it, and asked again when another one answers."""

import anyio
import pytest

from containerd_py import connect
from tests.conftest import DAEMONS


async def test_services_and_plugins_are_told_apart_by_line(daemon, daemon_line: str, namespace: str):
    """A service is known by its name, a plugin by type and ID; what the line lacks is not there."""
    async with connect(daemon.address, namespace=namespace) as client:
        assert client.supports("tasks")
        assert client.supports("transfer") is (daemon_line != "1.6")
        assert client.supports("io.containerd.snapshotter.v1.overlayfs")
        assert not client.supports("no-such-thing")


@pytest.mark.lines("1.6")
async def test_another_daemon_is_asked_anew(own_daemon, namespace: str):
    """A client outlives an upgrade of its daemon and knows what the new one serves."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        assert not client.supports("transfer")
        await own_daemon.restart(containerd=DAEMONS / "2.1" / "bin" / "containerd")
        assert (await client.version()).version.startswith("2.")
        with anyio.fail_after(10):
            while not client.supports("transfer"):
                await anyio.sleep(0.01)
