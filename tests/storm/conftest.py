"""Every test here is watched for what it leaves behind; the figures they note are shown at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness.fixtures import leak_targets, no_leaks
from tests.harness.network_host import network_host, networked

__all__ = ["leak_targets", "network_host", "networked", "no_leaks"]

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Note a figure of this test."""
    figures = request.config.stash.setdefault(FIGURES, [])
    return lambda text: figures.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show all figures that were noted."""
    for figure in config.stash.get(FIGURES, []):
        terminalreporter.write_line(figure)
