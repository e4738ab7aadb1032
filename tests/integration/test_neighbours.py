"""Pods of Kubernetes and containers of Docker are read where they are, and not disturbed."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import anyio
import pytest

from containerd_py import Client, ContainerRecord, NotFoundError, Pod, PodContainer, Runtime, connect, open_daemon
from containerd_py.daemon import Daemon
from containerd_py.services.sandboxes import SandboxRecord
from containerd_py.services.tasks import TaskState
from containerd_py.testing.images import ImageOptions, busybox_layout
from containerd_py.typeurl import RUNTIME_SPEC, TypedValue
from tests.harness.cri import open_cri
from tests.harness.leaks import wipe_namespace
from tests.harness.rpc_recorder import recorded_rpcs

RUNC: Final = Runtime(name="io.containerd.runc.v2")
SPEC: Final = TypedValue(type_url=RUNTIME_SPEC, value=b'{"ociVersion":"1.0.2","linux":{}}')
PAUSE: Final = "docker.io/library/pause:1"
LABELS: Final = {
    "io.kubernetes.pod.name": "web-0",
    "io.kubernetes.pod.namespace": "shop",
    "io.kubernetes.pod.uid": "0d1e2f",
}
READING: Final = {"Containers/List", "Containers/ListStream", "Tasks/List", "Store/List"}


# ── the real CRI plugin ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def kubernetes(daemon_bin: Path, tmp_path: Path) -> AsyncIterator[Daemon]:
    """Lend a daemon whose CRI plugin runs pods."""
    logs = tmp_path / "logs"
    network = {"bin_dir": str(tmp_path / "cni-bin"), "conf_dir": str(tmp_path / "cni-conf")}
    settings = {"io.containerd.grpc.v1.cri": {"sandbox_image": PAUSE, "cni": network, "restrict_oom_score_adj": True}}
    async with open_daemon(
        containerd=daemon_bin / "containerd", disabled_plugins=(), plugins=settings, log_path=logs
    ) as daemon:
        yield daemon
        await wipe_namespace(daemon, "k8s.io")


async def test_pods_that_cri_runs(kubernetes: Daemon, tmp_path: Path) -> None:
    """A pod as the kubelet has it made comes with its labels, its container, and both their processes."""
    layout = busybox_layout(tmp_path / "pause", options=ImageOptions(args=("/bin/sleep", "1000000")))
    async with connect(kubernetes.address, namespace="k8s.io") as client, open_cri(kubernetes.address) as cri:
        await client.import_images(layout.folder, index_name=PAUSE)
        with anyio.fail_after(20):
            await cri.wait_for_image(PAUSE)
        sandbox = await cri.run_sandbox(
            "web-0", namespace="shop", uid="0d1e2f", labels={**LABELS, "app": "web"}, annotations={"note": "of the pod"}
        )
        made = await cri.run_container(
            sandbox,
            "server",
            image=PAUSE,
            args=["sleep", "1000000"],
            labels={**LABELS, "io.kubernetes.container.name": "server"},
        )
        with recorded_rpcs() as outcomes:
            (pod,) = await client.in_namespace("default").list_pods()
        assert {route.rpartition(".")[2] for route in outcomes} <= READING
        assert (pod.id, pod.name, pod.namespace, pod.uid) == (sandbox[0], "web-0", "shop", "0d1e2f")
        assert pod.labels["app"] == "web"
        assert pod.annotations["note"] == "of the pod"
        assert pod.log_directory == "/tmp/logs-of-0d1e2f"
        assert pod.addresses == ()
        assert pod.state is TaskState.RUNNING
        (container,) = pod.containers
        assert (container.id, container.name, container.attempt) == (made, "server", 3)
        assert container.image == PAUSE
        assert container.annotations["note"] == "of the container"
        assert container.log_path == "/tmp/logs-of-0d1e2f/server/3.log"
        task = await (await client.load_container(made)).load_task()
        assert (container.pid, container.state) == (task.pid, TaskState.RUNNING)
        await cri.remove_sandbox(sandbox[0])
        assert await client.list_pods() == []
    shutil.rmtree("/tmp/logs-of-0d1e2f", ignore_errors=True)


# ── records as CRI and dockerd write them ───────────────────────────────────────────────────────────────────────────


def notes(kind: str, **metadata: object) -> TypedValue:
    """Return what CRI notes in an extension."""
    document = json.dumps({"Version": "v1", "Metadata": metadata}).encode()
    return TypedValue(type_url=f"github.com/containerd/cri/pkg/store/{kind}/Metadata", value=document)


def sandbox(id: str, extension: TypedValue | None) -> ContainerRecord:  # noqa: A002
    extensions = {} if extension is None else {"io.cri-containerd.sandbox.metadata": extension}
    labels = {"io.cri-containerd.kind": "sandbox", **LABELS}
    return ContainerRecord(id=id, image=PAUSE, runtime=RUNC, spec=SPEC, labels=labels, extensions=extensions)


@pytest.fixture
async def others(client: Client, namespace: str) -> AsyncIterator[Client]:
    """Lend a client whose container and sandbox records are removed afterwards."""
    yield client
    for record in await client.containers.list():
        await client.containers.delete(record.id)
    if client.supports("sandboxes"):
        for stored in await client.sandboxes.store.list():
            await client.sandboxes.store.delete(stored.id)


async def test_what_is_noted_and_what_is_not(others: Client, namespace: str) -> None:
    """Notes say most; where they are missing, damaged or of another time, the labels do. Strangers are left out."""
    config = {"metadata": {"name": "noted", "uid": "u", "namespace": "n", "attempt": 2}, "labels": {"a": "b"}}
    full = notes("sandbox", ID="one", Config=config, IP="10.0.0.7", AdditionalIPs=["fd00::7"], NetNSPath="/run/netns/x")
    damaged = TypedValue(type_url=full.type_url, value=full.value[:-9])
    other = TypedValue(type_url=full.type_url, value=full.value.replace(b'"v1"', b'"v2"'))
    mistyped = notes("sandbox", ID="four", Config={"metadata": {"name": 7}})
    for id_, extension in {"one": full, "two": damaged, "three": other, "four": mistyped, "five": None}.items():
        await others.containers.create(sandbox(id_, extension))
    member = ContainerRecord(
        id="member",
        image="an/image:1",
        runtime=RUNC,
        spec=SPEC,
        labels={"io.cri-containerd.kind": "container", **LABELS, "io.kubernetes.container.name": "labelled"},
        extensions={"io.cri-containerd.container.metadata": notes("container", ID="member", SandboxID="five")},
    )
    await others.containers.create(member)
    await others.containers.create(ContainerRecord(id="stranger", runtime=RUNC, spec=SPEC))
    pods = await others.list_pods(namespace=namespace)
    assert [(pod.id, pod.name, pod.namespace) for pod in pods] == [
        ("one", "noted", "n"),
        *((id_, "web-0", "shop") for id_ in ("two", "three", "four", "five")),
    ]
    assert pods[0].addresses == ("10.0.0.7", "fd00::7")
    assert (pods[0].attempt, pods[0].labels, pods[0].netns_path) == (2, {"a": "b"}, "/run/netns/x")
    assert [(container.id, container.name) for container in pods[-1].containers] == [("member", "labelled")]
    assert all(not pod.containers and pod.state is TaskState.UNKNOWN for pod in pods[:-1])


@pytest.mark.lines("1.7", "2.1")
async def test_a_pod_without_a_container(others: Client, namespace: str) -> None:
    """A sandbox that another runtime runs is in the store alone; one that CRI did not make is none."""
    config = {"metadata": {"name": "boxed", "uid": "u", "namespace": "n"}}
    extensions = {"metadata": notes("sandbox", ID="vm", Config=config)}
    await others.sandboxes.store.create(SandboxRecord(id="vm", runtime=RUNC, spec=SPEC, extensions=extensions))
    await others.sandboxes.store.create(SandboxRecord(id="mine", runtime=RUNC, spec=SPEC))
    member = notes("container", ID="member", SandboxID="vm", Config={"metadata": {"name": "app"}})
    await others.containers.create(
        ContainerRecord(
            id="member",
            runtime=RUNC,
            spec=SPEC,
            labels={"io.cri-containerd.kind": "container"},
            extensions={"io.cri-containerd.container.metadata": member},
        )
    )
    (pod,) = await others.list_pods(namespace=namespace)
    assert isinstance(pod, Pod)
    assert (pod.id, pod.name) == ("vm", "boxed")
    assert [type(container) for container in pod.containers] == [PodContainer]
    assert pod.containers[0].name == "app"


async def test_dockers_containers_are_read(others: Client) -> None:
    """dockerd's records have a label of its own, and neither image nor snapshot: what is asked of them is answered."""
    bundle = "com.docker/engine.bundle.path"
    id_ = "f" * 64
    labels = {bundle: f"/var/run/docker/containerd/{id_}"}
    await others.containers.create(ContainerRecord(id=id_, runtime=RUNC, spec=SPEC, labels=labels))
    (container,) = await others.list_containers([f'labels."{bundle}"'])
    record = await container.record()
    assert (record.id, record.image, record.snapshot_key) == (id_, "", "")
    assert (await container.spec())["ociVersion"] == "1.0.2"
    assert await container.labels() == labels
    for question in (container.image, container.load_task):
        with pytest.raises(NotFoundError):
            await question()
