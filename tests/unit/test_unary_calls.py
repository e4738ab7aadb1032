"""Unary calls past h2 come to what they come to through h2, whatever is answered and wherever the bytes are cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from grpclib.const import Cardinality
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from hyperframe.frame import ContinuationFrame, HeadersFrame

from containerd_py import errors
from containerd_py._generated.containerd.services.leases.v1 import ListResourcesRequest
from containerd_py._generated.containerd.services.version.v1 import VersionResponse
from containerd_py._generated.google.protobuf import Empty
from containerd_py._transport.channel import Channel
from containerd_py._transport.entries import EntryReader
from containerd_py._transport.message_codec import PIECE
from containerd_py._transport.unary_streams import CREDIT, UnaryStreams

ANSWER = [(":status", "200"), ("content-type", "application/grpc")]
METADATA = {"containerd-namespace": "test"}
Answer = Callable[["Peer", int], bytes]
Ask = Callable[[Channel], Awaitable[str]]


def prefixed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def reply(revision: str = "x") -> bytes:
    return prefixed(bytes(VersionResponse(version="2.1", revision=revision)))


class Peer:
    """A server of h2's own on a unix socket that answers each request as it is told to."""

    def __init__(self, answer: Answer, cut: Callable[[bytes], Iterator[bytes]]) -> None:
        self._answer, self._cut = answer, cut
        self.http2 = H2Connection(H2Configuration(client_side=False, header_encoding="ascii"))
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.resets: list[int] = []
        self.failure: BaseException | None = None
        self.writer: asyncio.StreamWriter
        self.connections: list[Peer] = []
        self.settings: dict[SettingCodes, int] = {}
        self._begun: dict[int, tuple[dict[str, str], bytes]] = {}

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection with a state of its own; what was asked is noted here."""
        connection = Peer(self._answer, self._cut)
        connection.settings, connection.requests, connection.resets = self.settings, self.requests, self.resets
        connection.writer = writer
        self.connections.append(connection)
        try:
            await connection.serve(reader, writer)
        except BaseException as error:
            self.failure = error
            raise

    def push(self, message: bytes) -> None:
        """Send the rest of what the last request was answered with, and the status."""
        connection = self.connections[-1]
        number = connection.http2.highest_inbound_stream_id
        end = [("grpc-status", "0"), ("grpc-message", "")]
        connection.writer.write(
            data_frames(connection, number, message) + connection.say(number, headers=end, end=True)
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.http2.initiate_connection()
        self.http2.update_settings(self.settings)
        writer.write(self.http2.data_to_send())
        try:
            while data := await reader.read(65536):
                for event in self.http2.receive_data(data):
                    for piece in self._cut(self._react(event)):
                        writer.write(piece)
                        await asyncio.sleep(0)
                writer.write(self.http2.data_to_send())
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _react(self, event: Event) -> bytes:
        match event:
            case RequestReceived():
                self._begun[event.stream_id] = dict(event.headers), b""
            case DataReceived():
                headers, before = self._begun[event.stream_id]
                self._begun[event.stream_id] = headers, before + event.data
                self.http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case StreamEnded():
                self.requests.append(self._begun.pop(event.stream_id))
                return self._answer(self, event.stream_id)
            case StreamReset():
                self.resets.append(event.stream_id)
        return b""

    def say(
        self, stream: int, *, headers: Any = None, data: bytes | None = None, end: bool = False, pad: int = 0
    ) -> bytes:
        """Return the frames of one thing that is said."""
        if headers is not None:
            self.http2.send_headers(stream, headers, end_stream=end)
        elif data is not None:
            self.http2.send_data(stream, data, end_stream=end, pad_length=pad or None)
        return self.http2.data_to_send()


@asynccontextmanager
async def open_peer(
    folder: Path,
    answer: Answer,
    *,
    cut: Callable[[bytes], Iterator[bytes]] = lambda data: iter((data,)),
    **settings: int,
) -> AsyncIterator[tuple[Channel, Peer]]:
    """Lend a channel that is connected already, and the server; where either fails the test does."""
    peer = Peer(answer, cut)
    settings = {"max_concurrent_streams": 2**32 - 1, **settings}  # h2 allows 100 if not told
    peer.settings = {SettingCodes[name.upper()]: value for name, value in settings.items()}
    path = str(folder / "s")
    server = await asyncio.start_unix_server(peer.accept, path)
    channel = Channel(path)
    try:
        await anyio.wait_all_tasks_blocked()
        yield channel, peer
    finally:
        channel.close()
        server.close()
        await server.wait_closed()
        await anyio.wait_all_tasks_blocked()
    assert peer.failure is None


async def ask(channel: Channel, request: Any = None) -> str:
    """Call, and return the answer or the error in words."""
    message = Empty() if request is None else request
    try:
        call = channel.request("/s/M", Cardinality.UNARY_UNARY, type(message), VersionResponse, metadata=METADATA)
        async with call as stream:
            await stream.send_message(message, end=True)
            return repr(await stream.recv_message())
    except errors.ContainerdError as error:
        return f"{type(error).__name__}: {error}"


async def ask_list(channel: Channel) -> str:
    """The same, the answer taken for a list: its entries, as they arrive."""
    found: list[bytes] = []
    try:
        call = channel.request("/s/M", Cardinality.UNARY_UNARY, Empty, VersionResponse, metadata=METADATA)
        async with call as stream:
            await stream.send_message(Empty(), end=True)
            reader = EntryReader(VersionResponse, lambda data, begin, end: data[begin:end])
            async for entries in stream.recv_entries(reader):
                found += entries
    except errors.ContainerdError as error:
        return f"{type(error).__name__}: {error}"
    return repr(found)


def any_answer(chance: random.Random) -> Answer:
    """Make a server that answers in every way a server may."""

    def answer(peer: Peer, number: int) -> bytes:
        headers = [*ANSWER, *[("x-mark", str(chance.randrange(3)))] * chance.randrange(2)]
        match chance.randrange(8):
            case 0:
                return peer.say(number, headers=[*headers, ("grpc-status", "5"), ("grpc-message", "gone")], end=True)
            case 1:
                peer.http2.reset_stream(number, ErrorCodes(chance.choice([1, 7, 8, 11])))
                return peer.http2.data_to_send()
            case 2:
                return peer.say(number, headers=headers) + peer.say(number, data=reply()[:-1], end=True)
        out = peer.say(number, headers=headers)
        data = reply("y" * chance.choice([0, 1, 100, 40_000]))
        while data:
            size = min(chance.choice([1, 4, 5, 6, 1000, 16_000]), len(data))
            out += peer.say(number, data=data[:size], pad=chance.choice([0, 0, 7]))
            data = data[size:]
            if not chance.randrange(3):
                peer.http2.ping(b"pingpong")
                out += peer.http2.data_to_send()
        trailers = chance.choice(
            [
                [("grpc-status", "0")],
                [("grpc-status", "0"), ("grpc-message", "")],
                [("grpc-status", "0"), ("x-more", str(chance.randrange(5)))],
                [("grpc-status", "6"), ("grpc-message", f"it is here {chance.randrange(3)}")],
                [("grpc-status", "13"), ("grpc-message", "z" * 20_000)],
            ]
        )
        return out + peer.say(number, headers=trailers, end=True)

    return answer


def anywhere(chance: random.Random) -> Callable[[bytes], Iterator[bytes]]:
    def cut(data: bytes) -> Iterator[bytes]:
        while data:
            size = chance.choice([1, 8, 9, 10, 500, 20_000, len(data)])
            yield data[:size]
            data = data[size:]

    return cut


async def outcomes(folder: Path, seed: int, ask: Ask = ask) -> tuple[list[str], list[tuple[dict[str, str], bytes]]]:
    """Ask in turn, so that both ways are answered the same; then some at once."""
    folder.mkdir()
    chance = random.Random(seed)
    async with open_peer(folder, any_answer(chance), cut=anywhere(chance)) as (channel, peer):
        told = [await ask(channel) for _ in range(8)]
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(ask, channel)
        return told, peer.requests


@pytest.mark.parametrize("seed", range(40))
async def test_as_through_h2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int):
    """Answers, errors and what the server is sent are those of the way through h2."""
    direct = await outcomes(tmp_path / "direct", seed)
    monkeypatch.setattr(UnaryStreams, "begin", lambda *_: None)
    assert direct == await outcomes(tmp_path / "h2", seed)


@pytest.mark.parametrize("seed", range(20))
async def test_lists_as_through_h2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int):
    """The same of an answer whose entries are taken as they arrive."""
    direct = await outcomes(tmp_path / "direct", seed, ask_list)
    monkeypatch.setattr(UnaryStreams, "begin", lambda *_: None)
    assert direct == await outcomes(tmp_path / "h2", seed, ask_list)


@pytest.mark.parametrize("past_h2", [True, False])
async def test_a_long_list_is_read_as_it_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, past_h2: bool):
    """Some entries are there before the rest has been sent; an answer without a message is none, an empty one is."""
    if not past_h2:
        monkeypatch.setattr(UnaryStreams, "begin", lambda *_: None)
    entry = b"\x0a" + b"\xd0\x86\x03" + b"e" * 50_000
    message = prefixed(entry * 20)
    cut = 5 + 12 * len(entry) + 100
    async with open_peer(tmp_path, lambda peer, n: in_frames(peer, n, message[:cut], whole=False)) as (channel, peer):
        call = channel.request("/s/M", Cardinality.UNARY_UNARY, Empty, VersionResponse, metadata=METADATA)
        async with call as stream:
            await stream.send_message(Empty(), end=True)
            count = 0
            async for entries in stream.recv_entries(EntryReader(VersionResponse, lambda _, begin, end: end - begin)):
                assert set(entries) == {50_000}
                assert len(entries) <= PIECE // 50_000 + 1
                count += len(entries)
                if count == 10:
                    peer.push(message[cut:])
        assert count == 20
    (tmp_path / "s").unlink()
    answers = iter([prefixed(b""), b""])
    async with open_peer(tmp_path, lambda peer, n: well(peer, n, next(answers))) as (channel, _):
        assert await ask_list(channel) == "[]"
        assert (await ask_list(channel)).startswith("ProtocolError: the daemon answered OK without a message")


# ── single rules ────────────────────────────────────────────────────────────────────────────────────────────────────


def well(peer: Peer, number: int, data: bytes | None = None) -> bytes:
    """Answer as a daemon does."""
    message = reply() if data is None else data
    return b"".join(
        (
            peer.say(number, headers=ANSWER),
            peer.say(number, data=message),
            peer.say(number, headers=[("grpc-status", "0"), ("grpc-message", "")], end=True),
        )
    )


WELL = repr(VersionResponse(version="2.1", revision="x"))


async def account(channel: Channel) -> H2Connection:
    return (await channel.unary_streams())._http2


async def test_calls_go_past_h2(tmp_path: Path):
    """If h2's accounts are no longer where we look for them this fails, and not merely the speed."""
    async with open_peer(tmp_path, well) as (channel, peer):
        assert await ask(channel) == WELL
        http2 = await account(channel)
        before = http2.outbound_flow_control_window
        for name in ("send_headers", "send_data", "receive_data"):
            setattr(http2, name, None)
        assert [await ask(channel) for _ in range(3)] == [WELL] * 3
        assert peer.requests == [peer.requests[0]] * 4
        assert before - http2.outbound_flow_control_window == 3 * 5
        assert http2.highest_outbound_stream_id == 7


@pytest.mark.parametrize("limit", [{"max_concurrent_streams": 2}, {"initial_window_size": 20}])
async def test_what_the_peer_limits_is_h2s(tmp_path: Path, limit: dict[str, int]):
    """A peer that takes few streams, or little at a time, gets no more than that, and every call is answered."""
    request = ListResourcesRequest(id="i" * 100)
    told: list[str] = []
    async with open_peer(tmp_path, well, **limit) as (channel, peer):

        async def tell() -> None:
            told.append(await ask(channel, request))

        await tell()  # and learn the limits
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(tell)
        assert told == [WELL] * 6
        assert [data for _, data in peer.requests] == [prefixed(bytes(request))] * 6


async def test_headers_in_several_frames(tmp_path: Path):
    """Headers may go on in further frames, be padded and have a priority."""

    def in_pieces(peer: Peer, number: int) -> bytes:
        frames = split_frames(well(peer, number))
        out = b""
        for frame in frames:
            if frame[3] != 1:
                out += frame
                continue
            first = HeadersFrame(
                number, frame[9:10], flags=["PADDED", "PRIORITY", *(["END_STREAM"] if frame[4] & 1 else [])]
            )
            first.pad_length, first.stream_weight = 9, 3
            middle = ContinuationFrame(number, b"")
            out += first.serialize() + middle.serialize()
            out += ContinuationFrame(number, frame[10:], flags=["END_HEADERS"]).serialize()
        return out

    async with open_peer(tmp_path, in_pieces) as (channel, _):
        assert [await ask(channel) for _ in range(4)] == [WELL] * 4


def split_frames(data: bytes) -> list[bytes]:
    frames = []
    while data:
        size = 9 + int.from_bytes(data[:3], "big")
        frames.append(data[:size])
        data = data[size:]
    return frames


async def test_a_call_that_is_left_is_reset(tmp_path: Path):
    """Who is cancelled resets its call; what still comes for it changes nothing, but for the headers' table."""
    left: list[int] = []

    def answer(peer: Peer, number: int) -> bytes:
        if len(peer.requests) == 2:
            left.append(number)
            return b""
        return (late(peer, left[0]) if len(peer.requests) == 3 else b"") + well(peer, number)

    def late(peer: Peer, number: int) -> bytes:
        """What crosses the reset on its way."""
        block = peer.http2.encoder.encode([*ANSWER, ("x-late", "1")])
        headers = HeadersFrame(number, block, flags=["END_HEADERS"]).serialize()
        return headers + b"\0\0\2\0\0" + number.to_bytes(4, "big") + b"ab"

    async with open_peer(tmp_path, answer) as (channel, peer):
        assert await ask(channel) == WELL
        with anyio.move_on_after(0.05) as scope:
            await ask(channel)
        assert scope.cancelled_caught
        assert len(await channel.unary_streams()) == 0
        with anyio.fail_after(5):
            while not peer.resets:
                await anyio.sleep(0.01)
        assert peer.resets == left
        assert await ask(channel) == WELL
        assert await ask(channel) == WELL
    assert len(peer.requests) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda n: ContinuationFrame(n, b"\x88", flags=["END_HEADERS"]).serialize(), id="goes on unbegun"),
        pytest.param(
            lambda n: HeadersFrame(n, b"\x88").serialize() + b"\0\0\1\0\0" + n.to_bytes(4, "big") + b"x", id="data"
        ),
        pytest.param(lambda n: HeadersFrame(n, b"\x88").serialize() + b"\0\0\x08\6\0\0\0\0\0pingpong", id="ping"),
        pytest.param(lambda n: HeadersFrame(n, b"\xff\xff", flags=["END_HEADERS"]).serialize(), id="no headers"),
        pytest.param(lambda n: b"\0\0\2\0\x08" + n.to_bytes(4, "big") + b"\7x", id="padding"),
        pytest.param(
            lambda n: (
                HeadersFrame(n, b"\x88" * 16000).serialize() + ContinuationFrame(n, b"\x88" * 16000).serialize() * 20
            ),
            id="without end",
        ),
    ],
)
async def test_what_is_no_http2_ends_the_connection(tmp_path: Path, wrong: Callable[[int], bytes]):
    """All calls under way learn of it, and the next one connects anew."""
    told: list[str] = []

    def answer(peer: Peer, number: int) -> bytes:
        match len(peer.requests):
            case 2:
                return b""
            case 3:
                return wrong(number)
            case _:
                return well(peer, number)

    async with open_peer(tmp_path, answer) as (channel, _):

        async def tell() -> None:
            told.append(await ask(channel))

        await tell()
        async with anyio.create_task_group() as group:
            group.start_soon(tell)
            group.start_soon(tell)
        await tell()
    assert [one.partition(":")[0] for one in told] == [WELL, "ConnectionLostError", "ConnectionLostError", WELL]


async def test_a_connection_that_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The next call gets a new connection; the old one is closed when the calls under way on it have ended."""
    held: list[int] = []

    def answer(peer: Peer, number: int) -> bytes:
        if number == 3 and not held:
            held.append(number)
            return b""
        return well(peer, number)

    async with open_peer(tmp_path, answer) as (channel, _):
        assert await ask(channel) == WELL
        old = await channel.__connect__()
        async with anyio.create_task_group() as group:
            group.start_soon(ask, channel)
            await anyio.sleep(0.05)
            monkeypatch.setattr("containerd_py._transport.http2.LAST_FRESH_STREAM", 2)
            assert await ask(channel) == WELL
            assert await channel.__connect__() is not old
            assert not old.connection.is_closing()
            group.cancel_scope.cancel()
        assert old.connection.is_closing()


async def test_closing_ends_calls_under_way(tmp_path: Path):
    """They fail with a ConnectionLostError."""
    told: list[str] = []
    async with open_peer(tmp_path, lambda peer, n: well(peer, n) if n == 1 else b"") as (channel, _):

        async def tell() -> None:
            told.append(await ask(channel))

        assert await ask(channel) == WELL
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(tell)
            await anyio.sleep(0.05)
            channel.close()
    assert [one.partition(":")[0] for one in told] == ["ConnectionLostError"] * 3


async def test_window_of_large_answers(tmp_path: Path):
    """What an answer took from the connection's window is accounted for, and a stream's is given back on the way."""
    message = reply("z" * (3 * CREDIT))
    async with open_peer(tmp_path, lambda peer, n: in_frames(peer, n, message)) as (channel, peer):
        await ask(channel)
        http2 = await account(channel)
        manager = http2._inbound_flow_control_window_manager
        before = manager.current_window_size
        server = peer.connections[0].http2
        sent = server.outbound_flow_control_window
        assert len(await ask(channel)) > 3 * CREDIT
        assert 0 <= before - manager.current_window_size <= len(message)
        assert sent - server.outbound_flow_control_window == len(message)
        assert before - manager.current_window_size > len(message) - CREDIT


def in_frames(peer: Peer, number: int, message: bytes, *, whole: bool = True) -> bytes:
    """Answer with a large message, or begin to: `Peer.push` sends the rest."""
    out = peer.say(number, headers=ANSWER) + data_frames(peer, number, message)
    return out + peer.say(number, headers=[("grpc-status", "0")], end=True) if whole else out


def data_frames(peer: Peer, number: int, message: bytes) -> bytes:
    size = 16_384
    return b"".join(peer.say(number, data=message[at : at + size]) for at in range(0, len(message), size))
