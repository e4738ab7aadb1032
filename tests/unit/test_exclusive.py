"""Flows that want the same thing take turns, others do not wait, and nothing is remembered."""

from __future__ import annotations

import anyio

from containerd_py._flows import exclusive


class Connection:
    """Stands for a connection: only its identity matters."""


async def test_one_at_a_time_for_each_key() -> None:
    """The same key is held by one flow at a time; other keys and other connections are free."""
    here, there = Connection(), Connection()
    inside: list[tuple[object, ...]] = []
    most = 0

    async def use(connection: Connection, key: str) -> None:
        nonlocal most
        async with exclusive.exclusively(connection, key):
            inside.append((connection, key))
            assert len(set(inside)) == len(inside)
            most = max(most, len(inside))
            await anyio.sleep(0.01)
            inside.remove((connection, key))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            for connection in (here, there):
                for key in ("a", "b"):
                    group.start_soon(use, connection, key)
    assert most == 4
    assert not exclusive._turns[here]


async def test_a_cancelled_waiter_leaves_no_trace() -> None:
    """Who gives up waiting is not waited for, and whoever fails lets the next one in."""
    connection = Connection()
    entered = []

    async def give_up() -> None:
        with anyio.move_on_after(0.01):
            async with exclusive.exclusively(connection, "a"):
                entered.append("two at once")

    async with exclusive.exclusively(connection, "a"), anyio.create_task_group() as group:
        group.start_soon(give_up)
    assert entered == []
    with anyio.fail_after(1):
        async with exclusive.exclusively(connection, "a"):
            pass
    assert not exclusive._turns[connection]
