"""What a daemon serves, asked of the daemon itself, never guessed from its version.

Asked when a client connects, and again in the background whenever it has connected anew: another daemon may answer.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from containerd_py.errors import ContainerdError
from containerd_py.services.bundle import Services

_GRPC_PLUGIN: Final = "io.containerd.grpc.v1"
_DATABASE_PLUGIN: Final = "io.containerd.metadata.v1"  # its file is two levels below the daemon's root


async def learn_features(services: Services) -> None:
    """Note on the connection what the daemon serves: gRPC services as "transfer", working plugins as "TYPE.ID".

    And where it keeps its files, which it tells by way of its database.
    """
    working = [plugin for plugin in await services.introspection.plugins() if plugin.is_working]
    served = {plugin.id for plugin in working if plugin.type == _GRPC_PLUGIN}
    connection = services.connection
    connection.features = frozenset(served | {f"{plugin.type}.{plugin.id}" for plugin in working})
    databases = [plugin.exports.get("path", "") for plugin in working if plugin.type == _DATABASE_PLUGIN]
    connection.daemon_root = next((str(Path(path).parents[1]) for path in databases if path.count("/") > 1), "")
    connection.host = None  # what was known was known of another daemon


def keep_learning(services: Services) -> None:
    """Have the features asked for again after each new connection."""
    connection = services.connection
    connection.channel.on_connected = partial(connection.background.start_soon, _learn_again, services)


async def _learn_again(services: Services) -> None:
    with suppress(ContainerdError):  # the daemon has gone once more: the next connection will tell
        await services.version.version()
        await learn_features(services)
