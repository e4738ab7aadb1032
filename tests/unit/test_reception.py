"""DATA frames that go past h2 leave everything as h2 would, wherever the bytes are cut; the rest goes through it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import anyio
import grpclib.client
import pytest
from grpclib.config import Configuration
from grpclib.protocol import Buffer
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from hyperframe.frame import DataFrame, HeadersFrame

from containerd_py._transport.http2 import Http2Protocol, Http2Stream
from containerd_py._transport.reception import CREDIT, StreamBuffer
from tests.unit.test_outbox import FakeTransport

WINDOW = 64 * 1024
REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "x"), ("te", "trailers")]
ANSWER = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS = [("grpc-status", "0")]
PING = b"\0\0\x08\x06\0\0\0\0\0pingpong"


class Ends:
    """A client, and a server of h2's that it talks to; what the client sends is in `transport.sent`."""

    def __init__(self, *, direct: bool, streams: int, window: int = WINDOW) -> None:
        config = Configuration(http2_connection_window_size=2**20, http2_stream_window_size=window)
        self.transport = FakeTransport()
        client = H2Configuration(client_side=True, header_encoding="ascii")
        self.protocol = Http2Protocol(grpclib.client.Handler(), config, client)
        self.protocol.connection_made(self.transport)
        if not direct:
            self.protocol.data_received = super(Http2Protocol, self.protocol).data_received
        self.server = H2Connection(H2Configuration(client_side=False))
        self.server.initiate_connection()
        self.streams: list[Http2Stream] = []
        self._count = streams
        self._seen = 0

    async def begin(self) -> None:
        for _ in range(self._count):
            stream = self.protocol.connection.create_stream()
            await stream.send_request(REQUEST, end_stream=True, _processor=self.protocol.processor)
            self.streams.append(stream)
        await self.exchange()

    async def exchange(self) -> None:
        """Let the server read what the client sent, and the client the server's settings."""
        for _ in range(3):
            await asyncio.sleep(0)
            sent = b"".join(self.transport.sent)
            self.server.receive_data(sent[self._seen :])
            self._seen = len(sent)
            if data := self.server.data_to_send():
                self.protocol.data_received(data)

    @property
    def windows(self) -> list[int]:
        """What the client would let the server send."""
        http2 = self.protocol.connection._connection
        own = [http2.streams[s.id]._inbound_window_manager.current_window_size for s in self.streams]
        return [http2._inbound_flow_control_window_manager.current_window_size, *own]


def script(chance: random.Random, ends: Ends) -> bytes:
    """Have the server answer all calls, in frames of any size and in any order, with whatever else it may say."""
    ids = [stream.id for stream in ends.streams]
    rooms = dict.fromkeys(ids, 50_000)
    out = b""
    for number in ids:
        ends.server.send_headers(number, ANSWER)
    out += ends.server.data_to_send()
    for _ in range(chance.randrange(5, 40)):
        number = chance.choice(ids)
        size = min(max(0, rooms[number]), chance.choice([0, 1, 9, 100, 5000, 16376]))
        padding = chance.choice([None, None, None, 7])
        ends.server.send_data(number, chance.randbytes(size), pad_length=padding)
        rooms[number] -= size + 8
        out += ends.server.data_to_send()
        if not chance.randrange(5):
            out += PING
    for number in ids:
        ends.server.send_headers(number, TRAILERS, end_stream=True)
    return out + ends.server.data_to_send()


def cut(chance: random.Random, data: bytes) -> Iterator[bytes]:
    while data:
        size = chance.choice([1, 3, 8, 9, 10, 1000, 20_000, len(data)])
        yield data[:size]
        data = data[size:]


async def outcome(seed: int, *, direct: bool) -> tuple[object, ...]:
    ends = Ends(direct=direct, streams=3)
    await ends.begin()
    chance = random.Random(seed)
    for piece in cut(chance, script(chance, ends)):
        ends.protocol.data_received(piece)
    unread = ends.windows
    got = []
    for stream in ends.streams:
        data = b""
        while piece := await stream.recv_data(1):
            data += piece + stream.buffer.take(stream.buffer._size)
        got.append((data, stream.headers, stream.trailers, stream.data_received))
    await ends.exchange()
    return got, unread, sum(PING[9:] in sent for sent in ends.transport.sent), ends.protocol.connection.data_received


@pytest.mark.parametrize("seed", range(60))
async def test_as_through_h2(seed: int):
    """Bytes, headers, windows and answers to pings are those of the way through h2."""
    assert await outcome(seed, direct=True) == await outcome(seed, direct=False)


async def test_data_goes_past_h2(monkeypatch: pytest.MonkeyPatch):
    """If h2's accounts are no longer where we look for them this fails, and not merely the speed."""
    ends = Ends(direct=True, streams=1)
    await ends.begin()
    number = ends.streams[0].id
    ends.server.send_headers(number, ANSWER)
    ends.protocol.data_received(ends.server.data_to_send())
    seen: list[int] = []
    monkeypatch.setattr(H2Connection, "_receive_data_frame", lambda *_: seen.append(1) or ([], []))
    before = ends.windows
    for _ in range(4):
        ends.server.send_data(number, bytes(10_000))
    ends.protocol.data_received(ends.server.data_to_send())
    assert seen == []
    assert [then - now for then, now in zip(before, ends.windows, strict=True)] == [40_000, 40_000]
    assert await ends.streams[0].recv_data(40_000) == bytes(40_000)


def frame(kind: type[DataFrame | HeadersFrame], number: int, data: bytes, *flags: str) -> bytes:
    made = kind(number)
    made.data = data
    for flag in flags:
        made.flags.add(flag)
    return made.serialize()


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(frame(DataFrame, 7, b"x"), id="on a stream nobody began"),
        pytest.param(b"\0\0\1\0\0\0\0\0\0x", id="on no stream"),
        pytest.param(frame(DataFrame, 1, bytes(16384)) * 5, id="beyond the window"),
        pytest.param(b"\0\xff\xff\0\0\0\0\0\1" + bytes(65535), id="beyond a frame's size"),
        pytest.param(frame(HeadersFrame, 1, b"\x88") + frame(DataFrame, 1, b"x"), id="in the midst of headers"),
    ],
)
async def test_what_is_wrong_ends_the_connection(wrong: bytes):
    """Data that no server may send is found out as h2 finds it out."""
    ends = [Ends(direct=direct, streams=1) for direct in (True, False)]
    for one in ends:
        await one.begin()
        one.protocol.data_received(wrong)
    assert [bool(one.transport.ended) for one in ends] == [True, True]


async def test_data_of_a_call_that_was_left():
    """Its window is given back at once, also when it is left in the middle of a frame; the others' data is theirs."""
    ends = Ends(direct=True, streams=2, window=2**20)
    await ends.begin()
    left, other = (stream.id for stream in ends.streams)
    for number in (left, other):
        ends.server.send_headers(number, ANSWER)
    ends.protocol.data_received(ends.server.data_to_send())
    ends.server.send_data(left, bytes(16384))
    data = ends.server.data_to_send()
    ends.protocol.data_received(data[:5000])
    del ends.protocol.processor.streams[left]
    ends.protocol.connection.ack(left, ends.streams[0].buffer.unacked_size())
    ends.server.send_data(other, b"mine")
    ends.protocol.data_received(data[5000:] + ends.server.data_to_send())
    assert await ends.streams[1].recv_data(4) == b"mine"
    assert ends.protocol.connection._connection._inbound_flow_control_window_manager._bytes_processed == 16384


# ── the buffer ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_buffer_is_grpclibs():
    """It has every method of the buffer it stands for."""
    assert {name for name in vars(Buffer) if not name.startswith("_")} <= set(vars(StreamBuffer))


async def test_window_for_a_message_larger_than_it():
    """Who waits for more than the window gets it given back meanwhile; who reads nothing keeps it."""
    given: list[int] = []
    buffer = StreamBuffer(given.append)
    buffer.add(bytes(2 * CREDIT), 2 * CREDIT)
    assert given == []
    async with anyio.create_task_group() as group:
        group.start_soon(buffer.read, 4 * CREDIT)
        await asyncio.sleep(0)
        assert given == [2 * CREDIT]
        buffer.add(bytes(CREDIT), CREDIT)
        assert given == [2 * CREDIT, CREDIT]
        buffer.add(bytes(CREDIT), CREDIT)
    assert sum(given) + buffer.unacked_size() == 4 * CREDIT


async def test_an_end_within_a_message():
    """A stream that ends within what is read raises; a reader that was cancelled leaves everything as it was."""
    buffer = StreamBuffer(lambda _: None)
    buffer.add(b"abc", 3)
    with anyio.move_on_after(0):
        await buffer.read(4)
    assert await buffer.read(2) == b"ab"
    buffer.eof()
    with pytest.raises(ProtocolError, match="early"):
        await buffer.read(2)
    assert await buffer.read(1) == b"c"
    assert await buffer.read(1) == b""


# ── the connection's window ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sizes", [[1], [1000, 2], [0], [2**31 - 1], [2**31 - 1 - 65535, 1], [2**31 + 5]])
async def test_windows_open_as_through_h2(sizes: list[int]):
    """More of the connection's window is there at once, and wakes who waits; too much of it ends the connection."""
    seen = []
    for direct in (True, False):
        ends = Ends(direct=direct, streams=2)
        await ends.begin()
        for stream in ends.streams:
            stream.window_updated.clear()
        for size in sizes:
            ends.protocol.data_received(b"\0\0\4\x08\0\0\0\0\0" + size.to_bytes(4, "big"))
        http2 = ends.protocol.connection._connection
        woken = [stream.window_updated.is_set() for stream in ends.streams]
        ended = bool(ends.transport.ended)
        seen.append((ended, None if ended else (http2.outbound_flow_control_window, woken)))
    assert seen[0] == seen[1]
