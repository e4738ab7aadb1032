"""Lists of many records: whole, the same both ways, and never at the cost of everybody else on the event loop."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from containerd_py import Client, ContainerRecord, Runtime, TypedValue, for_each
from containerd_py._transport.message_codec import PIECE
from containerd_py.typeurl import RUNTIME_SPEC

COUNT = 120
SPEC = TypedValue(type_url=RUNTIME_SPEC, value=b'{"annotations":{"a":"' + b"x" * 6000 + b'"}}')


@pytest.fixture
async def many(client: Client):
    """Put more containers into the namespace than are read at once."""

    async def make(number: int) -> None:
        record = ContainerRecord(
            id=f"c{number}", runtime=Runtime(name="io.containerd.runc.v2"), spec=SPEC, labels={"n": f"{number}"}
        )
        await client.containers.create(record)

    await for_each(range(COUNT), make, limit=10)
    yield COUNT
    await for_each(range(COUNT), lambda number: client.containers.delete(f"c{number}"), limit=10)


class Others:
    """Everybody else on the loop: counts the turns they get."""

    turns = 0

    async def run(self) -> None:
        while True:
            self.turns += 1
            await checkpoint()


@pytest.mark.lines("2.1")
async def test_a_long_list_is_whole_and_leaves_turns_to_others(client: Client, many: int):
    """In one message or as a stream the records are the same, and others run while they are made."""
    others = Others()
    async with anyio.create_task_group() as group:
        group.start_soon(others.run)
        listed = await client.containers.list()
        async with client.containers.open_list() as found:
            first = await anext(found)
            before = others.turns
            streamed = [first, *[record async for record in found]]
            turns = others.turns - before
        group.cancel_scope.cancel()
    assert {record.id for record in listed} == {f"c{number}" for number in range(many)}
    assert all(record.spec == SPEC and record.labels == {"n": record.id[1:]} for record in listed)
    assert sorted(streamed, key=lambda record: record.id) == sorted(listed, key=lambda record: record.id)
    assert turns >= many * len(SPEC.value) // PIECE - 2 > 2


@pytest.mark.lines("2.1")
async def test_a_long_list_can_be_given_up_anywhere(client: Client, many: int):
    """Cancelled after any number of the loop's turns, it raises at once, and the client goes on."""
    assert many * len(SPEC.value) > 3 * PIECE
    completed = False
    turns = 0
    while not completed:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_after, turns, scope)
                completed = len(await client.containers.list()) == many
                group.cancel_scope.cancel()
        turns += 1
    assert turns > many * len(SPEC.value) // PIECE
    assert await client.containers.get("c0")


@pytest.mark.lines("2.1")
async def test_a_stream_may_be_left_after_the_first(client: Client, many: int):
    """What was not read is not sent on, nothing is left to be finished later, and the client goes on."""
    for _ in range(3):
        async with client.containers.open_list() as found:
            assert (await anext(found)).spec == SPEC
    assert len(await client.containers.list()) == many


async def cancel_after(turns: int, scope: anyio.CancelScope) -> None:
    for _ in range(turns):
        await checkpoint()
    scope.cancel()
