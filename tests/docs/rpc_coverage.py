"""Writes `docs/reference/rpc-coverage.md`: every RPC, the method that calls it, and the tests that did.

    sh .ci/nox -s tests -- --record-rpcs=.cache/rpcs        (all lines; or pytest with that option, on any part)
    python -m tests.docs.rpc_coverage .cache/rpcs

What was recorded is kept in `rpc_calls.json`, so that the page can be made again without running the tests. That every
RPC is really called on every line that serves it is proved anew in each run, by tests/integration/test_every_rpc.py.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, Final, cast

import anyio

from codegen import model, outputs
from codegen.support import by_service
from containerd_py._transport.connection import Connection, Rpc
from containerd_py._transport.scope import Scope
from containerd_py.errors import ContainerdError, UnimplementedError
from containerd_py.services.bundle import Services
from containerd_py.services.health import CHECK_ROUTE
from containerd_py.support import LINES, first_line
from tests.docs.pages import ROOT
from tests.integration.test_emptiest_requests import Emptiness, Method, methods_of, services_of
from tests.integration.test_every_rpc import UNANSWERABLE

PAGE: Final = ROOT / "docs" / "reference" / "rpc-coverage.md"
RECORDED: Final = ROOT / "tests" / "docs" / "rpc_calls.json"
NOT_FOR_CLIENTS: Final = {
    "containerd.services.events.ttrpc.v1.Events": "shims publish with it, over ttrpc; clients forward over gRPC",
    "containerd.task.v2.Task": "spoken by the daemon to its shims, over ttrpc; clients have Tasks",
    "containerd.task.v3.Task": "spoken by the daemon to its shims, over ttrpc; clients have Tasks",
    "containerd.runtime.sandbox.v1.Sandbox": "spoken by the daemon to its shims, over ttrpc; clients have Controller",
}
INTRODUCTION: Final = """\
# RPCs, and the tests that call them

Every RPC of the API that this package was generated from, the typed methods that call it, the containerd line that
first serves it, and the test files in which it was called and answered well, on which lines if not on all that serve
it. Recorded in a run of the tests; written by `python -m tests.docs.rpc_coverage`. That each RPC is called on each line
that serves it is proved in every run by `tests/integration/test_every_rpc.py`, which knows the few that no daemon
answers well.
"""
_EMPTY: Final = Emptiness(text="x", gives_optional=False, gives_none=False)

Calls = dict[str, dict[str, list[str]]]
"""Route, then line, then the test files."""


class _Asked(ContainerdError):
    """What a method meets instead of a daemon."""


class _RouteNoter:
    """Stands where a channel stands, and notes which route is asked for first."""

    def __init__(self) -> None:
        self.routes: list[str] = []
        self.daemon_version = ""

    def request(self, name: str, *_arguments: object, **_options: object) -> object:
        self.routes.append(name)
        raise _Asked

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


async def methods_by_route() -> dict[str, list[str]]:
    """Return the methods that call each route, found by calling every method of every service, with no daemon."""
    noter = _RouteNoter()
    async with anyio.create_task_group() as background:
        connection = Connection("/nowhere", background)
        connection.channel.close()
        connection.channel = cast("Any", noter)
        services = Services(Rpc(connection, Scope(namespace="default")))
        found: dict[str, list[str]] = defaultdict(list)
        for service in services_of(services):
            for method in methods_of(service):
                noter.routes.clear()
                await _call(method, _EMPTY.arguments(method))
                for route in noter.routes[:1]:
                    found[route].append(f"{type(service).__name__}.{method.__name__}")
    return dict(found)


async def _call(method: Method, arguments: dict[str, object]) -> None:
    with suppress(_Asked, UnimplementedError, anyio.EndOfStream):
        made: object = method(**arguments)
        if isinstance(made, AbstractAsyncContextManager):
            async with made as lent:
                if isinstance(lent, AsyncIterator):
                    await anext(lent)
        else:
            await cast("Awaitable[object]", made)


def merged(folder: Path) -> Calls:
    """Return what the workers of a recorded run noted."""
    together: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in sorted(folder.glob("*.json")):
        for route, lines in json.loads(path.read_text()).items():
            for line, modules in lines.items():
                together[route][line].update(modules)
    return {
        route: {line: sorted(modules) for line, modules in sorted(lines.items())}
        for route, lines in sorted(together.items())
    }


def render(methods: dict[str, list[str]], calls: Calls) -> str:
    """Return the page."""
    routes = [*model.rpcs(model.load(outputs.DESCRIPTOR_SET)), CHECK_ROUTE]
    parts = [INTRODUCTION]
    for service, paths in by_service(routes).items():
        parts.append(f"## {service}\n")
        if reason := NOT_FOR_CLIENTS.get(service):
            parts.append(f"Not for clients: {reason}. {', '.join(path.rpartition('/')[2] for path in paths)}.\n")
        else:
            rows = [_row(path, methods.get(path, []), calls.get(path, {})) for path in paths]
            parts.append("\n".join(["| RPC | Method | Since | Called by |", "|---|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def _row(path: str, methods: list[str], called: dict[str, list[str]]) -> str:
    since = LINES[0] if path == CHECK_ROUTE else first_line(path)
    lines_of: dict[str, list[str]] = defaultdict(list)
    for line, modules in called.items():
        for module in modules:
            lines_of[module.removeprefix("tests/")].append(line)
    tests = [
        module if lines == [*called] else f"{module} ({', '.join(lines)})" for module, lines in sorted(lines_of.items())
    ]
    badly = [
        f"called, answered badly{f' on {line}' if line else ''}: {reason}"
        for (route, line), reason in UNANSWERABLE.items()
        if route == path
    ]
    names = ", ".join(f"`{name}`" for name in methods)
    return f"| `{path.rpartition('/')[2]}` | {names} | {since} | {'; '.join([*tests, *badly])} |"


async def main() -> None:
    """Write what was recorded, if a folder is named, and the page."""
    if len(sys.argv) > 1:
        RECORDED.write_text(json.dumps(merged(Path(sys.argv[1])), indent=1) + "\n")
    PAGE.write_text(render(await methods_by_route(), json.loads(RECORDED.read_text())))


if __name__ == "__main__":
    anyio.run(main)
