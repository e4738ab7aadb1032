"""What all tests share: the event loop's kind, and a private daemon for each containerd line that asks for one."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trustme
from anyio import to_thread
from anyio.from_thread import BlockingPortal

from containerd_py import Client, Image, connect, deleting
from containerd_py.daemon import Daemon, open_daemon
from containerd_py.references import Reference
from containerd_py.testing.images import ImageLayout, ImageOptions, busybox_layout, this_platform
from containerd_py.testing.layers import LayerFile, random_layers
from containerd_py.testing.registry import LocalRegistry, open_registry
from containerd_py.testing.registry_options import TLSFiles
from containerd_py.types import Platform
from tests.harness.rpc_recorder import SessionRecorder

LINES = ("1.6", "1.7", "2.1")
DAEMONS = Path(__file__).parents[1] / ".cache" / "daemons"
CRIU = Path(__file__).parents[1] / ".cache" / "criu" / "bin"  # its folder comes with `.ci/provision.py tests`
LOG_LINES = 40  # of the daemon's log, shown with a failure


@attrs.frozen(kw_only=True)
class SeededImages:
    """References of images in the local registry, and the layouts they came from by reference."""

    registry: LocalRegistry
    busybox: str  # one layer
    layered: str  # five layers with whiteouts; user, labels, volumes, stop signal
    index: str  # two platforms
    docker: str  # Docker's media types
    layouts: dict[str, ImageLayout]


def pytest_addoption(parser):
    parser.addoption(
        "--line", action="append", choices=LINES, help="run on this containerd line only (may be given several times)"
    )

    parser.addoption("--record-rpcs", type=Path, metavar="FOLDER", help="note which tests call which RPC")
    parser.addoption("--storm", action="store_true", help="repeat fault tests at every point, for hours if need be")


def pytest_configure(config):
    if folder := config.getoption("--record-rpcs"):
        config.pluginmanager.register(SessionRecorder(folder, os.environ.get("PYTEST_XDIST_WORKER", "main")))
    config.addinivalue_line("markers", "lines(*names): the containerd lines a test is about; without it, all of them")


def pytest_generate_tests(metafunc):
    if "daemon_line" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("lines")
        metafunc.parametrize("daemon_line", marker.args if marker else LINES, indirect=True, scope="session")


def pytest_collection_modifyitems(config, items):
    if not (chosen := config.getoption("--line")):
        return
    unwanted = [item for item in items if _line(item) not in (None, *chosen)]
    config.hook.pytest_deselected(items=unwanted)
    items[:] = [item for item in items if item not in unwanted]


def _line(item):
    return item.callspec.params.get("daemon_line") if hasattr(item, "callspec") else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    daemon = getattr(item, "funcargs", {}).get("daemon")
    if report.failed and isinstance(daemon, Daemon) and daemon.log_path.exists():
        tail = daemon.log_path.read_text(errors="replace").splitlines()[-LOG_LINES:]
        report.sections.append((f"end of {daemon.log_path}", "\n".join(tail)))
    return report


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio only: grpclib knows nothing else."""
    return "asyncio"


@pytest.fixture(scope="session")
def daemon_line(request: pytest.FixtureRequest) -> str:
    """Name the containerd line that the test runs on."""
    return request.param


@pytest.fixture(scope="session")
def daemon_bin(daemon_line: str) -> Path:
    """Find the folder with the line's containerd, shims and ctr."""
    folder = DAEMONS / daemon_line / "bin"
    if not folder.exists():
        pytest.fail(f"containerd {daemon_line} is not in {DAEMONS}: run python3 .ci/provision.py tests", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TLSFiles:
    """Make a certificate for 127.0.0.1 and localhost, and the private authority behind it."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return TLSFiles(certificate=folder / "server.pem", key=folder / "server.pem", ca=folder / "ca.pem")


@pytest.fixture(scope="session")
def daemon(
    daemon_line: str,
    daemon_bin: Path,
    tls_files: TLSFiles,
    containerd_portal: BlockingPortal,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Daemon]:
    """Lend a private daemon of the line, shared by all tests on that line. It trusts `tls_registry` and has criu."""
    log_path = tmp_path_factory.mktemp(f"containerd-{daemon_line}") / "log"
    folders = [str(daemon_bin), str(CRIU), *os.get_exec_path(), "/usr/sbin", "/sbin"]
    env = {"SSL_CERT_FILE": str(tls_files.ca), "PATH": os.pathsep.join(folders)}
    opening = open_daemon(containerd=daemon_bin / "containerd", log_path=log_path, env=env)
    with containerd_portal.wrap_async_context_manager(opening) as daemon:
        yield daemon


@pytest.fixture
async def own_daemon(daemon_bin: Path, tls_files: TLSFiles, tmp_path: Path) -> AsyncIterator[Daemon]:
    """Lend a daemon of the line to this test alone, which may kill it. It trusts `tls_registry`."""
    env = {"SSL_CERT_FILE": str(tls_files.ca)}
    log_path = tmp_path / "containerd.log"
    async with open_daemon(containerd=daemon_bin / "containerd", log_path=log_path, env=env) as daemon:
        yield daemon


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """Invent a namespace that no test had before."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name the folder for directories of containers: not there yet, and never the system's own."""
    monkeypatch.setenv("CONTAINERD_PY_DATA_ROOT", str(tmp_path / "data-root"))
    return tmp_path / "data-root"


@pytest.fixture
async def client(daemon: Daemon, namespace: str, data_root: Path) -> AsyncIterator[Client]:
    """Lend a client of the line's daemon in a namespace of the test's own."""
    async with connect(daemon.address, namespace=namespace) as client:
        yield client


@pytest.fixture
async def busybox(client: Client, seeded_images: SeededImages) -> AsyncIterator[Image]:
    """Lend the small image, unpacked in the test's namespace."""
    async with deleting(await client.pull(seeded_images.busybox, via="client")) as image:
        yield image


@pytest.fixture
async def layered(client: Client, seeded_images: SeededImages) -> AsyncIterator[Image]:
    """Lend the image with several layers and a user, unpacked in the test's namespace."""
    async with deleting(await client.pull(seeded_images.layered, via="client")) as image:
        yield image


Ctr = Callable[..., Awaitable[str]]


@pytest.fixture
def ctr(daemon: Daemon, daemon_bin: Path, namespace: str) -> Ctr:
    """Run the line's own ctr on the test's daemon and namespace: `await ctr("images", "list", "--quiet")`."""

    async def run(*arguments: str, check: bool = True, stdin: bytes | None = None) -> str:
        command = [daemon_bin / "ctr", "--address", daemon.address, "--namespace", namespace, *arguments]
        done = await to_thread.run_sync(
            lambda: subprocess.run(command, capture_output=True, input=stdin, check=False, timeout=60)
        )
        if check and done.returncode:
            pytest.fail(f"ctr {' '.join(arguments)} ended with {done.returncode}: {done.stderr.decode()}")
        return done.stdout.decode()

    return run


@pytest.fixture(scope="session")
def seeded_images(
    local_registry: LocalRegistry, containerd_portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> SeededImages:
    """Put small images of every kind into the local registry."""
    folder = tmp_path_factory.mktemp("images")
    foreign = Platform(os="linux", architecture="arm64", variant="v8")
    layouts = {
        "busybox": busybox_layout(folder / "busybox"),
        "layered": busybox_layout(folder / "layered", layers=LAYERED, options=LAYERED_OPTIONS),
        "index": busybox_layout(folder / "index", platforms=[this_platform(), foreign]),
        "docker": busybox_layout(folder / "docker", docker=True),
    }
    for name, layout in layouts.items():
        containerd_portal.call(local_registry.push, layout, name)
    references = {name: local_registry.reference(name) for name in layouts}
    by_reference = {references[name]: layout for name, layout in layouts.items()}
    return SeededImages(registry=local_registry, **references, layouts=by_reference)


@pytest.fixture(scope="session")
def tls_registry(
    tls_files: TLSFiles, seeded_images: SeededImages, containerd_portal: BlockingPortal
) -> Iterator[LocalRegistry]:
    """Lend a registry that speaks HTTPS and holds the small images under the same names."""
    with containerd_portal.wrap_async_context_manager(open_registry(tls=tls_files)) as registry:
        for reference, layout in seeded_images.layouts.items():
            containerd_portal.call(registry.push, layout, Reference.parse(reference).path)
        yield registry


@pytest.fixture(scope="session")
def large_image(
    local_registry: LocalRegistry, containerd_portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Put an image with four layers of 16 MiB into the local registry: slow enough to be interrupted."""
    layout = busybox_layout(tmp_path_factory.mktemp("large"), layers=random_layers(4, 16 * 2**20))
    containerd_portal.call(local_registry.push, layout, "large")
    return local_registry.reference("large")


LAYERED = (
    (LayerFile(path="data/"), LayerFile(path="data/first", data=b"first\n"), LayerFile(path="data/gone", data=b"x")),
    (LayerFile(path="data/.wh.gone"), LayerFile(path="data/second", data=b"second\n", uid=1000, gid=1000)),
    (LayerFile(path="data/first", data=b"changed\n", mode=0o600), LayerFile(path="data/link", link_target="first")),
    (LayerFile(path="opt/"), LayerFile(path="opt/script", data=b"#!/bin/sh\necho script\n", mode=0o755)),
)
LAYERED_OPTIONS = ImageOptions(
    args=("script",),
    entrypoint=("/bin/echo",),
    env=("PATH=/opt:/bin", "GREETING=hello world"),
    user="app",
    working_dir="/data",
    stop_signal="SIGINT",
    labels={"org.example.kind": "layered"},
    volumes=("/var/lib/app",),
    exposed_ports=("80/tcp",),
)
