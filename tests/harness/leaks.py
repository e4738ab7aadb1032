"""The leak oracle: nothing may be left of what a test did, in the daemon, on the host or in this process.

Compares before and after, gives things up to two seconds to settle, has the daemon collect its garbage, and compares
again. It looks with means of its own, so that it does not depend on the code under test.
"""

import gc
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

import anyio
from grpclib.exceptions import GRPCError, StreamTerminatedError

from tests.harness import leaks_host
from tests.harness.leaks_client import ClientWatch
from tests.harness.leaks_daemon import COLLECTED_KINDS, Found, leaked, open_probe

SETTLE_LIMIT: Final = 2.0  # seconds
_NO_ANSWER: Final = (OSError, GRPCError, StreamTerminatedError)


class DaemonLike(Protocol):
    """What the oracle needs to know of a daemon."""

    @property
    def address(self) -> str: ...
    @property
    def root(self) -> Path: ...
    @property
    def state(self) -> Path: ...


class LeakError(AssertionError):
    """Something was left behind; ``found`` has it by kind and name."""

    def __init__(self, title: str, found: Found) -> None:
        super().__init__(f"{title}\n{describe(found)}")
        self.found = found


class LeakOracle:
    """See ``leak_oracle``."""

    def __init__(
        self, *, daemon: DaemonLike | None, namespace: str | None, ignore: Iterable[Path], settle: float
    ) -> None:
        if daemon is not None and namespace is None:
            raise ValueError("a daemon is looked at in one namespace: name it")
        self._daemon = daemon
        self._namespace = namespace or ""
        self._settle = settle
        self._client = ClientWatch(ignore=ignore)
        self._expected: list[tuple[str, str]] = []
        self._before: Found = {}
        self._processes: Found = {}

    def expect(self, kind: str, part: str = "") -> None:
        """Let leftovers of ``kind`` whose name contains ``part`` pass."""
        self._expected.append((kind, part))

    async def start(self) -> None:
        self._before = await self._look_at_daemon()
        self._processes = _look_at_processes()
        self._client.start()

    def stop(self) -> None:
        self._client.stop()

    async def leaked(self) -> Found:
        """Return what is left now, after settling and a garbage collection; empty when all is clean."""
        gc.collect()
        began = anyio.current_time()
        with anyio.move_on_after(self._settle):
            while await self._leaked_now(skip=COLLECTED_KINDS):
                await anyio.sleep(0.02)
        if self._daemon is not None and _is_running(self._daemon):
            async with open_probe(self._daemon.address, self._namespace) as probe:
                await probe.collect_garbage()
        found = await self._leaked_now()
        left = self._settle - (anyio.current_time() - began)
        with anyio.move_on_after(max(left, self._settle / 8)):
            while found:
                await anyio.sleep(0.02)
                found = await self._leaked_now()
        return found

    async def check(self) -> None:
        """Raise LeakError when something is left."""
        try:
            found = await self.leaked()
        except _NO_ANSWER as error:
            raise LeakError(
                "cannot look for leaks: the daemon does not answer", {"daemon": {repr(error): ""}}
            ) from error
        if found:
            raise LeakError(f"left behind{f' in namespace {self._namespace}' if self._namespace else ''}:", found)

    async def _leaked_now(self, *, skip: Iterable[str] = ()) -> Found:
        found = leaked(self._before, await self._look_at_daemon())
        now = _look_at_processes()
        found |= leaked(self._processes, now)
        if len(now["child"]) <= len(self._processes["child"]):
            found.pop("child", None)  # one ended and another began is a restart
        found |= self._client.leaked()
        for kind in skip:
            found.pop(kind, None)
        unexpected = {
            kind: {name: detail for name, detail in names.items() if not self._is_expected(kind, name)}
            for kind, names in found.items()
        }
        return {kind: names for kind, names in unexpected.items() if names}

    def _is_expected(self, kind: str, name: str) -> bool:
        return any(kind == expected and part in name for expected, part in self._expected)

    async def _look_at_daemon(self) -> Found:
        if self._daemon is None or not _is_running(self._daemon):
            return {}
        async with open_probe(self._daemon.address, self._namespace) as probe:
            found = await probe.list_all()
            namespaces = await probe.list_namespaces()
        namespaces.pop(self._namespace, None)  # it exists once something was in it
        folders = (self._daemon.root, self._daemon.state)
        return found | leaks_host.look(self._daemon.address, folders, self._namespace) | {"namespace": namespaces}


@asynccontextmanager
async def leak_oracle(
    *,
    daemon: DaemonLike | None = None,
    namespace: str | None = None,
    ignore: Iterable[Path] = (),
    settle: float = SETTLE_LIMIT,
) -> AsyncIterator[LeakOracle]:
    """Fail with LeakError when the body leaves something behind; a failing body fails as it does, with a note.

    Without ``daemon`` only this process and its children are watched. Files made under ``ignore`` do not count.
    """
    oracle = LeakOracle(daemon=daemon, namespace=namespace, ignore=ignore, settle=settle)
    await oracle.start()
    try:
        try:
            yield oracle
        except Exception as error:
            try:
                await oracle.check()
            except LeakError as leaks:
                error.add_note(str(leaks))
            raise
        await oracle.check()
    finally:
        oracle.stop()


async def list_namespace(daemon: DaemonLike, namespace: str) -> Found:
    """List what the daemon and the host hold for a namespace, by kind and name."""
    async with open_probe(daemon.address, namespace) as probe:
        found = await probe.list_all()
    return found | {
        kind: names
        for kind, names in leaks_host.look(daemon.address, (), namespace).items()
        if kind in ("shim", "cgroup")
    }


async def namespace_is_empty(daemon: DaemonLike, namespace: str, *, settle: float = SETTLE_LIMIT) -> bool:
    """Tell whether nothing is left in a namespace, after settling and a garbage collection."""
    return not await _left_in_namespace(daemon, namespace, settle)


async def assert_namespace_empty(
    daemon: DaemonLike, namespace: str, *, allow: Iterable[str] = (), settle: float = SETTLE_LIMIT
) -> None:
    """Raise LeakError unless a namespace holds nothing, the kinds in ``allow`` aside."""
    if found := await _left_in_namespace(daemon, namespace, settle, allow):
        raise LeakError(f"left behind in namespace {namespace}:", found)


async def wipe_namespace(daemon: DaemonLike, namespace: str) -> None:
    """Delete everything in a namespace, whatever state it is in, and the namespace itself."""
    async with open_probe(daemon.address, namespace) as probe:
        await probe.wipe()
    leaks_host.remove_empty_cgroups(namespace)


async def _left_in_namespace(daemon: DaemonLike, namespace: str, settle: float, allow: Iterable[str] = ()) -> Found:
    found: Found = {}
    collected = False
    with anyio.move_on_after(settle):
        while True:
            found = await list_namespace(daemon, namespace)
            for kind in allow:
                found.pop(kind, None)
            if not found:
                break
            if not collected and not set(found) - COLLECTED_KINDS:
                collected = True
                async with open_probe(daemon.address, namespace) as probe:
                    await probe.collect_garbage()
            else:
                await anyio.sleep(0.02)
    return found


def describe(found: Found) -> str:
    """Render what was found, one line each, by kind."""
    return "\n".join(
        f"  {kind}: {name}{f'  ({detail})' if detail else ''}"
        for kind, names in sorted(found.items())
        for name, detail in sorted(names.items())
    )


def _is_running(daemon: DaemonLike) -> bool:
    """Tell whether a daemon can be asked: a test may have killed its own one."""
    return getattr(daemon, "returncode", None) is None


def _look_at_processes() -> Found:
    return {"child": leaks_host.children(), "netns": leaks_host.network_namespaces()}
