"""The main job from end to end: pull with progress, ensure, create, run, exec, stop, and nothing left.

Without arguments it starts a private containerd and a local registry with a small image made from busybox. With
`--address` and `--image` it does the same on a containerd and with an image of yours.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from containerd_py import Client, ContainerdError, connect, deleting, open_daemon, open_fifos
from containerd_py.console import PullBars

SCRIPT = "echo hello from the container; echo a word to stderr >&2; trap 'exit 7' TERM; while :; do sleep 0.1; done"


def say(text: str) -> None:
    print(f"\n── {text}", flush=True)


async def main_job(client: Client, ref: str) -> None:
    version = await client.version()
    say(f"containerd {version.version}, namespace {client.namespace}")

    say(f"pulling {ref}")
    with PullBars() as bars:
        async with client.open_pull(ref) as pull:
            await bars.follow(pull)
    image = pull.image
    print(f"{image.name}\n{image.target.digest}")

    say("ensuring: whole and unpacked, so nothing is fetched")
    image = await client.ensure_image(ref)
    print(f"layers: {len(await image.diff_ids())}, unpacked: {await image.is_unpacked()}")

    say("creating a container on a fresh snapshot")
    container = await client.create_container(image=image, args=["/bin/sh", "-c", SCRIPT])
    print(container)
    async with deleting(container), open_fifos(stdin=False) as io, anyio.create_task_group() as group:
        task = await container.create_task(io=io.config)
        async with deleting(task):
            assert task.stdout is not None
            assert task.stderr is not None
            group.start_soon(stream, "stdout", task.stdout)
            group.start_soon(stream, "stderr", task.stderr)
            say("starting its task and streaming its output")
            await task.start()
            print(task)
            await anyio.sleep(0.3)

            say("running another process in it: exit code and output")
            result = await task.run_exec(["/bin/sh", "-c", "echo args: $*; id -u; exit 3", "sh", "one"], check=False)
            print(f"exit code {result.exit_code}, stdout {result.stdout!r}")

            say("stopping it: SIGTERM, and SIGKILL after ten seconds")
            status = await task.stop()
            print(f"exit code {status.code} at {status.exited_at}")

    say("one call for all of it")
    completed = await client.run(image, ["/bin/sh", "-c", "read line; echo you said: $line"], input=b"hello\n")
    print(completed.stdout.decode(), end="")
    await image.delete(synchronous=True)


async def stream(name: str, output: AsyncIterator[bytes]) -> None:
    async for chunk in output:
        print(f"[{name}] {chunk.decode(errors='replace')}", end="", flush=True)


async def prove_nothing_is_left(client: Client) -> None:
    say("what is left")
    left = {
        "images": [image.name for image in await client.list_images()],
        "containers": [container.id for container in await client.list_containers()],
        "tasks": [task.id for task in await client.tasks.list()],
        "snapshots": [info.name for info in await client.snapshotter("overlayfs").list()],
        "leases": [lease.id for lease in await client.leases.list()],
        "blobs": [info.digest for info in await client.content.list()],
        "ingests": [status.ref for status in await client.content.list_statuses()],
    }
    for what, names in left.items():
        print(f"{what:11} {len(names)}  {' '.join(names)}".rstrip())
    if any(left.values()):
        raise SystemExit("something is left behind: this is a bug")
    await client.namespaces.delete(client.namespace)
    print("nothing, and the namespace is gone as well")


@asynccontextmanager
async def lent_registry() -> AsyncIterator[str]:
    from containerd_py.testing.images import busybox_layout
    from containerd_py.testing.layers import random_layers
    from containerd_py.testing.registry import open_registry

    with tempfile.TemporaryDirectory() as folder:
        layout = busybox_layout(Path(folder) / "busybox", layers=random_layers(3, 8 * 2**20))
        async with open_registry() as registry:
            await registry.push(layout, "busybox")
            print(f"local registry at {registry.address}, seeded with an image made from busybox")
            yield registry.reference("busybox")


async def run(address: str | None, image: str | None, namespace: str) -> None:
    if address is not None and image is not None:
        async with connect(address, namespace=namespace) as client:
            await main_job(client, image)
            await prove_nothing_is_left(client)
    elif image is not None:
        async with open_daemon() as daemon:
            await run(daemon.address, image, namespace)
    else:
        async with lent_registry() as reference:
            await run(address, reference, namespace)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", help="socket of a running containerd; default: a private one is started")
    parser.add_argument("--image", help="image to pull, e.g. docker.io/library/alpine:3.20; default: a local busybox")
    parser.add_argument("--namespace", help="default: a new one, removed at the end")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    chosen = arguments.namespace or f"quickstart-{secrets.token_hex(4)}"
    try:
        anyio.run(run, arguments.address, arguments.image, chosen)
    except ContainerdError as error:
        notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        sys.exit(f"{type(error).__name__}: {error}{notes}")
