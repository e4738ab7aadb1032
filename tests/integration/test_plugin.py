"""The fixtures for users, in a test suite of a user's own."""

from __future__ import annotations

pytest_plugins = ["pytester"]

SUITE = """
import subprocess
from pathlib import Path

def test_daemon(containerd_daemon):
    assert Path(containerd_daemon.address).is_socket()

def test_pull(containerd_daemon, busybox_image, local_registry):
    assert busybox_image.startswith(local_registry.address)
    ctr = {ctr!r}
    subprocess.run([ctr, "-a", containerd_daemon.address, "images", "pull", "--plain-http", busybox_image], check=True)
    shown = subprocess.run([ctr, "-a", containerd_daemon.address, "run", "--rm", busybox_image, "one", "echo", "hello"],
                           check=True, capture_output=True, text=True)
    assert shown.stdout == "hello\\n"
"""


def test_a_users_suite(pytester, daemon_bin):
    """Plain synchronous tests get a daemon, a registry and an image in it, with nothing to configure."""
    pytester.makepyfile(SUITE.format(ctr=str(daemon_bin / "ctr")))
    result = pytester.runpytest_subprocess(f"--containerd={daemon_bin / 'containerd'}", "-W", "error")
    result.assert_outcomes(passed=2)


ASYNC_SUITE = """
import pytest

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"

async def test_run(containerd_client, busybox_image):
    completed = await containerd_client.run(busybox_image, ["echo", "hello"])
    assert completed.stdout == b"hello\\n"

async def test_own_namespace(containerd_client):
    assert await containerd_client.images.list() == []
"""


def test_a_users_asynchronous_suite(pytester, daemon_bin):
    """With anyio's plugin a test gets a client as well, in a namespace that nobody used."""
    pytester.makeini("[pytest]\nanyio_mode = auto\n")
    pytester.makepyfile(ASYNC_SUITE)
    result = pytester.runpytest_subprocess(f"--containerd={daemon_bin / 'containerd'}", "-W", "error")
    result.assert_outcomes(passed=2)


def test_it_needs_no_extra_where_it_is_not_used(pytester):
    """A suite that asks for no registry works without what the extra `testing` brings."""
    pytester.makepyfile("""
        import sys

        def test_loaded():
            assert "containerd_py.testing.plugin" in sys.modules
            assert "bcrypt" not in sys.modules
    """)
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
