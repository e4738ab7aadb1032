"""Events, much longer than in every run."""

from __future__ import annotations

from containerd_py._transport.connection import Rpc, open_connection
from containerd_py._transport.scope import Scope
from containerd_py.daemon import Daemon
from containerd_py.services.bundle import Services
from tests.integration.test_events import subscribe_then_publish

ROUNDS = 1_000


async def test_no_event_after_subscribing_is_missed(daemon: Daemon, namespace: str) -> None:
    """An event published as soon as the block is entered arrives, every time."""
    async with open_connection(daemon.address) as connection:
        await subscribe_then_publish(Services(Rpc(connection, Scope(namespace=namespace))), namespace, ROUNDS)
