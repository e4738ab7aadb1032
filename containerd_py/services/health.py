"""Whether the daemon serves calls at all. Knows gRPC's own Health service (grpc.health.v1); judges no plugin."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import betterproto2
from grpclib.const import Cardinality

from containerd_py._generated.google.protobuf import Empty
from containerd_py._transport.channel import Channel
from containerd_py._transport.connection import Rpc

CHECK_ROUTE: Final = "/grpc.health.v1.Health/Check"


class HealthStatus(enum.StrEnum):
    """What gRPC's health protocol tells of a server."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    NOT_SERVING = "not-serving"


_STATUSES: Final = {1: HealthStatus.SERVING, 2: HealthStatus.NOT_SERVING}


@dataclass(eq=False, repr=False)
class _CheckReply(betterproto2.Message):
    """`HealthCheckResponse`; gRPC's own, so that it is not among containerd's generated messages."""

    status: int = betterproto2.field(1, betterproto2.TYPE_INT32)


class _HealthStub:
    """The one call of the service that a daemon's clients need, as a generated stub would make it."""

    def __init__(self, channel: Channel, *, metadata: dict[str, str]) -> None:
        self._channel = channel
        self._metadata = metadata

    async def check(self, message: Empty) -> _CheckReply:
        call = self._channel.request(CHECK_ROUTE, Cardinality.UNARY_UNARY, Empty, _CheckReply, metadata=self._metadata)
        async with call as stream:
            await stream.send_message(message, end=True)
            reply: _CheckReply | None = await stream.recv_message()
        return _CheckReply() if reply is None else reply


class HealthService:
    """The Health service, typed (grpc.health.v1.Health)."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def check(self) -> HealthStatus:
        """Return whether the daemon serves (Health.Check). A plugin that failed to load changes nothing in it.

        A daemon that is still starting does not answer at all, or raises UnavailableError.
        """
        stub = self._rpc.stub(_HealthStub)
        reply = await self._rpc.read(stub.check, Empty())  # empty asks for the server as a whole
        return _STATUSES.get(reply.status, HealthStatus.UNKNOWN)
