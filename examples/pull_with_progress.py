"""Pull an image with a bar for each layer, giving up after a minute."""

from __future__ import annotations

import argparse

import anyio

from containerd_py import connect
from containerd_py.console import PullBars


async def main(address: str | None, image: str) -> None:
    async with connect(address) as client:
        with anyio.fail_after(60), PullBars() as bars:
            async with client.open_pull(image) as pull:
                await bars.follow(pull)
        usage = await pull.image.usage()
        print(f"{pull.image.name}: {usage.content} bytes packed, {usage.snapshots} bytes unpacked")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="containerd's socket; default: as connect() finds it")
    parser.add_argument("--image", default="docker.io/library/alpine:3.20")
    arguments = parser.parse_args()
    anyio.run(main, arguments.address, arguments.image)
