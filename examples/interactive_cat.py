"""Talk to a running process: what is typed here goes through a container's `cat` and comes back."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

import anyio
from anyio.abc import ByteReceiveStream

from containerd_py import connect


async def typed() -> AsyncIterator[bytes]:
    while True:
        with suppress(PermissionError):  # a file, or /dev/null: always readable, and not to be waited for
            await anyio.wait_readable(sys.stdin)
        line = os.read(sys.stdin.fileno(), 4096)
        if not line:
            return
        yield line


async def show(output: ByteReceiveStream) -> None:
    async for chunk in output:
        print("cat:", chunk.decode(errors="replace"), end="", flush=True)


async def main(address: str | None, image: str) -> None:
    async with connect(address) as client, client.open_run(image, ["cat"], stdin=True) as task:
        assert task.stdin is not None
        assert task.stdout is not None
        async with anyio.create_task_group() as group:
            group.start_soon(show, task.stdout)
            async for line in typed():
                await task.stdin.send(line)
            await task.close_stdin()  # the process sees the end of its input, and ends
        print("exit code", (await task.wait()).code)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="containerd's socket; default: as connect() finds it")
    parser.add_argument("--image", default="docker.io/library/alpine:3.20")
    arguments = parser.parse_args()
    anyio.run(main, arguments.address, arguments.image)
