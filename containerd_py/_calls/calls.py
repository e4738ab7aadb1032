"""What all calls of a client stand on."""

from __future__ import annotations

from containerd_py.services.bundle import Services


class Calls:
    """Calls of `Client` of one area. One-statement methods; what they do is in the flows and services."""

    def __init__(self, services: Services) -> None:
        self._services = services
