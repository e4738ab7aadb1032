"""What is written in one turn of the loop leaves together, in order, and never after the end."""

from __future__ import annotations

import asyncio

import pytest

from containerd_py._transport.outbox import FULL, Outbox


class FakeTransport(asyncio.Transport):
    """Notes what leaves it, and pretends that some of it could not be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.unsent = 0
        self.ended = ""

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.sent.append(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": "daemon"}.get(name, default)


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
async def outbox(transport: FakeTransport) -> Outbox:
    return Outbox(transport)


async def test_one_turn_is_one_write(outbox: Outbox, transport: FakeTransport):
    """Small pieces wait for the end of the turn and leave as one, in order; the next turn is another."""
    for piece in (b"a", b"b", b"c"):
        outbox.write(piece)
    assert transport.sent == []
    await asyncio.sleep(0)
    assert transport.sent == [b"abc"]
    outbox.write(b"d")
    await asyncio.sleep(0)
    assert transport.sent == [b"abc", b"d"]
    await asyncio.sleep(0)
    assert len(transport.sent) == 2


async def test_several_tasks_share_a_write(outbox: Outbox, transport: FakeTransport):
    """What tasks that run in the same turn write leaves together."""
    loop = asyncio.get_running_loop()
    for piece in (b"a", b"b"):
        loop.call_soon(outbox.write, piece)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert transport.sent == [b"ab"]


async def test_much_leaves_at_once(outbox: Outbox, transport: FakeTransport):
    """As much as asyncio would let wait is handed on, so that writers get to wait; so are bursts, after the rest."""
    outbox.write(b"a")
    outbox.write(bytes(FULL))
    assert [len(sent) for sent in transport.sent] == [FULL + 1]
    outbox.write(b"b")
    outbox.writelines([b"c", memoryview(b"d")])
    assert transport.sent[1:] == [b"bcd"]
    await asyncio.sleep(0)
    assert len(transport.sent) == 2


async def test_closing_hands_everything_on(outbox: Outbox, transport: FakeTransport):
    """What was written before the end is sent; what is written after it is not."""
    outbox.write(b"last")
    outbox.close()
    assert (transport.sent, transport.ended) == ([b"last"], "closed")
    assert outbox.is_closing()
    outbox.write(b"too late")
    await asyncio.sleep(0)
    assert transport.sent == [b"last"]


async def test_a_peer_that_does_not_read_keeps_nothing_open(outbox: Outbox, transport: FakeTransport):
    """With bytes that nobody takes the connection is aborted: a graceful close would wait for them for ever."""
    transport.unsent = 1
    outbox.close()
    assert transport.ended == "aborted"


async def test_a_lost_connection_takes_nothing(outbox: Outbox, transport: FakeTransport):
    """What waited when the connection was lost is dropped in silence."""
    outbox.write(b"a")
    transport.ended = "lost"
    await asyncio.sleep(0)
    assert transport.sent == []


async def test_the_socket_stays_known(outbox: Outbox):
    """Questions about the socket are passed on."""
    assert outbox.get_extra_info("peername") == "daemon"
    assert outbox.get_extra_info("none", 7) == 7
