"""Fixtures that wrap tests in the harness. A conftest switches them on by importing ``no_leaks``.

Needs the fixtures ``anyio_backend`` and, where a test has one of ``daemon`` and ``own_daemon``, ``namespace``.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from tests.harness.leaks import DaemonLike, LeakOracle, leak_oracle, wipe_namespace

_PROJECT: Final = Path(__file__).parents[2]  # which may lie in the temporary folder

__all__ = ["leak_targets", "no_leaks"]


@attrs.frozen(kw_only=True)
class LeakTargets:
    """What to watch around one test, its own process aside."""

    daemon: DaemonLike | None
    namespace: str | None


@pytest.fixture
def leak_targets(request: pytest.FixtureRequest) -> LeakTargets:
    """Find the daemon and namespace of this test; a test may have neither."""
    names = request.fixturenames
    daemon = next((name for name in ("own_daemon", "daemon") if name in names), None)
    if daemon is None:
        return LeakTargets(daemon=None, namespace=None)
    return LeakTargets(daemon=request.getfixturevalue(daemon), namespace=request.getfixturevalue("namespace"))


@pytest.fixture(autouse=True)
async def no_leaks(
    anyio_backend: Any, leak_targets: LeakTargets, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LeakOracle]:
    """Fail the test when it leaves anything behind; ``no_leaks.expect(kind, part)`` lets something pass."""
    daemon, namespace = leak_targets.daemon, leak_targets.namespace
    ignored = [tmp_path_factory.getbasetemp(), _PROJECT / ".hypothesis"]
    try:
        async with leak_oracle(daemon=daemon, namespace=namespace, ignore=ignored) as oracle:
            yield oracle
    finally:
        if daemon is not None and namespace is not None and getattr(daemon, "returncode", None) is None:
            await wipe_namespace(daemon, namespace)
