"""Print what happens in a namespace; with --demo, see to it that something happens, and end."""

from __future__ import annotations

import argparse

import anyio

from containerd_py import (
    Client,
    ContainerCreate,
    ContainerDelete,
    EventsGap,
    TaskExit,
    TaskStart,
    TypedValue,
    connect,
)


async def watch(client: Client, *, ready: anyio.Event) -> None:
    async with client.events.subscribe(f"namespace=={client.namespace}") as envelopes:
        ready.set()  # from here on nothing is missed
        async for envelope in envelopes:
            match envelope.event:
                case TaskStart(container_id=container, pid=pid):
                    print(f"{envelope.timestamp} {container} runs as pid {pid}")
                case TaskExit(container_id=container, exit_status=code):
                    print(f"{envelope.timestamp} {container} ended with {code}")
                case ContainerCreate(id=container, image=image):
                    print(f"{envelope.timestamp} {container} was created from {image}")
                case ContainerDelete(id=container):
                    print(f"{envelope.timestamp} {container} was deleted")
                    if container == "demo":
                        return
                case EventsGap(reason=reason):
                    print(f"events may have been missed: {reason}")
                case TypedValue(type_url=name):
                    print(f"{envelope.timestamp} {envelope.topic}: a {name}, which is not known here")
                case _:
                    print(f"{envelope.timestamp} {envelope.topic}")


async def main(address: str | None, image: str, *, is_demo: bool) -> None:
    ready = anyio.Event()
    async with connect(address) as client, anyio.create_task_group() as group:
        if is_demo:
            await client.ensure_image(image)
        group.start_soon(lambda: watch(client, ready=ready))
        await ready.wait()
        if is_demo:
            await client.run(image, ["sh", "-c", "exit 3"], id="demo", check=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="containerd's socket; default: as connect() finds it")
    parser.add_argument("--image", default="docker.io/library/alpine:3.20")
    parser.add_argument("--demo", action="store_true", help="run a container, show its events, and end")
    arguments = parser.parse_args()
    anyio.run(lambda: main(arguments.address, arguments.image, is_demo=arguments.demo))
