"""What a container's spec gets from the host: CDI devices, other containers' namespaces, an init. Seen from inside."""

import json
import os
import re
import stat
import uuid
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, Image, find_cdi_devices, load_cdi_registry
from containerd_py.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError

pytestmark = pytest.mark.lines("2.1")  # the daemon has no part in it but to hand the spec on

CDI = {
    "cdiVersion": "0.7.0",
    "kind": "vendor.example/thing",
    "devices": [
        {
            "name": "zero",
            "containerEdits": {
                "env": ["THING=zero"],
                "deviceNodes": [{"path": "/dev/thing0", "hostPath": "/dev/zero"}],
                "additionalGids": [4242],
            },
        }
    ],
    "containerEdits": {"env": ["DRIVER=1"]},
}
LOOK = """
echo $THING $DRIVER
head -c 4 /dev/thing0 | od -An -tx1
true </dev/thing1 && echo read
true >/dev/thing1 || echo not written
grep Groups /proc/self/status
cat /driver/version
"""


async def test_a_cdi_device_is_there(client: Client, busybox: Image, tmp_path: Path):
    """Its node can be used as far as allowed, its mounts, environment, groups and hooks are in effect."""
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "version").write_text("driver 7\n")
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ncat >{tmp_path}/state\necho $HOOK >>{tmp_path}/hooked\n")
    hook.chmod(0o755)
    os.mknod(tmp_path / "node", stat.S_IFCHR | 0o666, os.makedev(10, 237))  # loop-control: no container may use it
    edits = CDI["containerEdits"] | {
        "deviceNodes": [{"path": "/dev/thing1", "hostPath": str(tmp_path / "node"), "permissions": "r"}],
        "mounts": [
            {"hostPath": str(tmp_path / "driver"), "containerPath": "/driver", "options": ["rbind", "ro"]},
        ],
        "hooks": [{"hookName": "createRuntime", "path": str(hook), "env": ["HOOK=ran"]}],
    }
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "thing.json").write_text(json.dumps(CDI | {"containerEdits": edits}))
    registry = await load_cdi_registry([tmp_path / "cdi"])
    assert [*registry.devices] == ["vendor.example/thing=zero"]
    option = await find_cdi_devices("vendor.example/thing=zero", directories=[tmp_path / "cdi"])
    look = ["/bin/sh", "-c", LOOK]
    completed = await client.run(busybox, look, user="1000:1000", spec_options=[option])
    said = completed.stdout.split()
    assert said[:9] == b"zero 1 00 00 00 00 read not written".split()
    assert said[-3:] == [b"4242", b"driver", b"7"]
    assert (tmp_path / "hooked").read_text() == "ran\n"
    assert json.loads((tmp_path / "state").read_text())["status"] in {"creating", "created"}


async def test_cdi_devices_of_the_host(client: Client, busybox: Image):
    """create_container and run take names, looked up where the host keeps its specifications."""
    kind = f"vendor.example/test-{uuid.uuid4().hex[:8]}"
    path = Path("/var/run/cdi") / f"{kind.replace('/', '-')}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(CDI | {"kind": kind}))
    try:
        completed = await client.run(busybox, ["/bin/sh", "-c", "echo $THING"], cdi_devices=[f"{kind}=zero"])
        assert completed.stdout == b"zero\n"
        with pytest.raises(NotFoundError, match=f"{kind}=other"):
            await client.run(busybox, ["/bin/true"], cdi_devices=[f"{kind}=other"])
        with pytest.raises(InvalidArgumentError, match="no CDI device"):
            await client.run(busybox, ["/bin/true"], cdi_devices=["other"])
    finally:
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


async def test_namespaces_of_another_container(client: Client, busybox: Image):
    """Processes see those of a container whose PID namespace they are in; host and path mean what they say."""
    ns = ["/bin/sh", "-c", "for n in pid uts ipc net; do readlink /proc/self/ns/$n; done"]
    async with client.open_run(busybox, ["/bin/sleep", "4321"], id="first") as first:
        seen = await client.run(busybox, ["/bin/ps"], namespaces={"pid": "container:first"})
        assert b"sleep 4321" in seen.stdout
        joined = {"pid": "container:first", "uts": "container:first", "ipc": "container:first"}
        joined |= {"network": f"/proc/{first.pid}/ns/net"}
        theirs = (await first.run_exec(ns)).stdout
        assert (await client.run(busybox, ns, namespaces=joined)).stdout == theirs
        assert not set((await client.run(busybox, ns)).stdout.split()) & set(theirs.split())
        private = await client.run(busybox, ["/bin/readlink", "/proc/self/ns/cgroup"], namespaces={"cgroup": "private"})
        assert private.stdout.decode().strip() != str(Path("/proc/self/ns/cgroup").readlink())
    host = await client.run(busybox, ns, namespaces={"pid": "host", "uts": "host", "ipc": "host", "network": "host"})
    ours = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("pid", "uts", "ipc", "net")]
    assert host.stdout.decode().split() == ours


async def test_namespaces_that_are_not_there(client: Client, busybox: Image):
    """A container that does not run, a kind and a place that do not exist are refused before anything is made."""
    with pytest.raises(NotFoundError, match="no task"):
        await client.create_container(image=busybox, args=["/bin/true"], namespaces={"pid": "container:none"})
    for namespaces in ({"pid": "elsewhere"}, {"what": "host"}):
        with pytest.raises(InvalidArgumentError, match="namespaces"):
            await client.create_container(image=busybox, args=["/bin/true"], namespaces=namespaces)
    async with client.open_run(busybox, ["/bin/true"], id="over") as task:
        await task.wait()
        with pytest.raises(FailedPreconditionError, match="has ended"):
            await client.create_container(image=busybox, args=["/bin/true"], namespaces={"ipc": "container:over"})
    assert await client.list_containers() == []


async def test_an_init_reaps(client: Client, busybox: Image):
    """With an init, orphans are reaped and SIGTERM ends a program that would ignore it as process 1."""
    orphan = "(sleep 0.3 & exec true); touch /started; sleep 1000"
    async with client.open_run(busybox, ["/bin/sh", "-c", orphan], init=True) as task:
        with anyio.fail_after(10):
            while True:
                seen = (await task.run_exec(["/bin/ps", "-o", "pid,stat,args"])).stdout.decode()
                if (await task.run_exec(["/bin/ls", "/started"], check=False)).exit_code == 0 and not re.search(
                    r"\d +\S+ +sleep 0.3", seen
                ):
                    break
                await anyio.sleep(0.1)
        assert "{docker-init}" in seen or "/sbin/docker-init" in seen
        assert not re.search(r"\d +Z", seen)
        assert (await task.stop(grace=8)).code == 143
    with pytest.raises(NotFoundError, match="no init program '/nowhere'"):
        await client.run(busybox, ["/bin/true"], init="/nowhere")
