"""What nerdctl finds of our containers, and we of its: held against what its source says, for want of the program."""

import json
import stat
from hashlib import sha256
from pathlib import Path

import pytest

from containerd_py import Client, Container, Image, deleting, json_file_log
from containerd_py.errors import NotFoundError

SPEC_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Spec"


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def state_of(client: Client, data_root: Path, container: Container) -> Path:
    """Compute what nerdctl computes from its flags: data root, address, namespace."""
    address = str(Path(client.services.connection.address).resolve())
    store = sha256(address.encode()).hexdigest()[:8]
    return data_root / store / "containers" / client.namespace / container.id


async def read(container: Container) -> list[bytes]:
    async with container.logs(follow=True) as lines:
        return [line.data async for line in lines]


async def test_a_plain_container_can_be_listed_inspected_and_removed(client: Client, busybox: Image):
    """`ps`, `inspect`, `stop` and `rm` need a few labels, one of them as an annotation too, and a spec of this type."""
    async with deleting(await client.create_container(image=busybox, args=["/bin/true"])) as container:
        record = await container.record()
        spec = await container.spec()
        assert record.spec is not None
        assert record.spec.type_url == SPEC_TYPE
        assert spec["process"]
        assert spec["linux"]
        assert record.labels["nerdctl/namespace"] == client.namespace
        assert record.labels["nerdctl/platform"] == "linux/amd64"
        for found in (record.labels, spec["annotations"]):
            assert json.loads(found["nerdctl/networks"]) == ["none"]


async def test_logs_lie_where_nerdctl_reads_them(client: Client, busybox: Image, data_root: Path):
    """`logs` opens log-config.json and ID-json.log in the directory it computes itself; `start` wants the URI again."""
    container = await client.create_container(image=busybox, args=shell("echo hello"), name="web")
    async with deleting(container):
        async with deleting(await container.create_task(io=json_file_log())) as task:
            await task.start()
            assert await read(container) == [b"hello\n"]
            labels = await container.labels()
            assert labels["nerdctl/log-uri"] == task.io.stdout
        state = state_of(client, data_root, container)
        assert labels["nerdctl/state-dir"] == str(state)
        address = client.services.connection.address
        config = {"driver": "json-file", "address": address}
        assert json.loads((state / "log-config.json").read_text()) == config
        assert json.loads(labels["nerdctl/log-config"]) == config
        entry = json.loads((state / f"{container.id}-json.log").read_text())
        assert (entry["log"], entry["stream"]) == ("hello\n", "stdout")
        assert (state / "logger-lock").exists()
    assert not state.exists()


@pytest.mark.lines("2.1")
async def test_a_log_of_its_own_needs_no_name(client: Client, busybox: Image, data_root: Path):
    """The directory is made with the first log, and found and removed by any program."""
    container = await client.create_container(image=busybox, args=shell("echo hello"))
    state = state_of(client, data_root, container)
    assert not data_root.exists()
    async with deleting(await container.create_task(io=json_file_log(max_size=1000, max_files=2))) as task:
        await task.start()
        assert await read(container) == [b"hello\n"]
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    await (await client.load_container(container.id)).delete()
    assert not state.exists()


@pytest.mark.lines("2.1")
async def test_logs_that_nerdctl_writes_are_read(client: Client, busybox: Image, data_root: Path):
    """A container of nerdctl's has no label of ours: its directory and its log's kind tell."""
    container = await client.create_container(image=busybox, args=["/bin/true"])
    state = state_of(client, data_root, container)
    state.mkdir(parents=True)
    await container.set_labels({"nerdctl/state-dir": str(state)})
    entry = {"log": "from nerdctl\n", "stream": "stderr", "time": "2026-01-02T03:04:05.678Z"}
    (state / f"{container.id}-json.log").write_text(json.dumps(entry) + "\n")
    for config in ("", "{", '{"driver": "journald"}', '{"driver": 7}'):
        (state / "log-config.json").write_text(config)
        with pytest.raises(NotFoundError):
            await read(container)
    config = {"driver": "json-file", "opts": {"max-size": "5m"}, "address": "/run/containerd/containerd.sock"}
    (state / "log-config.json").write_text(json.dumps(config))
    assert await read(container) == [b"from nerdctl\n"]
    await container.delete()
    assert not state.exists()
