"""Every test here is watched: what it leaves behind in the daemon, on the host or in this process fails it."""

from tests.harness.fixtures import leak_targets, no_leaks

__all__ = ["leak_targets", "no_leaks"]
