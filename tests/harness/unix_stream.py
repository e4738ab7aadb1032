"""Unix sockets for the harness, on the event loop's own socket calls.

anyio's unix streams (4.16) report an invalid state to the loop when a receive is cancelled in the turn in which its
socket becomes readable, which is what a harness that cuts connections does all day.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.abc


class UnixStream:
    """A connected socket; errors are anyio's."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw
        self._loop = asyncio.get_running_loop()

    async def receive(self, max_bytes: int) -> bytes:
        try:
            data = await self._loop.sock_recv(self._raw, max_bytes)
        except OSError as error:
            raise anyio.BrokenResourceError from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, data: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._raw, data)
        except OSError as error:
            raise anyio.BrokenResourceError from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._raw.close()


async def connect_unix(path: str) -> UnixStream:
    """Connect to the socket at ``path``; raises OSError."""
    raw = socket.socket(socket.AF_UNIX)
    raw.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(raw, path)
    except BaseException:
        raw.close()
        raise
    return UnixStream(raw)


async def serve_unix(
    path: Path,
    handler: Callable[[UnixStream], Coroutine[Any, Any, None]],
    *,
    group: anyio.abc.TaskGroup,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Accept connections at ``path`` for ever, each handled by a task in ``group``."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.setblocking(False)
        listener.bind(str(path))
        listener.listen(1024)
        task_status.started()
        while True:
            raw, _ = await loop.sock_accept(listener)
            group.start_soon(handler, UnixStream(raw))
