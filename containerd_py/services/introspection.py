"""What a daemon is made of: its plugins and itself. Knows the Introspection service; judges nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

import attrs

from containerd_py._generated.containerd.services.introspection.v1 import (
    DeprecationWarning as WireDeprecation,
)
from containerd_py._generated.containerd.services.introspection.v1 import (
    IntrospectionStub,
    PluginInfoRequest,
    PluginsRequest,
)
from containerd_py._generated.containerd.services.introspection.v1 import Plugin as WirePlugin
from containerd_py._generated.google.protobuf import Empty
from containerd_py._transport.connection import Rpc
from containerd_py.filters import checked_filters
from containerd_py.services.wire import any_from_wire, any_to_wire, platform_from_wire, required, time_from_wire
from containerd_py.types import NO_LABELS, Platform, Timestamp, frozen_map
from containerd_py.typeurl import TypedValue


@attrs.frozen(kw_only=True)
class Plugin:
    """A plugin the daemon was built with or found (containerd.services.introspection.v1.Plugin).

    `type` is as `io.containerd.snapshotter.v1`, `id` as `overlayfs`. `init_error` says why it does not run, None if it
    does; a plugin that skipped itself, for want of a kernel feature say, has one too.
    """

    type: str
    id: str
    requires: tuple[str, ...] = ()
    platforms: tuple[Platform, ...] = ()
    exports: Mapping[str, str] = attrs.field(default=NO_LABELS, converter=frozen_map, hash=False)
    capabilities: tuple[str, ...] = ()
    init_error: str | None = None

    @property
    def is_working(self) -> bool:
        """Whether it was loaded."""
        return self.init_error is None


@attrs.frozen(kw_only=True)
class PluginInfo:
    """A plugin and what it tells of itself: `extra` answers in a type of its own, None if nothing was asked."""

    plugin: Plugin
    extra: TypedValue | None = None


@attrs.frozen(kw_only=True)
class Deprecation:
    """Something this daemon was asked or configured to do that a later one will refuse."""

    id: str
    message: str
    last_occurrence: Timestamp | None = None


@attrs.frozen(kw_only=True)
class ServerInfo:
    """The daemon itself (containerd.services.introspection.v1.ServerResponse).

    `uuid` stays with its root directory. `pid` and the inode number `pidns` of the PID namespace it counts in are None
    before containerd 1.7, which tells neither these nor `deprecations`.
    """

    uuid: str
    pid: int | None = None
    pidns: int | None = None
    deprecations: tuple[Deprecation, ...] = ()


def _plugin_from_wire(value: WirePlugin | None) -> Plugin:
    plugin = required(value, "the plugin")
    return Plugin(
        type=plugin.type,
        id=plugin.id,
        requires=tuple(plugin.requires),
        platforms=tuple(platform_from_wire(platform) for platform in plugin.platforms),
        exports=plugin.exports,
        capabilities=tuple(plugin.capabilities),
        init_error=None if plugin.init_err is None else plugin.init_err.message,
    )


def _deprecation_from_wire(value: WireDeprecation) -> Deprecation:
    return Deprecation(id=value.id, message=value.message, last_occurrence=time_from_wire(value.last_occurrence))


class IntrospectionService:
    """The Introspection service, typed (containerd.services.introspection.v1.Introspection)."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @cached_property
    def _stub(self) -> IntrospectionStub:
        return self._rpc.stub(IntrospectionStub)

    async def plugins(self, filters: Iterable[str] = ()) -> list[Plugin]:
        """Return the plugins that match any of the filters, all without one (Introspection.Plugins).

        Filter fields: `type`, `id`.
        """
        reply = await self._rpc.read(self._stub.plugins, PluginsRequest(filters=checked_filters(filters)))
        return [_plugin_from_wire(plugin) for plugin in reply.plugins]

    async def server(self) -> ServerInfo:
        """Return what the daemon is (Introspection.Server)."""
        reply = await self._rpc.read(self._stub.server, Empty())
        return ServerInfo(
            uuid=reply.uuid,
            pid=reply.pid or None,
            pidns=reply.pidns or None,
            deprecations=tuple(_deprecation_from_wire(warning) for warning in reply.deprecations),
        )

    async def plugin_info(self, type: str, id: str, *, options: TypedValue | None = None) -> PluginInfo:  # noqa: A002
        """Return a plugin and, where `options` ask for it, what it tells of itself (Introspection.PluginInfo).

        Runtimes answer `containerd.types.RuntimeRequest` with `containerd.types.RuntimeInfo`.

        Raises:
            NotFoundError: The daemon has no such plugin.
            NotSupportedError: The daemon is older than containerd 2.0.
            UnimplementedError: The plugin answers no questions.
        """
        request = PluginInfoRequest(type=type, id=id, options=any_to_wire(options))
        reply = await self._rpc.read(self._stub.plugin_info, request)
        return PluginInfo(plugin=_plugin_from_wire(reply.plugin), extra=any_from_wire(reply.extra))
