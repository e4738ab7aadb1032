"""Every test here is watched: what it leaves behind in the daemon, on the host or in this process fails it."""

from tests.harness.fixtures import leak_targets, no_leaks
from tests.harness.network_host import network_host, networked

__all__ = ["leak_targets", "network_host", "networked", "no_leaks"]
