"""Names of containers: one holder each, whoever races for it, and never lost with a program that was killed."""

import stat
from pathlib import Path

from containerd_py import Client, Image, deleting

SLEEP = ["/bin/sleep", "1000"]


async def test_a_name_comes_with_a_private_directory(client: Client, busybox: Image, data_root: Path):
    """A named container has a directory of mode 0700 where nerdctl would have it, and both go with the container."""
    container = await client.create_container(image=busybox, args=SLEEP, name="web")
    async with deleting(container):
        (store,) = data_root.iterdir()
        state = store / "containers" / client.namespace / container.id
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert (store / "names" / client.namespace / "web").read_text() == container.id
        labels = await container.labels()
        assert labels["nerdctl/name"] == "web"
        assert labels["nerdctl/state-dir"] == str(state)
    assert not state.exists()
    assert list((store / "names" / client.namespace).iterdir()) == []


async def test_a_container_without_a_name_needs_no_directory(client: Client, busybox: Image, data_root: Path):
    """What nobody asked for is not made."""
    async with deleting(await client.create_container(image=busybox, args=SLEEP)):
        assert not data_root.exists()
