"""Events of real daemons: none is missed once subscribed, none lost without a word, none out of order."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import anyio
import pytest

from containerd_py._transport.connection import Rpc, open_connection
from containerd_py._transport.scope import Scope
from containerd_py.daemon import Daemon
from containerd_py.errors import ClientClosedError, InvalidArgumentError
from containerd_py.services.bundle import Services
from containerd_py.services.containers import ContainerRecord, Runtime
from containerd_py.services.event_types import (
    ContainerCreate,
    ContainerDelete,
    ContainerUpdate,
    ContentCreate,
    ContentDelete,
    Envelope,
    EventsGap,
    ImageCreate,
    ImageDelete,
    ImageUpdate,
    NamespaceCreate,
    NamespaceDelete,
    NamespaceUpdate,
    SnapshotCommit,
    SnapshotPrepare,
    SnapshotRemove,
    TaskExit,
)
from containerd_py.services.images import ImageRecord
from containerd_py.services.subscription import PROBE_TOPICS
from containerd_py.types import Descriptor, Timestamp
from containerd_py.typeurl import RUNTIME_SPEC, TypedValue
from tests.harness.cancel import sweep
from tests.harness.socket_proxy import open_proxy

ROUNDS = 100
TOPIC = "/containerd-py-tests/event"
SPEC = TypedValue(type_url=RUNTIME_SPEC, value=b"{}")
MOMENT = Timestamp.from_parts(1_700_000_000, 123_456_789)


@pytest.fixture
async def services(daemon: Daemon, namespace: str) -> AsyncIterator[Services]:
    """Lend the services of a namespace of the test's own."""
    async with open_connection(daemon.address) as connection:
        yield Services(Rpc(connection, Scope(namespace=namespace)))


@pytest.fixture
async def own_services(own_daemon: Daemon, namespace: str) -> AsyncIterator[Services]:
    """Lend the services of a daemon that may be killed."""
    async with open_connection(own_daemon.address) as connection:
        yield Services(Rpc(connection, Scope(namespace=namespace)))


async def take(envelopes: AsyncIterator[Envelope], count: int = 1) -> list[Envelope]:
    """Receive so many envelopes, soon."""
    with anyio.fail_after(20):
        return [await anext(envelopes) for _ in range(count)]


async def publish(services: Services, number: int, *, padding: int = 0) -> None:
    await services.events.publish(TOPIC, TaskExit(container_id=str(number), id="x" * padding, exit_status=number))


def numbers(envelopes: list[Envelope]) -> list[int]:
    return [envelope.event.exit_status for envelope in envelopes if isinstance(envelope.event, TaskExit)]


def own(namespace: str) -> str:
    return f'topic=="{TOPIC}",namespace=={namespace}'


async def subscribe_then_publish(services: Services, namespace: str, rounds: int) -> None:
    """Publish right after subscribing, again and again; each event must come."""
    for number in range(rounds):
        async with services.events.subscribe(own(namespace)) as envelopes:
            await publish(services, number)
            assert numbers(await take(envelopes)) == [number]


async def test_no_event_after_subscribing_is_missed(services: Services, namespace: str) -> None:
    """An event published as soon as the block is entered arrives, every time."""
    await subscribe_then_publish(services, namespace, ROUNDS)


async def subscribe_and_publish_at_once(services: Services, namespace: str, count: int) -> None:
    """Let so many subscribe at the same time, each publishing as soon as it has; each event must come to its own."""

    async def one(number: int) -> None:
        async with services.events.subscribe(f"event.container_id=={number},{own(namespace)}") as envelopes:
            await publish(services, number)
            assert numbers(await take(envelopes)) == [number]

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)


async def test_all_subscribe_and_publish_at_once(services: Services, namespace: str) -> None:
    """Many subscriptions that begin at the same time miss nothing of what is published right after."""
    await subscribe_and_publish_at_once(services, namespace, 50)


async def test_many_subscribe_at_once(services: Services, namespace: str) -> None:
    """Subscriptions that begin at the same time do not take each other's probes for events, nor miss any."""
    received: list[list[int]] = []

    async def follow(ready: anyio.abc.TaskStatus[None]) -> None:
        async with services.events.subscribe(own(namespace)) as envelopes:
            ready.started()
            received.append(numbers(await take(envelopes, 5)))

    async def start(task_status: anyio.abc.TaskStatus[None]) -> None:
        await follow(task_status)

    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as starting:
            for _ in range(20):
                starting.start_soon(tasks.start, start)
        for number in range(5):
            await publish(services, number)
    assert received == [[0, 1, 2, 3, 4]] * 20


async def test_probes_of_others_are_not_seen(services: Services, namespace: str) -> None:
    """Who asks for everything sees no event that is only there to find out whether somebody is subscribed."""
    async with services.events.subscribe() as envelopes:
        for _ in range(10):
            async with services.events.subscribe(own(namespace)):
                pass
        await publish(services, 1)
        while True:
            (envelope,) = await take(envelopes)
            assert not envelope.topic.startswith(PROBE_TOPICS)
            if envelope.namespace == namespace and envelope.topic == TOPIC:
                break


# ── what comes, and what does not ───────────────────────────────────────────────────────────────────────────────────


async def test_filters_choose(services: Services, namespace: str) -> None:
    """An envelope comes if any of the filters matches, and a filter matches if all of its parts do."""
    other = services.in_scope(namespace=f"{namespace}-2")
    await_own = own(namespace)
    by_field = f"event.container_id==77,namespace=={namespace}-2"
    async with services.events.subscribe(await_own, by_field) as envelopes:
        await publish(other, 1)
        await services.events.publish(TOPIC + "/other", TaskExit(container_id="2", exit_status=2))
        await publish(services, 3)
        await publish(other, 77)
        await publish(services, 4)
        assert numbers(await take(envelopes, 3)) == [3, 77, 4]


async def test_all_namespaces_come_without_a_filter(services: Services, namespace: str) -> None:
    """A subscription is not bound to the namespace it was made in."""
    other = services.in_scope(namespace=f"{namespace}-2")
    async with services.events.subscribe(f'topic=="{TOPIC}"') as envelopes:
        await publish(other, 1)
        assert [envelope.namespace for envelope in await take(envelopes)] == [f"{namespace}-2"]


@pytest.mark.parametrize("bad", ['topic=="/a', "topic==/a", "==", "topic~="])
async def test_a_bad_filter_is_an_invalid_argument(services: Services, bad: str) -> None:
    """A filter the daemon cannot parse is the caller's error, raised before the block is entered."""
    with pytest.raises(InvalidArgumentError, match="filter"):
        async with services.events.subscribe("namespace==good", bad):
            pytest.fail("entered")


@pytest.mark.parametrize("topic", ["", "/", "no-slash", "/a//b", "/ä", "/a/"])
async def test_a_bad_topic_is_an_invalid_argument(services: Services, topic: str) -> None:
    """A topic is a path of identifiers."""
    with pytest.raises(InvalidArgumentError):
        await services.events.publish(topic, TaskExit(container_id="c"))


async def test_what_is_published_arrives_as_it_was(services: Services, namespace: str) -> None:
    """Typed events and foreign ones come back equal, in the publisher's namespace, at the daemon's time."""
    foreign = TypedValue(type_url="org.example.Happened", value=b"\x00\xff")
    event = TaskExit(container_id="c", id="e", pid=4_294_967_295, exit_status=255, exited_at=MOMENT)
    before = datetime.now(UTC)
    async with services.events.subscribe(own(namespace)) as envelopes:
        await services.events.publish(TOPIC, event)
        await services.events.publish(TOPIC, foreign)
        first, second = await take(envelopes, 2)
    assert (first.event, second.event) == (event, foreign)
    assert first.namespace == namespace
    assert first.timestamp is not None
    assert before < first.timestamp < datetime.now(UTC)


async def test_a_forwarded_envelope_arrives_unchanged(services: Services, namespace: str) -> None:
    """Forwarding keeps namespace, topic and time to the nanosecond."""
    envelope = Envelope(
        timestamp=MOMENT, namespace=f"{namespace}-elsewhere", topic=TOPIC, event=TaskExit(container_id="c")
    )
    async with services.events.subscribe(f"namespace=={namespace}-elsewhere") as envelopes:
        await services.events.forward(envelope)
        assert await take(envelopes) == [envelope]


async def test_an_envelope_without_a_namespace_is_refused(services: Services) -> None:
    """The emptiest envelope that can be built is refused, and harms no daemon."""
    empty = Envelope(timestamp=MOMENT, namespace="", topic="", event=TypedValue(type_url=""))
    with pytest.raises(InvalidArgumentError):
        await services.events.forward(empty)
    await services.version.version()


async def test_records_tell_of_themselves(services: Services, namespace: str, daemon_line: str) -> None:
    """What is done to images, containers, snapshots and content comes as typed events, in order."""
    runtime = Runtime(name="io.containerd.runc.v2")
    snapshots = services.snapshotter("native")
    async with services.events.subscribe(f"namespace=={namespace}") as envelopes:
        digest = await write_blob(services, b"{}")
        image = ImageRecord(name="an/image:1", target=Descriptor(media_type="text/plain", digest=digest, size=2))
        await services.images.create(image)
        await services.images.update(image)
        await services.containers.create(ContainerRecord(id="c", image=image.name, runtime=runtime, spec=SPEC))
        await services.containers.update(ContainerRecord(id="c", image=image.name, runtime=runtime, spec=SPEC))
        await snapshots.prepare("active")
        await snapshots.commit("layer", "active")
        await snapshots.remove("layer")
        await services.containers.delete("c")
        await services.images.delete(image.name)
        await services.content.delete(digest)
        await publish(services, 1)
        events = [envelope.event for envelope in await take(envelopes, 12 if daemon_line == "2.1" else 11)]
    snapshotter = "" if daemon_line == "1.6" else "native"
    assert (
        events
        == [
            *([ContentCreate(digest=digest, size=2)] if daemon_line == "2.1" else []),
            ImageCreate(name=image.name),
            ImageUpdate(name=image.name),
            ContainerCreate(id="c", image=image.name, runtime=runtime),
            ContainerUpdate(id="c", image=image.name),
            SnapshotPrepare(key="active", snapshotter=snapshotter),
            SnapshotCommit(key="active", name="layer", snapshotter=snapshotter),
            SnapshotRemove(key="layer", snapshotter=snapshotter),
            ContainerDelete(id="c"),
            ImageDelete(name=image.name),
            ContentDelete(digest=digest),
            TaskExit(container_id="1", exit_status=1),
        ][: len(events)]
    )


async def write_blob(services: Services, data: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    async with services.content.open_writer("blob", total=len(data), expected=digest) as writer:
        await writer.write(data)
        await writer.commit(labels={})
    return digest


async def test_ctr_and_we_see_the_same(services: Services, namespace: str, ctr) -> None:
    """What the daemon's own client does to a namespace arrives here."""
    name = f"{namespace}-2"
    async with services.events.subscribe(f"event.name=={name}") as envelopes:
        await ctr("namespaces", "create", name, "a=b")
        await ctr("namespaces", "label", name, "a=c")
        await ctr("namespaces", "remove", name)
        assert [envelope.event for envelope in await take(envelopes, 3)] == [
            NamespaceCreate(name=name, labels={"a": "b"}),
            NamespaceUpdate(name=name, labels={"a": "c"}),
            NamespaceDelete(name=name),
        ]


# ── slow and cancelled readers ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_slow_reader_loses_nothing_and_holds_nobody_up(services: Services, namespace: str) -> None:
    """More events than all buffers hold wait for their reader in order, while other calls go on."""
    count, padding = 700, 16 * 1024  # 11 MiB, of which the stream's window holds 4 and the buffer 4
    async with services.events.subscribe(own(namespace)) as envelopes:
        for number in range(count):
            await publish(services, number, padding=padding)
        with anyio.fail_after(2):
            await services.version.version()
        assert numbers(await take(envelopes, count)) == list(range(count))


async def test_cancelled_readers_lose_nothing(services: Services, namespace: str) -> None:
    """Reading with time limits that keep running out gets every event once."""
    count, received = 200, []
    async with services.events.subscribe(own(namespace)) as envelopes, anyio.create_task_group() as tasks:

        async def publish_all() -> None:
            for number in range(count):
                await publish(services, number)

        tasks.start_soon(publish_all)
        with anyio.fail_after(20):
            while len(received) < count:
                with anyio.move_on_after(0.0005):
                    received.append(await anext(envelopes))
    assert numbers(received) == list(range(count))


# ── losing the daemon ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["kill", "terminate"])
async def test_a_restart_is_a_gap(own_daemon: Daemon, own_services: Services, namespace: str, way: str) -> None:
    """After a daemon's crash or upgrade the subscription goes on by itself, having said what it may have missed."""
    async with own_services.events.subscribe(own(namespace)) as envelopes:
        await publish(own_services, 1)
        assert numbers(await take(envelopes)) == [1]
        for number in (2, 3):
            await (own_daemon.kill() if way == "kill" else own_daemon.terminate())
            await own_daemon.restart()
            (gap,) = await take(envelopes)
            assert isinstance(gap.event, EventsGap)
            assert gap.event.began_at < gap.event.ended_at
            await publish(own_services, number)
            assert numbers(await take(envelopes)) == [number]


async def test_every_cut_is_told(services: Services, daemon: Daemon, namespace: str) -> None:
    """Whatever is missing from a sequence is missing where a gap was delivered; nothing comes twice or out of order."""
    cuts, count = 6, 300
    async with open_proxy(daemon.address) as proxy, open_connection(str(proxy.path)) as connection:
        cut_services = Services(Rpc(connection, Scope(namespace=namespace)))
        received: list[Envelope] = []
        async with cut_services.events.subscribe(own(namespace)) as envelopes, anyio.create_task_group() as tasks:

            async def follow() -> None:
                async for envelope in envelopes:
                    received.append(envelope)

            tasks.start_soon(follow)
            for number in range(count):
                await publish(services, number)
                if number % (count // cuts) == count // cuts - 1:
                    assert proxy.disconnect()
                    await until(lambda: bool(proxy.streams_in_flight))
            await until(lambda: isinstance(received[-1].event, EventsGap))
            await publish(services, count)
            await until(lambda: numbers(received)[-1:] == [count])
            tasks.cancel_scope.cancel()
    assert len([envelope for envelope in received if isinstance(envelope.event, EventsGap)]) == cuts
    for before, after in itertools.pairwise(received):
        if not isinstance(before.event, EventsGap) and not isinstance(after.event, EventsGap):
            first, second = numbers([before, after])
            assert second == first + 1
    assert numbers(received) == sorted(set(numbers(received)))


async def until(condition) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.005)


# ── leaving ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_leaving_closes_the_stream(services: Services, namespace: str) -> None:
    """After the block the connection has no stream left, whoever still holds the iterator."""
    kept = []
    for number in range(20):
        async with services.events.subscribe(own(namespace)) as envelopes:
            kept.append(envelopes)
            await publish(services, number)
            if number % 2:
                await take(envelopes)
    for envelopes in kept:
        with pytest.raises(StopAsyncIteration):
            await anext(envelopes)
    await services.version.version()
    assert not services.connection.channel._protocol.processor.streams


async def test_a_closed_client_ends_the_iteration(daemon: Daemon, namespace: str) -> None:
    """Closing the client under a subscription is told where events are awaited."""
    async with open_connection(daemon.address) as connection:
        events = Services(Rpc(connection, Scope(namespace=namespace))).events
        async with events.subscribe(own(namespace)) as envelopes:
            connection.channel.close()
            with anyio.fail_after(10), pytest.raises(ClientClosedError):
                await anext(envelopes)


@pytest.mark.lines("2.1")
async def test_cancelling_anywhere_leaves_nothing(services: Services, namespace: str) -> None:
    """A subscription that is cancelled at any point of its life ends at once, cleanly, and the client stays usable."""

    async def flow() -> None:
        async with services.events.subscribe(own(namespace)) as envelopes:
            await publish(services, 1)
            assert numbers(await take(envelopes)) == [1]

    async for outcome in sweep(flow, limit=20):
        outcome.check()
    await flow()
    assert not services.connection.channel._protocol.processor.streams
