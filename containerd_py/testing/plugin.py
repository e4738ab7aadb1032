"""Fixtures for whoever tests code built on this package: a private containerd, a registry, a small image.

pytest finds this module by itself. The session's resources live on an event loop in a thread of their own, and so serve
tests of any kind: synchronous ones, and asynchronous ones under any plugin.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # every pytest run of the environment imports this module: it must cost nothing
    from anyio.from_thread import BlockingPortal

    from containerd_py.client import Client
    from containerd_py.daemon import Daemon
    from containerd_py.testing.images import ImageLayout
    from containerd_py.testing.registry import LocalRegistry


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice of the daemon's binary."""
    parser.getgroup("containerd_py").addoption(
        "--containerd", default="containerd", metavar="PATH", help="the containerd that containerd_daemon starts"
    )


@pytest.fixture(scope="session")
def containerd_portal() -> Iterator[BlockingPortal]:
    """Lend the event loop in a thread that the session's resources live on."""
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal("asyncio") as portal:
        yield portal


@pytest.fixture(scope="session")
def containerd_daemon(containerd_portal: BlockingPortal, pytestconfig: pytest.Config) -> Iterator[Daemon]:
    """Lend a private containerd, shared by all tests of the session: give each test a namespace of its own."""
    from containerd_py.daemon import open_daemon

    opening = open_daemon(containerd=pytestconfig.getoption("containerd"))
    with containerd_portal.wrap_async_context_manager(opening) as daemon:
        yield daemon


@pytest.fixture
async def containerd_client(containerd_daemon: Daemon) -> AsyncIterator[Client]:
    """Lend a client of the daemon, in a namespace of the test's own. Needs anyio's pytest plugin in auto mode.

    What the test leaves in the namespace stays until the session ends.
    """
    from containerd_py.client import connect

    async with connect(containerd_daemon.address, namespace=f"test-{uuid.uuid4().hex[:12]}") as client:
        yield client


@pytest.fixture(scope="session")
def local_registry(containerd_portal: BlockingPortal) -> Iterator[LocalRegistry]:
    """Lend a registry on the loopback interface that speaks plain HTTP and lets everybody in."""
    from containerd_py.testing.registry import open_registry

    with containerd_portal.wrap_async_context_manager(open_registry()) as registry:
        yield registry


@pytest.fixture(scope="session")
def busybox_layout(tmp_path_factory: pytest.TempPathFactory) -> ImageLayout:
    """Build a small image around busybox, as an OCI image layout on disk."""
    from containerd_py.testing.images import busybox_layout as build

    return build(tmp_path_factory.mktemp("busybox"))


@pytest.fixture(scope="session")
def busybox_image(containerd_portal: BlockingPortal, local_registry: LocalRegistry, busybox_layout: ImageLayout) -> str:
    """Put the busybox image into the local registry and return its reference there."""
    containerd_portal.call(local_registry.push, busybox_layout, "busybox")
    return local_registry.reference("busybox")
