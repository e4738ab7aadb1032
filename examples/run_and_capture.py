"""Run commands in new containers: output, exit code, input, limits. Nothing stays."""

from __future__ import annotations

import argparse

import anyio

from containerd_py import ProcessExitError, connect
from containerd_py.oci.spec_options import with_memory_limit, with_pids_limit


async def main(address: str | None, ref: str) -> None:
    async with connect(address) as client:
        image = await client.ensure_image(ref)
        limits = [with_memory_limit(64 * 2**20), with_pids_limit(32)]

        completed = await client.run(image, ["uname", "-a"], spec_options=limits)
        print(completed.stdout.decode(), end="")

        counted = await client.run(image, ["wc", "-w"], input=b"how many words are these", user="nobody")
        print("words:", int(counted.stdout))

        try:
            await client.run(image, ["sh", "-c", "echo something is wrong >&2; exit 3"], spec_options=limits)
        except ProcessExitError as error:
            print(f"exit code {error.exit_code}, stderr {error.stderr!r}")

        with anyio.move_on_after(1) as scope:
            await client.run(image, ["sleep", "1000"])
        print("took too long, gone:", scope.cancelled_caught, await client.list_containers())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="containerd's socket; default: as connect() finds it")
    parser.add_argument("--image", default="docker.io/library/alpine:3.20")
    arguments = parser.parse_args()
    anyio.run(main, arguments.address, arguments.image)
