"""A rootless daemon, reached from outside of its namespaces: what it does alone works, what it cannot see is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, DaemonConnectError, RemoteDaemonError, connect, deleting, open_fifos
from containerd_py.oci.runtime_spec import Spec
from tests.conftest import SeededImages
from tests.harness.rootless import rootless_daemon


@pytest.fixture
async def rootless(daemon_bin: Path, namespace: str) -> AsyncIterator[Client]:
    """Lend a client of a daemon that an ordinary user runs in a user namespace."""
    with rootless_daemon(daemon_bin) as address:
        with anyio.fail_after(20):
            while True:
                try:
                    async with connect(address):
                        break
                except DaemonConnectError:
                    await anyio.sleep(0.05)
        async with connect(address, namespace=namespace) as client:
            yield client


def without_cgroups(spec: Spec) -> Spec:
    """Leave the cgroup alone, which an ordinary user without delegation cannot make."""
    linux = {key: value for key, value in spec["linux"].items() if key not in {"cgroupsPath", "resources"}}
    return {**spec, "linux": linux}  # type: ignore[typeddict-item]


@pytest.mark.lines("1.6", "2.1")
async def test_what_needs_no_files_of_ours(rootless: Client, seeded_images: SeededImages) -> None:
    """Images with owners of many kinds are unpacked in its user namespace, and a task runs there and ends."""
    async with (
        deleting(await rootless.pull(seeded_images.layered, via="client")) as layered,
        deleting(await rootless.pull(seeded_images.busybox, via="client")) as image,
        deleting(
            await rootless.create_container(image=image, args=["sh", "-c", "exit 7"], spec_options=[without_cgroups])
        ) as container,
        deleting(await container.create_task()) as task,
    ):
        assert await layered.is_unpacked()
        await task.start()
        assert (await task.wait()).code == 7


@pytest.mark.lines("2.1")
async def test_fifos_that_it_cannot_see_are_told(rootless: Client, seeded_images: SeededImages) -> None:
    """Its /run is another one than ours: FIFOs there are refused, with the way in."""
    async with (
        deleting(await rootless.pull(seeded_images.busybox, via="client")) as image,
        deleting(await rootless.create_container(image=image, args=["true"])) as container,
        open_fifos() as io,
    ):
        with pytest.raises(RemoteDaemonError, match=r"mount namespace.*nsenter .* -t"):
            await container.create_task(io=io.config)
