"""Another program at work on the same daemon: creates or deletes a named container, and may be killed on the way.

    python -m tests.integration.other_program ADDRESS NAMESPACE create IMAGE NAME [MODULE:FUNCTION:before|after]
    python -m tests.integration.other_program ADDRESS NAMESPACE delete ID "" [MODULE:FUNCTION:before|after]

Says "ready", waits for a line, and says "done ID" or "refused MESSAGE".
"""

import importlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import reduce

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from containerd_py import connect
from containerd_py.errors import AlreadyExistsError

SLEEP = ["/bin/sleep", "1000"]


class OtherProgram:
    """A process that waits for its turn."""

    def __init__(self, process: anyio.abc.Process) -> None:
        self._process = process
        self._lines = BufferedByteReceiveStream(process.stdout)

    async def ready(self) -> None:
        """Wait until it is connected."""
        assert await self._lines.receive_until(b"\n", 100) == b"ready"

    async def go(self) -> str:
        """Let it do its work, and return what it says; nothing where it was killed."""
        await self._process.stdin.send(b"\n")
        try:
            return (await self._lines.receive_until(b"\n", 10_000)).decode()
        except anyio.IncompleteRead:
            assert await self._process.wait() == -signal.SIGKILL
            return ""


@asynccontextmanager
async def open_other_program(client, action: str, subject: str, name: str = "", step: str = "") -> AsyncIterator:
    """Lend another program that is ready."""
    address = client.services.connection.address
    command = [sys.executable, "-m", "tests.integration.other_program", address, client.namespace]
    arguments = [action, subject, name, step]
    async with await anyio.open_process([*command, *arguments], stderr=None) as process:
        program = OtherProgram(process)
        await program.ready()
        yield program


def die_at(step: str) -> None:
    """Make a function of the package end this program, before it or after it has been awaited."""
    module, path, when = step.split(":")
    *holders, name = path.split(".")
    holder = reduce(getattr, holders, importlib.import_module(module))
    original = getattr(holder, name)

    async def deadly(*args, **kwargs):
        if when == "after":
            await original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(holder, name, deadly)


async def main() -> None:
    """Do what the command line says."""
    address, namespace, action, subject, name, step = sys.argv[1:]
    if step:
        die_at(step)
    async with connect(address, namespace=namespace) as client:
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            if action == "create":
                image = await client.load_image(subject)
                done = (await client.create_container(image=image, args=SLEEP, name=name)).id
            else:
                await (await client.load_container(subject)).delete()
                done = subject
            print("done", done, flush=True)
        except AlreadyExistsError as error:
            print("refused", error, flush=True)


if __name__ == "__main__":
    anyio.run(main)
