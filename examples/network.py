"""Two containers on a network of their own: one serves, the other finds it by name; its port is published, too."""

from __future__ import annotations

import argparse

import anyio

from containerd_py import connect, deleting

NETWORK = "containerd-py-example"
SERVE = ["sh", "-c", "while :; do echo hello from $(hostname) | nc -l -p 80; done"]
ASK = ["sh", "-c", "until nc greeter 80 </dev/null 2>/dev/null; do sleep 0.1; done"]


async def main(address: str | None, ref: str) -> None:
    async with connect(address) as client:
        image = await client.ensure_image(ref)
        async with deleting(await client.networks.create(NETWORK)) as network:
            container = await client.create_container(
                image=image, args=SERVE, hostname="greeter", network=network, ports=["127.0.0.1::80"]
            )
            async with deleting(container), deleting(await container.create_task()) as task:
                await task.start()
                (there,) = await container.networks()
                print(f"greeter is {there.addresses[0]}, reached at {there.ports[0]}")
                asked = await client.run(image, ASK, network=network)
                print(asked.stdout.decode().strip())
        print("left:", [str(left) for left in await client.networks.list() if str(left) == NETWORK])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="containerd's socket; default: as connect() finds it")
    parser.add_argument("--image", default="docker.io/library/alpine:3.20")
    arguments = parser.parse_args()
    anyio.run(main, arguments.address, arguments.image)
