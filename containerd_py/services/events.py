"""Events: what happens on the daemon, as it happens. Knows the Events service; `subscription` keeps one going."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property

import anyio

from containerd_py._generated.containerd.services.events.v1 import EventsStub, ForwardRequest, PublishRequest
from containerd_py._transport.connection import Rpc
from containerd_py.services.event_types import Envelope, Event
from containerd_py.services.event_wire import envelope_to_wire, event_to_wire
from containerd_py.services.subscription import EnvelopeBuffer, Subscription
from containerd_py.typeurl import TypedValue


class EventsService:
    """The Events service, typed (containerd.services.events.v1.Events)."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def _stub(self) -> EventsStub:
        return self._rpc.stub(EventsStub)

    async def publish(self, topic: str, event: Event | TypedValue) -> None:
        """Publish an event in this namespace, at the daemon's time (Events.Publish). It is kept for nobody.

        Raises:
            InvalidArgumentError: The topic is not a path of identifiers such as `/tasks/exit`.
        """
        await self._stub.publish(PublishRequest(topic=topic, event=event_to_wire(event)))

    async def forward(self, envelope: Envelope) -> None:
        """Publish an event that happened elsewhere, in the envelope's namespace and at its time (Events.Forward).

        Raises:
            InvalidArgumentError: Namespace, topic or timestamp are missing or none, or it holds an `EventsGap`.
        """
        await self._stub.forward(ForwardRequest(envelope=envelope_to_wire(envelope)))

    @asynccontextmanager
    async def subscribe(self, *filters: str) -> AsyncIterator[AsyncIterator[Envelope]]:
        """Lend an iterator over the events that match any of the filters, all without one (Events.Subscribe).

        Once the block is entered, no event is missed: act after that. Events of every namespace come; `namespace==demo`
        asks for one. Filter fields: `namespace`, `topic`, `event.FIELD`; values with slashes are quoted, as in
        `topic=="/tasks/exit"`, and one filter may demand several, separated by commas.

        After a lost connection the subscription is made again, however long the daemon is away, and an envelope with an
        `EventsGap` comes first. Who reads slowly misses nothing: 256 envelopes wait here, about 4 MiB on the
        connection, the rest in the daemon, which queues without bound. Other calls are not held up. Cancelling a reader
        loses nothing; leaving the block ends the iteration everywhere.

        To know that it is live, a subscription publishes an empty event in this namespace on a topic of its own below
        `/containerd-py/subscription/`, and again after each reconnect. Our iterators leave such events out; other
        programs that ask for all events see them.

        Raises:
            InvalidArgumentError: A filter's syntax is wrong.
            UnavailableError: The daemon took the subscription, but no event came through it for 30 seconds.
        """
        buffer = EnvelopeBuffer()
        subscription = Subscription(self._rpc, filters, buffer)
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            try:
                await tasks.start(subscription.run)
                yield buffer
            except Exception as error:  # noqa: BLE001  # raised below, outside of the group, which would wrap it
                failure = error
            finally:
                subscription.cancel()
        buffer.close()
        if failure is not None:
            raise failure
