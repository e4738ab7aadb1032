"""What the documentation runs against: containerd 2.1, and registries in the place of those it names.

Every page is watched: what it leaves behind fails it, images apart, which it may well leave.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal

from containerd_py import Client, Daemon, connect
from containerd_py.platforms import parse
from containerd_py.testing.images import ImageLayout, busybox_layout, this_platform
from containerd_py.testing.registry import LocalRegistry, open_registry
from containerd_py.testing.registry_options import TLSFiles
from tests.harness.fixtures import leak_targets, no_leaks
from tests.harness.network_host import NetworkHost, network_host

__all__ = ["leak_targets", "network_host", "no_leaks"]
USER, PASSWORD = "alice", "s3cret"


@pytest.fixture(scope="session")
def alpine(tmp_path_factory: pytest.TempPathFactory) -> ImageLayout:
    """Make the image that stands for every image of the documentation: for two platforms, like most."""
    return busybox_layout(tmp_path_factory.mktemp("alpine"), platforms=[this_platform(), parse("linux/arm64")])


@pytest.fixture(scope="session")
def hub(local_registry: LocalRegistry, containerd_portal: BlockingPortal, alpine: ImageLayout) -> LocalRegistry:
    """Lend the registry that stands for Docker Hub."""
    containerd_portal.call(local_registry.push, alpine, "library/alpine", "3.20")
    return local_registry


@pytest.fixture(scope="session")
def private_registry(
    containerd_portal: BlockingPortal, tls_files: TLSFiles, alpine: ImageLayout
) -> Iterator[LocalRegistry]:
    """Lend a registry with a certificate of a private authority that lets `alice` in."""
    opening = open_registry(tls=tls_files, users={USER: PASSWORD})
    with containerd_portal.wrap_async_context_manager(opening) as registry:
        containerd_portal.call(registry.push, alpine, "team/app", "1.0")
        yield registry


@pytest.fixture
def substitutions(
    hub: LocalRegistry, private_registry: LocalRegistry, tls_files: TLSFiles, daemon: Daemon, namespace: str
) -> dict[str, str]:
    """Say what the names in the documentation stand for; the longer ones come first."""
    return {
        "docker.io/library/": f"{hub.address}/library/",
        "certs.d/docker.io": f"certs.d/{hub.address}",
        "registry.example.com": private_registry.address,
        "/etc/ssl/example-ca.pem": str(tls_files.ca),
        "mirror.example.com": hub.address,
        "/run/user/1000/containerd/containerd.sock": daemon.address,
        "/run/containerd/containerd.sock": daemon.address,
        'namespace="demo"': f'namespace="{namespace}"',
        "grace=5": "grace=0.5",  # a shell without a trap takes no SIGTERM, being process 1
        "namespace==demo": f"namespace=={namespace}",
    }


@pytest.fixture
def surroundings(
    daemon: Daemon, daemon_bin: Path, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let `connect()` and `open_daemon()` find this line's containerd, and files be written in a folder of the page."""
    monkeypatch.setenv("CONTAINERD_ADDRESS", daemon.address)
    monkeypatch.setenv("CONTAINERD_NAMESPACE", namespace)
    monkeypatch.setenv("CONTAINERD_PY_DATA_ROOT", str(tmp_path / "data-root"))
    monkeypatch.setenv("PATH", f"{daemon_bin}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def page_client(
    daemon: Daemon, namespace: str, surroundings: None, no_leaks: object, network_host: NetworkHost
) -> AsyncIterator[Client]:
    """Lend the client of a page, whose networks are in a namespace of the page's own; delete the images it leaves."""
    async with connect(daemon.address, namespace=namespace, networks=network_host.settings) as client:
        yield client
        for image in await client.list_images():
            await image.delete(synchronous=True)
