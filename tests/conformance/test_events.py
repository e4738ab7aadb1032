"""Exits are told once, and none of what never ran."""

from __future__ import annotations

import anyio
import pytest

from containerd_py import Client, ContainerdError, Image, TaskExit, deleting, where
from tests.conformance.made import created


async def test_an_exit_is_told_once(client: Client, namespace: str, busybox: Image):
    """A subscription with a pattern for its topic gets one exit of a task, however often the task is asked about."""
    wanted = where("namespace").equals(namespace) & where("topic").matches("^/tasks/exit")
    async with client.events.subscribe(wanted) as envelopes:
        async with created(client, busybox, ["/bin/sh", "-c", "exit 3"]) as task:
            await task.start()
            await task.wait()
            await task.status()
            name = task.id
        await client.events.publish("/tasks/exit", TaskExit(container_id="the-end"))
        with anyio.fail_after(20):
            exits = [envelope.event async for envelope in _until_the_end(envelopes)]
    assert [(exit_.container_id, exit_.exit_status) for exit_ in exits if isinstance(exit_, TaskExit)] == [(name, 3)]


async def test_what_never_ran_has_no_exit(client: Client, namespace: str, busybox: Image):
    """A task that cannot be created, for want of its command, is not said to have ended."""
    wanted = where("namespace").equals(namespace) & where("topic").equals("/tasks/exit")
    async with client.events.subscribe(wanted) as envelopes:
        async with deleting(await client.create_container(image=busybox, args=["/no/such/command"])) as container:
            with pytest.raises(ContainerdError):
                await container.create_task()
        await client.events.publish("/tasks/exit", TaskExit(container_id="the-end"))
        with anyio.fail_after(20):
            assert [envelope async for envelope in _until_the_end(envelopes)] == []


async def _until_the_end(envelopes):
    async for envelope in envelopes:
        if envelope.event == TaskExit(container_id="the-end"):
            return
        yield envelope
