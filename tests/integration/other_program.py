"""Another program at work on the same daemon: creates or deletes a named container, or lets one live; may be killed.

    python -m tests.integration.other_program ADDRESS NAMESPACE create IMAGE NAME [MODULE:FUNCTION:before|after]
    python -m tests.integration.other_program ADDRESS NAMESPACE delete ID "" [MODULE:FUNCTION:before|after]

    python -m tests.integration.other_program ADDRESS NAMESPACE live IMAGE NAME ""
    python -m tests.integration.other_program ADDRESS NAMESPACE stream IMAGE FIFOS [MODULE:FUNCTION:before|after]
    python -m tests.integration.other_program ADDRESS NAMESPACE abandon IMAGE FIFOS ""
    python -m tests.integration.other_program ADDRESS NAMESPACE wait ID "" ""
    python -m tests.integration.other_program ADDRESS NAMESPACE stuck IMAGE FIFOS ""

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

from containerd_py import IOConfig, connect, json_file_log, open_fifos
from containerd_py.errors import AlreadyExistsError

SLEEP = ["/bin/sleep", "1000"]
NUMBERS = 300_000  # as lines: more than a FIFO holds


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

    async def begin(self) -> None:
        """Let it begin its work."""
        await self._process.stdin.send(b"\n")

    async def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        await self._process.wait()

    async def kill_after(self, seconds: float) -> None:
        """Let it begin its work, and kill it some time later."""
        await self.begin()
        await anyio.sleep(seconds)
        await self.kill()


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


async def live(client, image: str, name: str) -> str:
    """Let a container with a name, a volume and a log begin and end."""
    container = await client.create_container(
        image=await client.load_image(image), args=SLEEP, name=name, volumes=["/own"]
    )
    task = await container.create_task(io=json_file_log())
    await task.start()
    await task.run_exec(["/bin/true"])
    await task.stop(grace=0)
    await container.delete()
    return container.id


async def stream(client, image: str, directory: str) -> str:
    """Let a container with FIFOs in the directory begin, talk, run another process and be stopped."""
    container = await client.create_container(image=await client.load_image(image), args=["/bin/cat"])
    async with open_fifos(directory=directory) as io, open_fifos(stdin=False, directory=directory) as other:
        task = await container.create_task(io=io.config)
        await task.start()
        await task.stdin.send(b"said\n")
        await task.stdout.receive()
        async with task.open_exec(["/bin/echo", "said"], io=other.config) as process:
            await process.wait()
        await task.stop(grace=0)
    await container.delete()
    return container.id


async def abandon(client, image: str, directory: str) -> str:
    """Start a container that writes much, read a part of it, say how many bytes, and end without another step."""
    arguments = ["/bin/sh", "-c", f"seq 1 {NUMBERS}; read line; echo $line; exit 4"]
    container = await client.create_container("abandoned", image=await client.load_image(image), args=arguments)
    async with open_fifos(directory=directory) as io:
        task = await container.create_task(io=io.config)
        await task.start()
        taken = 0
        while taken < 100_000:
            taken += len(await task.stdout.receive())
        print("done", taken, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return ""


async def stuck(client, image: str, directory: str) -> str:
    """Create a task whose output nobody reads: its shim waits for a reader."""
    paths = [f"{directory}/{name}" for name in ("stdout", "stderr")]
    for path in paths:
        os.mkfifo(path)
    container = await client.create_container("stuck", image=await client.load_image(image), args=SLEEP)
    await container.create_task(io=IOConfig(stdout=paths[0], stderr=paths[1]))
    return container.id


async def wait(client, container_id: str, name: str) -> int:
    """Wait for a task's end as somebody who did not start it."""
    return (await (await (await client.load_container(container_id)).load_task()).wait()).code


async def create(client, image: str, name: str) -> str:
    """Create a container with a name."""
    return (await client.create_container(image=await client.load_image(image), args=SLEEP, name=name)).id


async def delete(client, container_id: str, name: str) -> str:
    """Delete a container."""
    await (await client.load_container(container_id)).delete()
    return container_id


ACTIONS = {
    "create": create,
    "delete": delete,
    "live": live,
    "stream": stream,
    "abandon": abandon,
    "stuck": stuck,
    "wait": wait,
}
ENDLESS = {"live", "stream"}


async def main() -> None:
    """Do what the command line says."""
    address, namespace, action, subject, name, step = sys.argv[1:]
    if step:
        die_at(step)
    async with connect(address, namespace=namespace) as client:
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            done = await ACTIONS[action](client, subject, name)
            while action in ENDLESS:
                done = await ACTIONS[action](client, subject, name)
            print("done", done, flush=True)
        except AlreadyExistsError as error:
            print("refused", error, flush=True)


if __name__ == "__main__":
    anyio.run(main)
