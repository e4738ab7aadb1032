"""Containers: what their records keep, and what their processes find of what was asked for."""

import signal
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, ContainerRecord, Image, Runtime, deleting
from containerd_py.errors import NotFoundError
from containerd_py.oci.spec_options import (
    with_ambient_capabilities,
    with_hooks,
    with_hostname,
    with_process_args,
    with_user_id,
    with_user_ids,
    with_username,
)
from containerd_py.typeurl import TypedValue
from tests.conformance.made import created

SLEEP = ["/bin/sleep", "1000"]
LISTEN = ["/bin/busybox", "nc", "-l", "-p", "80"]
WHO = ["/bin/sh", "-c", "echo $(id -u):$(id -g)"]


async def test_a_new_namespace_has_no_containers(client: Client):
    """What nobody has made is not listed."""
    assert await client.list_containers() == []
    with pytest.raises(NotFoundError):
        await client.load_container("nobody")


@pytest.mark.parametrize(
    ("user", "found"),
    [("app:daemon", "1000:1"), ("1001:daemon", "1001:1"), ("app:1002", "1000:1002"), ("1001:1002", "1001:1002")],
)
async def test_users_and_groups_by_name_and_number(client: Client, busybox: Image, user: str, found: str):
    """A user and a group may each be a name or a number."""
    assert (await client.run(busybox, WHO, user=user)).stdout.decode().strip() == found


async def test_a_user_alone_brings_its_group(client: Client, busybox: Image):
    """A user that the image knows, by number or name, brings its group; one it does not know is in root's."""
    assert (await client.run(busybox, WHO, user="1")).stdout == b"1:1\n"
    assert (await client.run(busybox, WHO, user="app")).stdout == b"1000:1000\n"
    async with deleting(await client.create_container(image=busybox, args=WHO, user="4321")) as container:
        user = (await container.spec())["process"]["user"]
        assert (user["uid"], user["gid"]) == (4321, 0)


async def test_user_options_go_without_files(client: Client, busybox: Image):
    """The spec options take numbers as they are, and a name in the way the specification has it for Windows."""
    completed = await client.run(busybox, WHO, spec_options=[with_user_ids(7, 8)])
    assert completed.stdout == b"7:8\n"
    completed = await client.run(busybox, WHO, spec_options=[with_user_id(9)])
    assert completed.stdout == b"9:0\n"
    async with deleting(
        await client.create_container(image=busybox, args=WHO, spec_options=[with_username("app")])
    ) as container:
        assert (await container.spec())["process"]["user"]["username"] == "app"


async def test_low_ports_are_for_who_may(client: Client, busybox: Image):
    """A user without privileges listens on no low port, unless a capability lets it."""
    completed = await client.run(busybox, LISTEN, user="1000:1000", check=False)
    assert completed.exit_code == 1
    may = [with_ambient_capabilities("CAP_NET_BIND_SERVICE")]
    async with client.open_run(busybox, LISTEN, user="1000:1000", spec_options=may) as task:
        listening = ["/bin/sh", "-c", "until grep -q :0050 /proc/net/tcp*; do sleep 0.05; done"]
        await task.run_exec(listening, user="0:0")
        await task.kill(signal.SIGKILL)  # anything else is nothing to a namespace's first process
        assert (await task.wait()).code == 137


async def test_a_host_name_is_chosen_and_changed(client: Client, busybox: Image):
    """The host name is what the spec says when the task is made, changed by an update as well."""
    asked = {"args": ["/bin/hostname"], "spec_options": [with_hostname("before")]}
    async with deleting(await client.create_container(image=busybox, **asked)) as container:
        assert (await client.run(busybox, **asked)).stdout == b"before\n"
        spec = await container.spec()
        spec["hostname"] = "after"
        await container.update(spec=spec)
        assert (await (await client.load_container(container.id)).spec())["hostname"] == "after"


async def test_extensions_are_kept_for_their_owners(client: Client, busybox: Image):
    """What a program keeps with a container comes back as it was, for whoever loads it; others may add theirs."""
    extensions = {"test.extension": TypedValue(type_url="test.ext.url", value=b"\x00\xff kept")}
    container = await client.create_container(image=busybox, args=SLEEP, extensions=extensions)
    async with deleting(container):
        found = await client.load_container(container.id)
        assert (await found.record()).extensions == extensions
        other = {"other": TypedValue(type_url="test.ext.url", value=b"")}
        await found.update(extensions=other)
        assert (await container.record()).extensions == extensions | other


async def test_the_record_is_what_was_created(client: Client):
    """A record made by hand comes back equal, but for the daemon's times; such a container has no image."""
    wanted = ContainerRecord(
        id="by-hand",
        labels={"a": "1", "b": "2"},
        runtime=Runtime(name="io.containerd.runc.v2"),
        spec=TypedValue(type_url="test.spec", value=b"{}"),
    )
    made = await client.containers.create(wanted)
    async with deleting(await client.load_container("by-hand")) as container:
        assert await container.record() == made
        assert (made.id, made.labels, made.runtime, made.spec) == (
            wanted.id,
            wanted.labels,
            wanted.runtime,
            wanted.spec,
        )
        assert made.created_at == made.updated_at
        assert await container.set_labels({"a": "2", "b": ""}) == {"a": "2"}
        with pytest.raises(NotFoundError, match="image"):
            await container.image()


async def test_a_namespace_chooses_the_runtime(client: Client, busybox: Image):
    """A container gets the runtime that its namespace's label names, unless it is given one."""
    await client.namespaces.update(client.namespace, labels={"containerd.io/defaults/runtime": "io.containerd.mine.v1"})
    async with deleting(await client.create_container(image=busybox, args=SLEEP)) as container:
        assert (await container.record()).runtime.name == "io.containerd.mine.v1"
    given = {"image": busybox, "args": SLEEP, "runtime": "io.containerd.runc.v2"}
    async with deleting(await client.create_container(**given)) as container:
        assert (await container.record()).runtime.name == "io.containerd.runc.v2"


async def test_what_a_layer_deletes_is_not_there(client: Client, layered: Image):
    """A file that a later layer has deleted is absent in the container; what others changed is as they left it."""
    script = "ls /data; cat /data/first /data/second"
    shell = [with_process_args("/bin/sh", "-c", script)]
    completed = await client.run(layered, user="0", spec_options=shell)
    assert completed.stdout == b"first\nlink\nsecond\nchanged\nsecond\n"


async def test_a_container_knows_its_image(client: Client, busybox: Image):
    """A container names the image it was created from."""
    async with deleting(await client.create_container(image=busybox, args=SLEEP)) as container:
        image = await container.image()
        assert (image.name, image.target) == (busybox.name, busybox.target)


async def test_hooks_run_in_their_places(client: Client, busybox: Image, tmp_path: Path):
    """Programs hooked into a container's life are run at their points, with the container's state to read."""

    def hook(name: str) -> dict[str, object]:
        return {"path": "/bin/sh", "args": ["sh", "-c", f"cat >{tmp_path / name}"]}

    points = ["prestart", "createRuntime", "poststop"]
    options = [with_hooks(point, hook(point)) for point in points]
    async with created(client, busybox, SLEEP, spec_options=options) as task:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["createRuntime", "prestart"]
        assert task.id in (tmp_path / "createRuntime").read_text()
        await task.delete(force=True)
    with anyio.fail_after(20):
        while not (tmp_path / "poststop").exists():
            await anyio.sleep(0.02)
