"""Noticing that the daemon has gone while waiting for somebody else, a registry for instance."""

from __future__ import annotations

from typing import Final, NoReturn

from containerd_py._generated.containerd.services.events.v1 import EventsStub, SubscribeRequest
from containerd_py._transport.connection import Rpc
from containerd_py.errors import ConnectionLostError

_NOTHING: Final = 'topic=="/containerd-py/nothing"'


async def until_daemon_goes(rpc: Rpc) -> NoReturn:
    """Wait until the connection to the daemon is lost: a call is held open that the daemon has no reason to answer.

    Raises:
        ConnectionLostError: It is.
    """
    async with rpc.stream(rpc.stub(EventsStub).subscribe, SubscribeRequest(filters=[_NOTHING])) as messages:
        async for _ in messages:
            pass
    raise ConnectionLostError("the daemon went away")
