"""Which RPCs were called, and how the daemon answered, noted where every call leaves the transport.

Within one test with `recorded_rpcs`; over a whole session with `SessionRecorder` (`--record-rpcs FOLDER`), from which
the coverage page of the reference is made (`tests.docs.rpc_coverage`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from grpclib.const import Cardinality

from containerd_py._transport.channel import Call
from containerd_py._transport.unary import UnaryCall
from containerd_py.errors import ContainerdError

ANSWERED: Final = "OK"
Listener = Callable[[str, str], None]
_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have each call reported when it ends: its route, and "OK" or the class of what it raised."""
    if not _listeners:
        _tap()
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def recorded_rpcs() -> Iterator[dict[str, set[str]]]:
    """Lend the outcomes of each route that is called meanwhile."""
    outcomes: dict[str, set[str]] = defaultdict(set)
    with listening(lambda route, outcome: outcomes[route].add(outcome)):
        yield outcomes


def _tap() -> None:
    if hasattr(Call.__aexit__, "is_tapped"):
        return
    leave, leave_unary = Call.__aexit__, UnaryCall.__aexit__

    async def noted(call: Call, *raised: Any) -> None:
        outcome = ANSWERED
        try:
            await leave(call, *raised)
        except BaseException as error:
            is_left = call._messages_received and not isinstance(error, ContainerdError)  # a stream without an end
            outcome = ANSWERED if is_left else type(error).__name__
            raise
        finally:
            if call._cardinality is not Cardinality.UNARY_UNARY:  # it serves a `UnaryCall`
                _tell(call._method_name, outcome)

    async def unary_noted(call: UnaryCall, *raised: Any) -> None:
        outcome = ANSWERED if raised[0] is None else raised[0].__name__
        try:
            await leave_unary(call, *raised)
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            _tell(call.route, outcome)

    noted.is_tapped = True  # type: ignore[attr-defined]
    Call.__aexit__ = noted  # type: ignore[method-assign]
    UnaryCall.__aexit__ = unary_noted  # type: ignore[method-assign]


def _tell(route: str, outcome: str) -> None:
    for listener in tuple(_listeners):
        listener(route, outcome)


class SessionRecorder:
    """Notes for a whole test session which module called which RPC on which line, and was answered well."""

    def __init__(self, folder: Path, worker: str) -> None:
        self._file = folder / f"{worker}.json"
        self._here: tuple[str, str] | None = None
        self._called: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self._tap = listening(self._note)

    def _note(self, route: str, outcome: str) -> None:
        if self._here is not None and outcome == ANSWERED:
            line, module = self._here
            self._called[route][line].add(module)

    def pytest_sessionstart(self) -> None:
        self._tap.__enter__()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        line = item.callspec.params.get("daemon_line") if hasattr(item, "callspec") else None
        self._here = None if line is None else (line, item.nodeid.partition("::")[0])
        try:
            return (yield)
        finally:
            self._here = None

    def pytest_sessionfinish(self) -> None:
        self._tap.__exit__(None, None, None)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        called = {
            route: {line: sorted(modules) for line, modules in lines.items()} for route, lines in self._called.items()
        }
        self._file.write_text(json.dumps(called))
