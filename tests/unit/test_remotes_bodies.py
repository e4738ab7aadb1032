"""Bodies that are received into two buffers: every byte once and in order, however sender and reader take turns."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from containerd_py.remotes.bodies import BUFFER_SIZE, BUFFERS, Body

DATA = random.Random(5).randbytes(4 * BUFFER_SIZE + 4711)


class Former(asyncio.Protocol):
    """Who had the connection before."""

    def __init__(self) -> None:
        self.lost: list[Exception | None] = []
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


@asynccontextmanager
async def open_body(rest: int) -> AsyncIterator[tuple[Body, asyncio.Transport, Former, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, former = await asyncio.get_running_loop().create_connection(Former, sock=ours)
    try:
        yield Body(transport, rest), transport, former, theirs
    finally:
        transport.abort()
        theirs.close()
        await asyncio.sleep(0)


async def send(theirs: socket.socket, data: bytes, piece: int = 65536) -> None:
    for start in range(0, len(data), piece):
        await asyncio.get_running_loop().sock_sendall(theirs, data[start : start + piece])


@pytest.mark.parametrize("pause", [0, 3], ids=["a quick reader", "a slow reader"])
async def test_every_byte_once(pause: int):
    """What is lent is what was sent, in order; it may be used until the next is asked for."""
    async with open_body(len(DATA)) as (body, _, _, theirs), anyio.create_task_group() as group:
        group.start_soon(send, theirs, DATA)
        got = b""
        with anyio.fail_after(10):
            while view := await body.take():
                for _ in range(pause):
                    await anyio.sleep(0.001)  # more arrives meanwhile
                got += view
    assert got == DATA


async def test_a_reader_that_stops_stops_the_sender():
    """No more is received than the buffers hold."""
    async with open_body(len(DATA)) as (body, transport, _, theirs), anyio.create_task_group() as group:
        group.start_soon(send, theirs, DATA)
        await body.take()
        with anyio.fail_after(5):
            while transport.is_reading():
                await anyio.sleep(0.001)
        assert body._rest >= len(DATA) - (BUFFERS + 1) * BUFFER_SIZE
        group.cancel_scope.cancel()


async def test_what_follows_is_left():
    """Bytes beyond the body are not taken: they are for whoever had the connection."""
    async with open_body(100) as (body, transport, former, theirs):
        await send(theirs, DATA[:150])
        got = b""
        while view := await body.take():
            got += view
        body.give_back()
        transport.resume_reading()
        with anyio.fail_after(5):
            while not former.received:
                await anyio.sleep(0.001)
    assert got == DATA[:100]
    assert former.received == DATA[100:150]


async def test_an_early_end():
    """A connection that ends too early says so once its bytes have been taken, and tells whoever had it before."""
    async with open_body(200) as (body, _, former, theirs):
        await send(theirs, DATA[:150])
        theirs.close()
        got = b""
        with anyio.fail_after(5):
            with pytest.raises(EOFError):
                while True:
                    got += await body.take()
            while not former.lost:
                await anyio.sleep(0.001)
    assert got == DATA[:150]
