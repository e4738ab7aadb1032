"""What a daemon serves, asked of the daemon itself, never guessed from its version."""

from __future__ import annotations

from typing import Final

from containerd_py.services.bundle import Services

_GRPC_PLUGIN: Final = "io.containerd.grpc.v1"


async def supports(services: Services, feature: str) -> bool:
    """Tell whether the daemon serves a gRPC service, such as "transfer", or has a working plugin, as "TYPE.ID"."""
    for plugin in await services.introspection.plugins():
        is_service = plugin.type == _GRPC_PLUGIN and plugin.id == feature
        if (is_service or f"{plugin.type}.{plugin.id}" == feature) and plugin.is_working:
            return True
    return False
