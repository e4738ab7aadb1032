"""Which settings the networks of a connection have: those it was opened with, else this host's defaults."""

from __future__ import annotations

from containerd_py._transport.connection import Connection
from containerd_py.cni.settings import NetworkSettings


def network_settings(connection: Connection) -> NetworkSettings:
    """Return the settings; the defaults are those of this moment's environment."""
    settings = connection.network_settings
    return settings if isinstance(settings, NetworkSettings) else NetworkSettings()
