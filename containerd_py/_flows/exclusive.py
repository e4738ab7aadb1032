"""One at a time: pulls of this program that need the same layer wait for each other instead of polling the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

import anyio
import attrs

from containerd_py._transport.connection import Connection


@attrs.define
class _Turn:
    """The lock of one key, and how many hold it or wait for it."""

    lock: anyio.Lock = attrs.field(factory=anyio.Lock)
    users: int = 0


_turns: WeakKeyDictionary[Connection, dict[Hashable, _Turn]] = WeakKeyDictionary()


@asynccontextmanager
async def exclusively(connection: Connection, *key: Hashable) -> AsyncIterator[None]:
    """Hold a key of a connection for as long as the block lasts; whoever else wants it waits.

    A courtesy among the flows of one client, to save work: what they do must be safe next to other clients anyway.
    """
    turns = _turns.setdefault(connection, {})
    turn = turns.setdefault(key, _Turn())
    turn.users += 1
    try:
        async with turn.lock:
            yield
    finally:
        turn.users -= 1
        if not turn.users:
            del turns[key]
