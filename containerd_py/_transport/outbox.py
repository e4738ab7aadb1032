"""What leaves in one turn of the event loop leaves together: one system call, and one awakening of the daemon.

A unary call is three small writes (headers, message, the answer to the daemon's ping); calls made at once are many.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any, Final

FULL: Final = 64 * 1024  # bytes that are handed on at once: asyncio's own mark for telling writers to wait


class Outbox(asyncio.Transport):
    """Stands before a transport and collects what is written to it until the turn is over."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._socket = transport.get_extra_info("socket")
        self._loop = asyncio.get_running_loop()
        self._parts: list[Any] = []
        self._size = 0

    def write(self, data: Any) -> None:
        """Send bytes when the turn is over, or now if there are many."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size >= FULL:
            self.flush()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Send several pieces, and what was waiting before them, now; what the socket takes at once is not copied."""
        self._parts.extend(list_of_data)
        if (
            self._socket is not None
            and not self._transport.is_closing()
            and not self._transport.get_write_buffer_size()
        ):
            self._parts = _unsent(self._parts, self._socket.fileno())
        self.flush()

    def flush(self) -> None:
        """Hand everything on."""
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():
            # Not `writelines`: up to Python 3.12.8 and 3.13.1 it never tells writers to wait (CVE-2024-12254).
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        """Hand everything on and close; what a peer that does not read leaves unsent is dropped."""
        self.flush()
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport knows of its socket."""
        return self._transport.get_extra_info(name, default)


def _unsent(parts: list[Any], descriptor: int) -> list[Any]:
    """Send of the pieces what a socket takes, and return the rest."""
    try:
        sent = os.writev(descriptor, parts)
    except OSError:  # it is full; or dead, which the transport finds out as well
        return parts
    for index, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *parts[index + 1 :]]
        sent -= len(part)
    return []
