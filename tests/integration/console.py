"""Programs driven through a pseudo-terminal of their own, as a user at a console does."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import termios
import textwrap
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio

PROGRAM = """
import fcntl, os, sys, termios
import anyio
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from containerd_py import *

async def main():
    async with connect({address!r}, namespace={namespace!r}) as client:
        image = await client.load_image({image!r})
{body}

anyio.run(main)
"""


class ConsoleProgram:
    """A program on a pseudo-terminal, and what it has shown so far."""

    def __init__(self, master: int, slave: int, process: anyio.abc.Process) -> None:
        self._master, self._slave, self._process = master, slave, process
        self.shown = b""

    @property
    def modes(self) -> list[object]:
        """The terminal's modes, comparable."""
        return termios.tcgetattr(self._slave)

    @property
    def has_console(self) -> bool:
        return self._master >= 0

    def set_size(self, width: int, height: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def hang_up(self) -> None:
        os.close(self._master)
        self._master = -1

    async def see(self, text: bytes, *, within: float = 20) -> None:
        """Wait until the text is shown, after what was seen before."""
        try:
            with anyio.fail_after(within):
                while text not in self.shown:
                    await anyio.wait_readable(self._master)
                    self.shown += os.read(self._master, 65536)
        except TimeoutError:
            raise AssertionError(f"{text!r} was not shown, but {self.shown[-2000:]!r}") from None
        self.shown = self.shown.partition(text)[2]

    async def end(self, *, within: float = 20) -> int:
        """Wait for the program's end and return its exit code."""
        with anyio.fail_after(within):
            return await self._process.wait()


@asynccontextmanager
async def program_on_console(
    body: str, names: Mapping[str, str], *, width: int = 80, height: int = 24
) -> AsyncIterator[ConsoleProgram]:
    """Start a program whose body runs with `client` and `image`; it is killed on the way out."""
    code = PROGRAM.format(body=textwrap.indent(textwrap.dedent(body), " " * 8), **names)
    program: ConsoleProgram | None = None
    master, slave = os.openpty()
    try:
        command = [sys.executable, "-W", "error", "-c", code]
        process = await anyio.open_process(
            command, stdin=slave, stdout=slave, stderr=subprocess.STDOUT, start_new_session=True
        )
        async with process:
            program = ConsoleProgram(master, slave, process)
            program.set_size(width, height)
            try:
                yield program
            finally:
                if process.returncode is None:
                    process.kill()
    finally:
        if program is None or program.has_console:
            os.close(master)
        os.close(slave)
