"""Streams on one connection do not disturb each other, nothing that was received is lost, and nobody waits for ever."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack

import anyio
import pytest

from containerd_py import Client, connect
from containerd_py._generated.containerd.services.containers.v1 import ContainersStub, ListContainersRequest
from containerd_py._generated.containerd.services.content.v1 import (
    WriteAction,
    WriteContentRequest,
    WriteContentResponse,
)
from containerd_py._generated.containerd.services.version.v1 import VersionStub
from containerd_py._transport import channel
from containerd_py.daemon import Daemon
from containerd_py.errors import (
    AlreadyExistsError,
    ConnectionLostError,
    InvalidArgumentError,
    ProtocolError,
    ResourceExhaustedError,
)
from containerd_py.services.containers import ContainerRecord, Runtime
from containerd_py.services.content_writer import WRITE_ROUTE
from containerd_py.services.streaming import DaemonStream
from containerd_py.services.transfer import ExportStreamEndpoint, ImageStoreEndpoint, progress_from_wire
from containerd_py.typeurl import RUNTIME_SPEC, TypedValue
from tests.faults.proxied import (
    MIB,
    TO_CLIENT,
    TO_DAEMON,
    ask_once,
    create_lease,
    drop_ingests,
    is_unasked_ping,
    proxied,
    proxied_client,
    proxy,
    store,
)
from tests.harness import h2frames
from tests.harness.h2frames import ErrorCode, Frame, Kind
from tests.harness.socket_proxy import SocketProxy

__all__ = ["proxied", "proxy"]


ONE_LINE = pytest.mark.lines("2.1")  # what is tested does not depend on the daemon
FILLING = 100  # calls with headers of 16 KiB: more than the kernel and the transport hold together
WIDENING = (Kind.WINDOW_UPDATE, Kind.SETTINGS)  # what makes a waiting sender look again


@pytest.fixture(autouse=True)
def small_send_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel hold little, so that a peer that does not read is felt soon."""
    monkeypatch.setattr(channel, "SEND_BUFFER", 64 * 1024)


def is_reset_without_error(frame: Frame) -> bool:
    return frame.kind == Kind.RST_STREAM and int.from_bytes(frame.payload) == ErrorCode.NO_ERROR


# ── one unread stream must not stop the others (F1) ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [1, 8])
async def test_unread_streams_delay_no_other_call(proxied: Client, proxy: SocketProxy, count: int):
    """Streams left unread after their first message hold no unary call up, and are read to their end later."""
    async with proxied.hold_lease() as client, AsyncExitStack() as unread:
        digest, data = await store(client, 8 * MIB)
        before = proxy.counters(TO_CLIENT).bytes
        readers = []
        for _ in range(count):
            reader = await unread.enter_async_context(client.content.open_reader(digest))
            readers.append((reader, [await anext(reader)]))
        with anyio.move_on_after(2):
            while proxy.counters(TO_CLIENT).bytes - before < count * 4 * MIB:  # each stream's window is used up
                await anyio.sleep(0.01)
        assert proxy.counters(TO_CLIENT).bytes - before >= count * 4 * MIB
        assert proxy.streams_in_flight == count, "the streams are not stalled: nothing was tested"
        for _ in range(100):
            with anyio.fail_after(30):
                await ask_once(client)
        assert proxy.streams_in_flight == count
        for reader, parts in readers:
            parts += [part async for part in reader]
            assert b"".join(parts) == data


async def test_a_stream_given_up_frees_what_it_held(proxied: Client, proxy: SocketProxy):
    """Streams left early, again and again, leave no stream open and give their part of the window back."""
    async with proxied.hold_lease() as client:
        digest, data = await store(client, 8 * MIB)
        for _ in range(20):
            async with client.content.open_reader(digest) as reader:
                await anext(reader)
        await ask_once(client)
        with anyio.fail_after(2):
            while proxy.streams_in_flight:
                await anyio.sleep(0.01)
        ours = client.services.connection.channel
        assert ours._protocol.processor.streams == {}
        assert await client.content.read(digest) == data
        inbound = ours._protocol.connection._connection._inbound_flow_control_window_manager
        assert inbound.current_window_size > 2**31 - 1 - 2**30


# ── calls that wait to be sent wake when the daemon dies (F2) ───────────────────────────────────────────────────────


@pytest.mark.lines("1.6", "2.1")
async def test_calls_behind_a_full_buffer_wake_when_the_daemon_dies(own_daemon: Daemon, namespace: str, no_leaks):
    """Calls queued while the send buffer is full, and writers waiting for window, raise when it dies."""
    async with connect(own_daemon.address, namespace=namespace) as client:
        woken: list[float] = []

        async def expect_lost(call) -> None:
            with pytest.raises(ConnectionLostError):
                await call()
            woken.append(anyio.current_time())

        async def write() -> None:
            async with client.content.open_writer("stuck") as writer:
                await writer.write(bytes(64 * MIB))

        connection = client.services.connection.channel._protocol.connection
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                os.kill(own_daemon.pid, signal.SIGSTOP)
                try:
                    group.start_soon(expect_lost, write)
                    await anyio.sleep(0.05)
                    for _ in range(FILLING):  # headers are under no flow control: they fill the socket, then our buffer
                        group.start_soon(expect_lost, lambda: ask_with_large_headers(client))
                    with anyio.fail_after(5):
                        while connection.write_ready.is_set():
                            await anyio.sleep(0.01)
                    for _ in range(50):
                        group.start_soon(expect_lost, lambda: ask_once(client))
                    await anyio.sleep(0.1)
                    assert woken == []
                    assert connection.streams_started < FILLING + 2, "nobody waits to be sent: nothing was tested"
                finally:
                    await own_daemon.kill()
        assert len(woken) == FILLING + 51
        await own_daemon.restart()
        assert await ask_once(client)
        await drop_ingests(client)


async def ask_with_large_headers(client: Client) -> None:
    await VersionStub(client.services.connection.channel, metadata={"padding": os.urandom(8192).hex()}).version()


async def test_a_sender_whose_call_was_answered_wakes(proxied: Client, proxy: SocketProxy):
    """The daemon answers while a message is on its way and the window is used up: the status is raised, at once."""
    connection = proxied.services.connection.channel._protocol.connection
    refused = proxy.inject(
        lambda _connection, frame: answer(frame.stream), TO_DAEMON, into=TO_CLIENT, after_frames=2, kind=Kind.DATA
    )
    proxy.replace(lambda _frame: b"", TO_CLIENT, match=lambda frame: frame.kind in WIDENING, times=None)
    async with proxied.services.rpc.duplex(WRITE_ROUTE, WriteContentRequest, WriteContentResponse) as duplex:
        with anyio.fail_after(2):
            await duplex.send(WriteContentRequest(ref="r", data=bytes(8 * MIB)))
            with pytest.raises(AlreadyExistsError, match="it is here"):
                await duplex.receive()
    assert refused.fired
    assert not connection.is_closing()
    proxy.clear()
    proxy.disconnect()
    assert await proxied.version()


@ONE_LINE
async def test_calls_given_up_behind_a_full_buffer_are_reset(proxied: Client, proxy: SocketProxy):
    """Calls cancelled while nothing could be written are reset as soon as it can, with no other call to help."""
    await ask_once(proxied)
    before = proxy.counters(TO_DAEMON).kinds[Kind.RST_STREAM]
    connection = proxied.services.connection.channel._protocol.connection
    proxy.pause_now(TO_DAEMON)
    async with anyio.create_task_group() as group:
        with anyio.fail_after(5):
            while connection.write_ready.is_set():
                group.start_soon(ask_with_large_headers, proxied)
                await anyio.sleep(0)
        begun = connection.streams_started
        group.cancel_scope.cancel()
    assert begun > 2
    proxy.resume()
    with anyio.fail_after(5):
        while proxy.counters(TO_DAEMON).kinds[Kind.RST_STREAM] - before < begun - 3:  # the first ones were answered
            await anyio.sleep(0.01)
    assert await ask_once(proxied)
    assert len(proxy.connections) == 1


@ONE_LINE
async def test_leaving_a_duplex_waits_for_nothing(proxied: Client, proxy: SocketProxy):
    """A bidirectional call left before its status was received is reset at once, half-closed or not."""
    before = proxy.counters(TO_DAEMON).kinds[Kind.RST_STREAM]
    for ends in (False, True):
        proxy.pause(TO_CLIENT, after_frames=0, kind=Kind.HEADERS)
        with anyio.fail_after(2):
            async with proxied.services.rpc.duplex(WRITE_ROUTE, WriteContentRequest, WriteContentResponse) as duplex:
                await duplex.send(WriteContentRequest(action=WriteAction.STAT, ref="left"))
                if ends:
                    await duplex.end()
        proxy.clear()
        proxy.resume()
        assert await ask_once(proxied)
    assert proxy.counters(TO_DAEMON).kinds[Kind.RST_STREAM] - before == 2
    await anyio.sleep(0.2)  # the daemon may begin the ingest after its call was given up
    await drop_ingests(proxied)


def answer(stream: int) -> bytes:
    """Build what a server sends that fails a call before it has read its request."""
    fields = [
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", "6"),
        ("grpc-message", "it is here"),
    ]
    return h2frames.headers(stream, fields, end_stream=True)


# ── we never ping (F4) ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_no_ping_is_ever_sent(proxied: Client, proxy: SocketProxy):
    """An idle stream and an idle connection make us send nothing at all: grpc-go ends connections for pings."""
    pings = proxy.replace(lambda frame: frame.encode(), TO_DAEMON, match=is_unasked_ping, times=None)
    async with proxied.events.subscribe():
        await anyio.sleep(0.2)
        before = proxy.counters(TO_DAEMON).frames
        await anyio.sleep(3)
        assert proxy.counters(TO_DAEMON).frames == before
        assert proxy.streams_in_flight == 1
        await proxied.version()
    async with proxied.hold_lease() as client:
        await store(client, 4 * MIB)
    assert pings.fired == 0
    assert proxy.counters(TO_CLIENT).kinds[Kind.PING] > 0, "the daemon measured nothing: its pings went unanswered"
    assert len(proxy.connections) == 1


# ── a server that ends first ────────────────────────────────────────────────────────────────────────────────────────


async def test_commits_keep_their_answer(proxied: Client, proxy: SocketProxy):
    """50 commits in a row return their digest, whether or not the daemon resets the stream after its answer."""
    async with proxied.hold_lease() as client:
        for _ in range(50):
            digest, data = await store(client, 1000)
            assert await client.content.read(digest) == data
        assert len(proxy.connections) == 1


async def test_a_writer_hears_the_status_of_a_server_that_ended_first(proxied: Client, proxy: SocketProxy):
    """A write that the daemon refuses half-way raises the daemon's reason, not the reset that follows it."""
    resets = proxy.replace(lambda frame: frame.encode(), TO_CLIENT, match=is_reset_without_error, times=None)
    async with proxied.hold_lease() as client:
        digest, data = await store(client, 1000)
        for _ in range(20):
            with pytest.raises(AlreadyExistsError):
                async with client.content.open_writer("again", total=len(data), expected=digest) as writer:
                    await writer.write(data)
    assert resets.fired > 0
    await proxied.version()


@pytest.mark.lines("1.7", "2.1")
async def test_progress_streams_lose_nothing(client: Client, busybox, namespace: str, daemon: Daemon):
    """The daemon ends a progress stream first, with a reset: every message it sent is received, each time."""
    async with proxied_client(daemon, namespace) as (proxy, other):
        resets = proxy.replace(lambda frame: frame.encode(), TO_CLIENT, match=is_reset_without_error, times=None)
        for number in range(20):
            events = await export(other, busybox.name, number)
            assert events[0] == "Exporting"
            assert events[-1].startswith("Completed"), events
        assert resets.fired >= 20
        assert len(proxy.connections) == 1


async def export(client: Client, name: str, number: int) -> list[str]:
    """Have the daemon export an image; return the events of its progress stream, read to its end."""
    events: list[str] = []

    async def follow(stream: DaemonStream) -> None:
        while (value := await stream.receive()) is not None:
            events.append(progress_from_wire(value).event)

    async def drop(stream: DaemonStream) -> None:
        async for _ in stream.receive_bytes():
            pass

    async with (
        client.streaming.open(f"progress-{number}") as progress,
        client.streaming.open(f"archive-{number}") as archive,
        anyio.create_task_group() as dropping,
    ):
        dropping.start_soon(drop, archive)
        async with anyio.create_task_group() as following:
            following.start_soon(follow, progress)
            source, destination = ImageStoreEndpoint(name=name), ExportStreamEndpoint(stream=archive.id)
            await client.transfer.transfer(source, destination, progress_stream=progress.id)
        dropping.cancel_scope.cancel()
    return events


# ── sizes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def send_chunk(client: Client, size: int) -> int:
    """Write a chunk as one message; return the offset the daemon answers."""
    async with client.services.rpc.duplex(WRITE_ROUTE, WriteContentRequest, WriteContentResponse) as duplex:
        await duplex.send(WriteContentRequest(action=WriteAction.WRITE, ref="large", total=0, data=bytes(size)))
        reply = await duplex.receive()
        assert reply is not None
        return reply.offset


async def test_a_message_of_15_mib_passes_and_one_of_17_is_refused(client: Client):
    """Messages up to the daemon's 16 MiB are sent; beyond that a typed error says the limit, and the client goes on."""
    assert await send_chunk(client, 15 * MIB) == 15 * MIB
    await drop_ingests(client)
    for _ in range(3):
        with anyio.fail_after(10), pytest.raises(ResourceExhaustedError, match="16 MiB"):
            await send_chunk(client, 17 * MIB)
    assert await client.version()
    await drop_ingests(client)


async def test_replies_larger_than_four_mib(client: Client):
    """A reply of 6 MiB is received whole; a list that no message could hold is streamed, or refused with advice."""
    spec = TypedValue(type_url=RUNTIME_SPEC, value=b'{"annotations":{"a":"' + b"x" * 300_000 + b'"}}')
    for number in range(60):
        await client.containers.create(
            ContainerRecord(id=f"c{number}", runtime=Runtime(name="io.containerd.runc.v2"), spec=spec)
        )
        if number == 19:
            reply = await client.services.stub(ContainersStub).list(ListContainersRequest())
            assert len(reply.containers) == 20
            assert len(bytes(reply)) > 4 * MIB
    with pytest.raises(ResourceExhaustedError, match="filters"):
        await client.services.stub(ContainersStub).list(ListContainersRequest())
    assert {record.id for record in await client.containers.list()} == {f"c{number}" for number in range(60)}
    for number in range(60):
        await client.containers.delete(f"c{number}")


@pytest.mark.parametrize("prefix", [b"\x00\x7f\xff\xff\xff", b"\x01\x00\x00\x00\x01x"], ids=["2 GiB", "compressed"])
async def test_a_message_that_cannot_be_is_refused_unread(proxied: Client, proxy: SocketProxy, prefix: bytes):
    """A length of 2 GiB-1 or a compressed message is an error before anything is allocated or awaited."""
    forged = proxy.replace(lambda frame: h2frames.data(frame.stream, prefix), kind=Kind.DATA)
    proxy.pause(TO_CLIENT, after_frames=0, match=lambda frame: frame.ends_stream)  # nothing says that it is too short
    with anyio.fail_after(2), pytest.raises(ProtocolError):
        await ask_once(proxied)
    assert forged.fired
    proxy.resume()
    assert await ask_once(proxied)
    assert len(proxy.connections) == 1


async def test_a_value_no_message_can_hold_is_the_callers_fault(client: Client):
    """What cannot be encoded is an InvalidArgumentError, and nothing was sent."""
    with pytest.raises(InvalidArgumentError):
        await client.images.get("\udc80")
    await create_lease(client)
    for lease in await client.leases.list():
        await client.leases.delete(lease.id)
