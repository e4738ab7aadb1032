"""List the pods of a Kubernetes node with their containers, reading only; with --demo, of a pod that is made up."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from containerd_py import Client, ContainerRecord, Pod, Runtime, TypedValue, connect


def show(pod: Pod) -> None:
    print(f"{pod.namespace}/{pod.name} {pod.state} {' '.join(pod.addresses) or 'in the network of the host'}")
    for container in pod.containers:
        process = "no process" if container.pid is None else f"pid {container.pid}"
        restarts = f", made anew {container.attempt} times" if container.attempt else ""
        print(f"    {container.name} of {container.image}: {container.state}, {process}{restarts}")


async def main(address: str | None, *, is_demo: bool) -> None:
    async with connect(address) as client:
        if is_demo:
            async with made_up_pod(client):
                pods = await client.list_pods(namespace=client.namespace)
        else:
            pods = await client.list_pods()
        for pod in pods:
            show(pod)
        print(len(pods), "pods,", sum(len(pod.containers) for pod in pods), "containers")


@asynccontextmanager
async def made_up_pod(client: Client) -> AsyncIterator[None]:
    """Keep the records that containerd's CRI plugin would write for a pod with one container."""
    kind, cri = "io.cri-containerd.kind", "github.com/containerd/cri/pkg/store"
    runtime = Runtime(name="io.containerd.runc.v2")
    spec = TypedValue(type_url="types.containerd.io/opencontainers/runtime-spec/1/Spec", value=b"{}")
    config = {"metadata": {"name": "web-0", "namespace": "shop", "uid": "0d1e2f"}}
    sandbox = {"Version": "v1", "Metadata": {"ID": "pod", "Config": config, "IP": "10.1.2.3"}}
    member = {"metadata": {"name": "server", "attempt": 2}}
    container = {"Version": "v1", "Metadata": {"ID": "server", "SandboxID": "pod", "Config": member}}
    for id_, image, notes, role in (
        ("pod", "registry.k8s.io/pause:3.10", sandbox, "sandbox"),
        ("server", "docker.io/library/nginx:1.27", container, "container"),
    ):
        noted = TypedValue(type_url=f"{cri}/{role}/Metadata", value=json.dumps(notes).encode())
        record = ContainerRecord(
            id=id_,
            image=image,
            runtime=runtime,
            spec=spec,
            labels={kind: role},
            extensions={f"io.cri-containerd.{role}.metadata": noted},
        )
        await client.containers.create(record)
    try:
        yield
    finally:
        for id_ in ("server", "pod"):
            await client.containers.delete(id_)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="containerd's socket; default: as connect() finds it")
    parser.add_argument("--demo", action="store_true", help="make up a pod and show it")
    arguments = parser.parse_args()
    anyio.run(lambda: main(arguments.address, is_demo=arguments.demo))
