"""Whether the daemon serves calls at all. Knows gRPC's own Health service (grpc.health.v1); judges no plugin."""

from __future__ import annotations

import enum
from typing import Final

from grpclib.const import Cardinality

from containerd_py._generated.google.protobuf import Duration, Empty
from containerd_py._transport.channel import Channel as _Channel  # not one of this module's own names
from containerd_py._transport.connection import Rpc

CHECK_ROUTE: Final = "/grpc.health.v1.Health/Check"


class HealthStatus(enum.StrEnum):
    """What gRPC's health protocol tells of a server."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    NOT_SERVING = "not-serving"


_STATUSES: Final = {1: HealthStatus.SERVING, 2: HealthStatus.NOT_SERVING}


class _HealthStub:
    """The one call of the service that a daemon's clients need, as a generated stub would make it.

    gRPC's own messages are not among containerd's. On the wire, a request for the server as a whole is empty, and the
    answer has a number in its first field, as `Duration` has.
    """

    def __init__(self, channel: _Channel, *, metadata: dict[str, str]) -> None:
        self._channel = channel
        self._metadata = metadata

    async def check(self, message: Empty) -> Duration:
        call = self._channel.request(CHECK_ROUTE, Cardinality.UNARY_UNARY, Empty, Duration, metadata=self._metadata)
        async with call as stream:
            await stream.send_message(message, end=True)
            reply: Duration | None = await stream.recv_message()
        return Duration() if reply is None else reply


class HealthService:
    """The Health service, typed (grpc.health.v1.Health)."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def check(self) -> HealthStatus:
        """Return whether the daemon serves (Health.Check). A plugin that failed to load changes nothing in it.

        A daemon that is still starting does not answer at all, or raises UnavailableError.
        """
        stub = self._rpc.stub(_HealthStub)
        reply = await self._rpc.read(stub.check, Empty())
        return _STATUSES.get(reply.seconds, HealthStatus.UNKNOWN)
