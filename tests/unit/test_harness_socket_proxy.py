"""The socket proxy forwards faithfully, strikes exactly where it is told to, and proves that it did."""

import asyncio
import shutil
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from grpclib import GRPCError
from grpclib.client import Channel, StreamStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import StreamTerminatedError
from grpclib.server import Server

from tests.harness import h2frames
from tests.harness.h2frames import PREFACE, ErrorCode, Frame, FrameScanner, Kind
from tests.harness.socket_proxy import Accept, Direction, SocketProxy, open_proxy

pytestmark = pytest.mark.anyio
TO_CLIENT, TO_DAEMON = Direction.TO_CLIENT, Direction.TO_DAEMON
LOST = (StreamTerminatedError, ConnectionError, GRPCError, AssertionError)  # what bare grpclib makes of a cut


class RawCodec(CodecBase):
    """Messages are bytes, whatever their type."""

    __content_subtype__ = "raw"

    def encode(self, message: Any, message_type: Any) -> bytes:
        del message_type
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        del message_type
        return data


class EchoService:
    """A unary call that echoes, and a stream that echoes each message."""

    def __init__(self) -> None:
        self.calls = 0

    async def echo(self, stream: Any) -> None:
        self.calls += 1
        message = await stream.recv_message()
        await stream.send_message(message)

    async def many(self, stream: Any) -> None:
        while (message := await stream.recv_message()) is not None:
            await stream.send_message(message)

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/t.T/Echo": Handler(self.echo, Cardinality.UNARY_UNARY, bytes, bytes),
            "/t.T/Many": Handler(self.many, Cardinality.STREAM_STREAM, bytes, bytes),
        }


@asynccontextmanager
async def echo_through_proxy() -> AsyncIterator[tuple[SocketProxy, Channel]]:
    folder = Path(tempfile.mkdtemp(prefix="echo-"))
    server = Server([EchoService()], codec=RawCodec())
    await server.start(path=str(folder / "s"))
    try:
        async with open_proxy(f"unix://{folder / 's'}") as proxy:
            channel = Channel(path=str(proxy.path), codec=RawCodec())
            try:
                yield proxy, channel
            finally:
                channel.close()
    finally:
        server.close()
        await server.wait_closed()
        shutil.rmtree(folder)


async def echo(channel: Channel, message: bytes = b"hello") -> bytes:
    task = asyncio.current_task()
    assert task is not None
    requests = task.cancelling()
    try:
        reply: bytes = await UnaryUnaryMethod(channel, "/t.T/Echo", bytes, bytes)(message)
    finally:
        while task.cancelling() > requests:  # bare grpclib cancels its caller when the connection is lost
            task.uncancel()
    return reply


# -- frames -----------------------------------------------------------------------------------------------------------


def test_frames_survive_every_way_of_cutting_the_stream() -> None:
    """A scanner yields the same frames however the bytes arrive."""
    frames = [
        Frame(kind=Kind.SETTINGS, payload=bytes(6)),
        Frame(kind=Kind.HEADERS, flags=5, stream=1, payload=b"x" * 300),
        Frame(kind=Kind.DATA, stream=1),
        Frame(kind=200, flags=255, stream=2**31 - 1, payload=b"?"),
    ]
    wire = PREFACE + b"".join(frame.encode() for frame in frames)
    for size in (1, 2, 7, 24, 33, len(wire)):
        scanner = FrameScanner(from_client=True)
        pieces = [piece for start in range(0, len(wire), size) for piece in scanner.feed(wire[start : start + size])]
        assert b"".join(piece.raw for piece in pieces) == wire
        assert [piece.frame for piece in pieces] == [None, *frames]


@pytest.mark.parametrize("from_client", [True, False])
def test_other_protocols_pass_as_they_come(from_client: bool) -> None:
    """Bytes that do not start as HTTP/2 are no frames and are held back by nobody."""
    scanner = FrameScanner(from_client=from_client)

    assert [piece.raw for piece in scanner.feed(b"HTTP/1.1 200 OK\r\n")] == [b"HTTP/1.1 200 OK\r\n"]
    assert [(piece.raw, piece.frame) for piece in scanner.feed(b"\r\n")] == [(b"\r\n", None)]
    assert scanner.is_http2 is False


def test_an_unfinished_frame_is_handed_back() -> None:
    """At the end of a stream nothing that was read is lost."""
    scanner = FrameScanner(from_client=False)
    whole = Frame(kind=Kind.SETTINGS).encode()

    assert [piece.raw for piece in scanner.feed(whole + b"\0\0\5\0")] == [whole]
    assert scanner.rest() == b"\0\0\5\0"


def test_built_frames_decode_to_what_was_meant() -> None:
    """The builders follow RFC 9113 and RFC 7541."""
    reset = h2frames.decode_frame(h2frames.rst_stream(5, ErrorCode.CANCEL))
    assert (reset.kind, reset.stream, reset.payload) == (Kind.RST_STREAM, 5, struct.pack(">I", 8))
    away = h2frames.decode_frame(h2frames.goaway(7, ErrorCode.ENHANCE_YOUR_CALM, b"why"))
    assert (away.kind, away.stream, away.payload) == (Kind.GOAWAY, 0, struct.pack(">II", 7, 11) + b"why")
    trailers = h2frames.decode_frame(h2frames.headers(1, [("grpc-status", "x" * 300)], end_stream=True))
    assert trailers.ends_stream
    assert trailers.payload == b"\x00\x0bgrpc-status\x7f\xad\x01" + b"x" * 300
    assert h2frames.grpc_message(b"ab", length=2**31 - 1, compressed=1) == b"\x01\x7f\xff\xff\xffab"


# -- forwarding -------------------------------------------------------------------------------------------------------


async def test_calls_pass_and_are_counted() -> None:
    """Without faults the proxy changes nothing and knows what went through it."""
    async with echo_through_proxy() as (proxy, channel):
        big = bytes(range(256)) * 4096
        assert await echo(channel, big) == big
        up, down = proxy.counters(TO_DAEMON), proxy.counters(TO_CLIENT)
        assert up.bytes > len(big)
        assert down.bytes > len(big)
        assert up.kinds[Kind.HEADERS] == 1
        assert down.kinds[Kind.HEADERS] == 2
        assert down.kinds[Kind.DATA] >= 64
        assert down.frames == sum(down.kinds.values())
        assert len(proxy.live) == len(proxy.connections) == 1
        assert proxy.streams_in_flight == 0


async def test_open_streams_are_known() -> None:
    """The proxy knows what is in flight."""
    async with echo_through_proxy() as (proxy, channel):
        async with StreamStreamMethod(channel, "/t.T/Many", bytes, bytes).open() as stream:
            await stream.send_message(b"a")
            assert await stream.recv_message() == b"a"
            assert proxy.streams_in_flight == 1
            await stream.end()
            assert await stream.recv_message() is None
        assert proxy.streams_in_flight == 0


async def test_latency_and_slices_change_the_pace_only() -> None:
    """Slow and shredded traffic still arrives whole and in order."""
    async with echo_through_proxy() as (proxy, channel):
        await echo(channel)
        proxy.shape(latency=0.1)
        began = anyio.current_time()
        assert await echo(channel) == b"hello"
        assert anyio.current_time() - began >= 0.2
        proxy.shape(slice_size=1)
        assert await echo(channel, b"x" * 2000) == b"x" * 2000
        proxy.shape()
        assert await echo(channel) == b"hello"


async def test_the_socket_is_gone_afterwards() -> None:
    """Nothing of a proxy outlives it."""
    async with open_proxy("/nonexistent") as proxy:
        assert proxy.path.exists()
    assert not proxy.path.parent.exists()


async def test_a_missing_daemon_closes_the_connection() -> None:
    """A target that is not there ends the connection at once."""
    async with open_proxy("/nonexistent") as proxy, await anyio.connect_unix(proxy.path) as client:
        with anyio.fail_after(2), pytest.raises(anyio.EndOfStream):
            await client.receive()


# -- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_bytes", [0, 1, 8, 9, 10, 40, 60])
async def test_cut_after_exactly_so_many_bytes(after_bytes: int) -> None:
    """The cut leaves exactly the bytes asked for; the next call on a new connection succeeds."""
    async with echo_through_proxy() as (proxy, channel):
        fault = proxy.cut(TO_CLIENT, after_bytes=after_bytes)
        with pytest.raises(LOST):
            await echo(channel)
        assert fault.fired == 1
        assert proxy.counters(TO_CLIENT).bytes == after_bytes
        assert not proxy.live
        assert await echo(channel) == b"hello"
        assert len(proxy.connections) == 2


async def test_cut_after_so_many_frames_of_a_kind() -> None:
    """A cut may wait for a kind of frame, and reports what was in flight."""
    async with echo_through_proxy() as (proxy, channel):
        await echo(channel)
        fault = proxy.cut(TO_CLIENT, after_frames=1, kind=Kind.DATA)
        with pytest.raises(LOST):
            await echo(channel)
        assert proxy.counters(TO_CLIENT).kinds[Kind.DATA] == 2
        assert fault.in_flight == [1]
        proxy.assert_all_fired()
        assert await echo(channel) == b"hello"


async def test_cut_before_the_request_arrives() -> None:
    """after_frames=0 strikes before the first frame that matches."""
    async with echo_through_proxy() as (proxy, channel):
        fault = proxy.cut(TO_DAEMON, after_frames=0, kind=Kind.HEADERS)
        with pytest.raises(LOST):
            await echo(channel)
        assert fault.fired == 1
        assert proxy.counters(TO_DAEMON).kinds[Kind.HEADERS] == 0


async def test_every_connection_may_be_cut() -> None:
    """times=None strikes on each connection anew, until cleared."""
    async with echo_through_proxy() as (proxy, channel):
        fault = proxy.cut(TO_CLIENT, after_frames=2, times=None)
        for _ in range(3):
            with pytest.raises(LOST):
                await echo(channel)
        assert fault.fired == 3
        proxy.clear()
        assert await echo(channel) == b"hello"


async def test_disconnect_cuts_now() -> None:
    """Live connections can be cut from outside, in the middle of a call."""
    async with echo_through_proxy() as (proxy, channel):
        async with anyio.create_task_group() as group:
            fault = proxy.blackhole(TO_CLIENT, after_frames=0, kind=Kind.DATA)

            async def cut() -> None:
                await fault.wait_fired()
                assert proxy.disconnect() == 1

            group.start_soon(cut)
            with pytest.raises(LOST):
                await echo(channel)
        assert await echo(channel) == b"hello"


async def test_blackhole_swallows() -> None:
    """After a blackhole nothing arrives and nothing breaks."""
    async with echo_through_proxy() as (proxy, channel):
        fault = proxy.blackhole(TO_DAEMON, after_frames=0, kind=Kind.HEADERS)
        with anyio.move_on_after(0.2) as scope:
            await echo(channel)
        assert scope.cancelled_caught
        assert fault.fired == 1
        assert len(proxy.live) == 1


async def test_pause_fills_the_senders_buffer() -> None:
    """While reading is paused a sender blocks; resumed, everything arrives."""
    async with _raw_echo() as address, open_proxy(address) as proxy:
        fault = proxy.pause(TO_DAEMON, after_bytes=10)
        async with await anyio.connect_unix(proxy.path) as client, anyio.create_task_group() as group:
            sent = anyio.Event()

            async def send() -> None:
                await client.send(bytes(8 << 20))
                sent.set()

            group.start_soon(send)
            with anyio.move_on_after(0.2):
                await sent.wait()
            assert fault.fired == 1
            assert not sent.is_set()
            assert proxy.counters(TO_DAEMON).bytes == 10
            proxy.resume()
            received = 0
            with anyio.fail_after(5):
                while received < 8 << 20:
                    received += len(await client.receive(1 << 20))
            assert sent.is_set()


async def test_reset_stream_names_the_stream() -> None:
    """RST_STREAM ends that call only; the connection lives on."""
    async with echo_through_proxy() as (proxy, channel):
        await echo(channel)
        fault = proxy.reset_stream(ErrorCode.ENHANCE_YOUR_CALM)
        with pytest.raises(StreamTerminatedError):
            await echo(channel)
        assert fault.fired == 1
        assert await echo(channel) == b"hello"
        assert len(proxy.connections) == 1


async def test_goaway_reaches_the_client() -> None:
    """GOAWAY arrives with the newest stream as the last one served."""
    async with echo_through_proxy() as (proxy, channel):
        await echo(channel)
        fault = proxy.goaway(ErrorCode.NO_ERROR)
        with pytest.raises(LOST):
            await echo(channel)
        assert fault.fired == 1
        assert await echo(channel) == b"hello"


async def test_garbage_breaks_the_connection() -> None:
    """Bytes that are no HTTP/2 reach the client as they are."""
    async with echo_through_proxy() as (proxy, channel):
        await echo(channel)
        # Not just any bytes: h2 waits for the end of whatever frame the first nine announce. This is DATA on stream 0.
        fault = proxy.inject(b"\0\0\1\0\0\0\0\0\0x", TO_DAEMON, into=TO_CLIENT, after_frames=1, kind=Kind.HEADERS)
        with pytest.raises(LOST):
            await echo(channel)
        assert fault.fired == 1
        assert await echo(channel) == b"hello"


async def test_a_frame_can_be_replaced() -> None:
    """An answer can be given trailers that the server never sent."""
    async with echo_through_proxy() as (proxy, channel):
        fault = proxy.replace(
            lambda frame: h2frames.headers(
                frame.stream, [("grpc-status", "7"), ("grpc-message", "no")], end_stream=True
            ),
            kind=Kind.HEADERS,
            match=lambda frame: frame.ends_stream,
        )
        with pytest.raises(GRPCError, match="no"):
            await echo(channel)
        assert fault.fired == 1


@pytest.mark.parametrize("accept", [Accept.SILENT, Accept.CLOSE])
async def test_connections_can_be_accepted_badly(accept: Accept) -> None:
    """A new connection can be left unanswered or closed at once."""
    async with echo_through_proxy() as (proxy, channel):
        proxy.accept = accept
        with anyio.move_on_after(0.3) as scope:
            with pytest.raises(LOST):
                await echo(channel)
        assert scope.cancelled_caught == (accept is Accept.SILENT)
        assert proxy.counters(TO_DAEMON).bytes == 0
        proxy.accept = Accept.FORWARD
        proxy.disconnect()
        await anyio.sleep(0.05)  # bare grpclib must see the end before it connects anew
        assert await echo(channel) == b"hello"


async def test_a_fault_that_never_fired_is_told() -> None:
    """A test whose fault did not strike must not pass."""
    async with echo_through_proxy() as (proxy, channel):
        proxy.cut(TO_CLIENT, after_bytes=10**9)
        await echo(channel)
        with pytest.raises(AssertionError, match="never fired: Cut after bytes 1000000000 to client"):
            proxy.assert_all_fired()


async def test_frames_and_bytes_do_not_mix() -> None:
    """A fault counts bytes or frames, never both."""
    async with open_proxy("/nonexistent") as proxy:
        with pytest.raises(ValueError, match="counts bytes"):
            proxy.cut(after_bytes=1, kind=Kind.DATA)


@asynccontextmanager
async def _raw_echo() -> AsyncIterator[str]:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            async for chunk in stream:
                await stream.send(chunk)

    folder = Path(tempfile.mkdtemp(prefix="echo-"))
    try:
        async with await anyio.create_unix_listener(folder / "s") as listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            yield str(folder / "s")
            group.cancel_scope.cancel()
    finally:
        shutil.rmtree(folder)
