"""The daemon's version. Knows the Version service."""

from __future__ import annotations

from functools import cached_property

import attrs

from containerd_py._generated.containerd.services.version.v1 import VersionStub
from containerd_py._generated.google.protobuf import Empty
from containerd_py._transport.connection import Rpc


@attrs.frozen(kw_only=True)
class Version:
    """What the daemon says it is (containerd.services.version.v1)."""

    version: str
    revision: str


class VersionService:
    """The Version service, typed (containerd.services.version.v1.Version)."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def _stub(self) -> VersionStub:
        return self._rpc.stub(VersionStub)

    async def version(self) -> Version:
        """Return the daemon's version (Version.Version)."""
        reply = await self._rpc.read(self._stub.version, Empty())
        self._rpc.connection.channel.daemon_version = reply.version
        return Version(version=reply.version, revision=reply.revision)
