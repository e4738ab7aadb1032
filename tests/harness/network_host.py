"""A host for networks that is none: a network namespace of a test's own, in which plugins do their worst.

Looks with `ip`, `nsenter` and `iptables-save`, and at files, so that it does not depend on the code under test.
"""

import re
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import pytest

from containerd_py import Client, Daemon, NetworkSettings, connect
from containerd_py.cni.netns import in_netns

PLUGINS: Final = Path("/usr/lib/cni")
# Rules that plugins make once and leave: none of a container's.
_CONTAINERS_RULE: Final = re.compile(r" id: |--dports? |-A CNI-FORWARD -[sd] |CNI-DN-|^:CNI-[0-9a-f]{24} ", re.ASCII)


@attrs.frozen(kw_only=True)
class NetworkHost:
    """The namespace, where everything is kept that networks leave on disk, and what is there."""

    netns: Path
    folder: Path
    plugins: Path  # scripted ones, found before the real ones

    @property
    def settings(self) -> NetworkSettings:
        return NetworkSettings(
            conf_dir=self.folder / "net.d",
            plugin_dirs=(self.plugins, PLUGINS),
            cache_dir=self.folder / "results",
            lease_dir=self.folder / "leases",
            netns_dir=self.folder / "netns",
            host_netns=self.netns,
        )

    @property
    def data_root(self) -> Path:
        return self.folder / "data"

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in the namespace and return what it printed."""
        inside = ["nsenter", f"--net={self.netns}", *command]
        done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def script(self, name: str, text: str) -> None:
        """Put a scripted plugin where plugins are found."""
        path = self.plugins / name
        path.write_text(text)
        path.chmod(0o755)

    def left(self) -> dict[str, list[str]]:
        """Name everything that is here on behalf of containers."""
        found = {
            "links": [line for line in self.run("ip", "-o", "link").splitlines() if "veth" in line],
            "rules": [rule for rule in self.rules() if _CONTAINERS_RULE.search(rule)],
            "leases": [
                str(path) for path in (self.folder / "leases").rglob("*") if re.match(r"[0-9a-f]+[.:]", path.name)
            ],
            "results": [str(path) for path in (self.folder / "results").glob("*")],
            "namespaces": [str(path) for path in (self.folder / "netns").rglob("*") if not path.is_dir()],
            "directories": [str(path) for path in self.data_root.glob("*/containers/*/*")],
            "hosts": [str(path) for path in self.data_root.glob("*/etchosts/*/*")],
            "mounts": [
                line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{self.folder}/netns" in line
            ],
        }
        return {kind: names for kind, names in found.items() if names}

    def rules(self) -> list[str]:
        return [rule for tool in ("iptables-save", "ip6tables-save") for rule in self.run(tool).splitlines()]


@contextmanager
def open_network_host(folder: Path) -> Iterator[NetworkHost]:
    """Lend a namespace with its loopback up, and folders below `folder`; the namespace is gone afterwards."""
    netns = folder / "host"
    netns.touch()
    subprocess.run(["unshare", f"--net={netns}", "true"], check=True, timeout=60)
    try:
        host = NetworkHost(netns=netns, folder=folder, plugins=folder / "plugins")
        host.plugins.mkdir()
        host.run("ip", "link", "set", "lo", "up")
        yield host
    finally:
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for place in (place for place in mounted if place.startswith(f"{folder}/")):  # what failed left: tmp_path goes
            subprocess.run(["umount", place], check=True, timeout=60)


@pytest.fixture
def network_host(tmp_path: Path) -> Iterator[NetworkHost]:
    """Lend a host for networks to one test, and fail it when something is left there of containers."""
    folder = tmp_path / "network-host"
    folder.mkdir()
    with open_network_host(folder) as host:
        yield host
        if left := host.left():
            raise AssertionError(f"left on the host: {left}")


@pytest.fixture
async def networked(daemon: Daemon, namespace: str, network_host: NetworkHost) -> AsyncIterator[Client]:
    """Lend a client whose networks are those of the test's own host."""
    settings, data_root = network_host.settings, network_host.data_root
    async with connect(daemon.address, namespace=namespace, data_root=data_root, networks=settings) as client:
        yield client


def talk(netns: Path, address: str, port: int, *, udp: bool = False, said: bytes = b"ping\n") -> bytes:
    """Connect from inside a namespace, say something, and return all that is answered."""

    def meet() -> bytes:
        kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, kind) as sock:
            sock.settimeout(10)
            sock.connect((address, port))
            sock.sendall(said)
            if udp:
                return sock.recv(65536)
            sock.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: sock.recv(65536), b""))

    return in_netns(netns, meet)
