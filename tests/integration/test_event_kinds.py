"""Everything that a daemon reports comes as a class of its own."""

from __future__ import annotations

import typing

import anyio
import pytest

from containerd_py import TypedValue, where
from containerd_py.services.event_types import (
    ContentCreate,
    Event,
    SandboxCreate,
    SandboxExit,
    SandboxStart,
    TaskCheckpointed,
    TaskOOM,
)
from tests.integration.test_every_rpc import SCENARIOS, World, served, world

__all__ = ["world"]
END = TypedValue(type_url="org.example.End")
SINCE_2_1 = {ContentCreate, SandboxCreate, SandboxStart, SandboxExit}
FOREIGN = {"org.example.Happened"}  # what a scenario publishes itself


@pytest.mark.lines("1.6", "2.1")
async def test_every_kind_of_event_is_a_class(world: World) -> None:
    """Using every service makes the daemon report every kind of event it knows, and none comes as raw bytes."""
    kinds: set[type] = set()
    raw: set[str] = set()
    ours = [where("namespace").equals(name) for name in (world.client.namespace, f"{world.client.namespace}-2")]
    async with world.client.events.subscribe(*ours) as envelopes, anyio.create_task_group() as group:

        async def follow() -> None:
            async for envelope in envelopes:
                if envelope.event == END:
                    return
                if isinstance(envelope.event, TypedValue):
                    raw.add(envelope.event.name)
                kinds.add(type(envelope.event))

        group.start_soon(follow)
        for service, scenario in SCENARIOS.items():
            if served(service, world.line):
                await scenario(world)
        await world.client.events.publish("/the/end", END)
    later = set() if world.line == "2.1" else SINCE_2_1
    # TaskOOM needs a task that runs out of memory: test_stats.py has one. runc's shim reports no checkpoint.
    assert kinds - {TypedValue} == set(typing.get_args(Event)) - later - {TaskOOM, TaskCheckpointed}
    assert raw <= FOREIGN
