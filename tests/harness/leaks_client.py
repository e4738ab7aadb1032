"""What this process holds: file descriptors, threads, tasks, files it made, and errors that nobody caught."""

import asyncio
import gc
import os
import socket
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from tests.harness.leaks_daemon import Found

# Where a file that outlives its maker is litter. Whatever is made elsewhere was asked for by name.
WATCHED_ROOTS: Final = (Path("/run"), Path("/var/run"), Path("/dev/shm"))
_POOL_FILES: Final = ("threading.py", "queue.py")
_RUNNER_COROUTINES: Final = ("_call_in_runner_task", "_run_tests_and_fixtures")  # anyio's pytest plugin


class ClientWatch:
    """Look at this process now and later; hooks are in place between ``start`` and ``stop``."""

    def __init__(self, *, ignore: Iterable[Path]) -> None:
        self.errors: list[str] = []
        self._created = _CreatedPaths([*WATCHED_ROOTS, Path(tempfile.gettempdir())], ignore)
        self._loop = asyncio.get_running_loop()
        self._previous_handler: Any = None
        self._previous_hook: Callable[[Any], Any] = sys.unraisablehook
        self._handler = self._on_loop_error  # one bound method, to be recognised again
        self._hook = self._on_unraisable
        self._tasks: set[asyncio.Task[Any]] = set()
        self._threads: set[int] = set()
        self._descriptors: dict[str, dict[str, str]] = {}

    def start(self) -> None:
        gc.collect()  # what earlier tests left to be collected is not ours
        gc.freeze()  # and need not be looked at again: thousands of tests make a large heap
        self._previous_handler = self._loop.get_exception_handler()
        self._loop.set_exception_handler(self._handler)
        self._previous_hook, sys.unraisablehook = sys.unraisablehook, self._hook
        self._created.start()
        self._tasks = asyncio.all_tasks()
        self._threads = {thread.ident for thread in threading.enumerate() if thread.ident}
        self._descriptors = _descriptors()

    def stop(self) -> None:
        if self._loop.get_exception_handler() == self._handler:
            self._loop.set_exception_handler(self._previous_handler)
        if sys.unraisablehook == self._hook:
            sys.unraisablehook = self._previous_hook
        self._created.stop()

    def leaked(self) -> Found:
        """Tell what is here now and was not at the start."""
        found = {
            "task": {
                task.get_name(): repr(task)
                for task in asyncio.all_tasks() - self._tasks - {asyncio.current_task()}
                if not _is_runner(task)
            },
            "thread": {
                f"{thread.name} ({thread.ident})": "" if thread.daemon else "not a daemon thread"
                for thread in threading.enumerate()
                if thread.ident not in self._threads and not _is_idle_in_pool(thread)
            },
            "file": self._created.left(),
            "error": {f"{number}": text for number, text in enumerate(self.errors, 1)},
        }
        for kind, now in _descriptors().items():
            before = self._descriptors.get(kind, {})
            if len(now) > len(before):  # one closed and another opened is a reconnect
                found[f"fd {kind}"] = {name: detail for name, detail in now.items() if name not in before}
        return {kind: names for kind, names in found.items() if names}

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(f"in the event loop: {context.get('message')} {context.get('exception')!r}")
        if self._previous_handler is None:
            loop.default_exception_handler(context)
        else:
            self._previous_handler(loop, context)

    def _on_unraisable(self, unraisable: Any) -> None:
        self.errors.append(f"unraisable: {unraisable.exc_value!r} in {unraisable.object!r}")
        self._previous_hook(unraisable)


def _descriptors() -> dict[str, dict[str, str]]:
    """List our open file descriptors by kind."""
    found: dict[str, dict[str, str]] = {}
    peers = _unix_sockets()
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208
        path = f"/proc/self/fd/{entry}"
        try:
            target, mode = os.readlink(path), os.stat(path).st_mode  # noqa: PTH115, PTH116
        except FileNotFoundError:
            continue  # the listing's own
        kind, detail = _kind_of(target, mode), ""
        if kind == "socket":
            detail = peers.get(target.removeprefix("socket:[").rstrip("]")) or _inet_peer(int(entry))
        found.setdefault(kind, {})[f"{entry} -> {target}"] = detail
    return found


def _kind_of(target: str, mode: int) -> str:
    for prefix, kind in (("socket:", "socket"), ("pipe:", "pipe"), ("anon_inode:", target.removeprefix("anon_inode:"))):
        if target.startswith(prefix):
            return kind.strip("[]")
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "directory" if stat.S_ISDIR(mode) else "file"


def _unix_sockets() -> dict[str, str]:
    """Map inodes of unix sockets to their paths; a connecting end has none."""
    lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]
    rows = [line.split(maxsplit=7) for line in lines]
    return {row[6]: f"unix {row[7] if len(row) > 7 else ''}" for row in rows}


def _inet_peer(descriptor: int) -> str:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            return f"{copy.getsockname()} -> {copy.getpeername()}"
    except OSError as error:
        return str(error)


def _is_runner(task: asyncio.Task[Any]) -> bool:
    return getattr(task.get_coro(), "__name__", "") in _RUNNER_COROUTINES


def _is_idle_in_pool(thread: threading.Thread) -> bool:
    """Tell whether a thread waits for work: worker threads of anyio and asyncio are kept for the next call."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code.co_filename.endswith(_POOL_FILES):
        frame = frame.f_back
    if frame is None:
        return not thread.is_alive()
    place = (Path(frame.f_code.co_filename).name, frame.f_code.co_name)
    return place in {("_asyncio.py", "run"), ("thread.py", "_worker")}


class _CreatedPaths:
    """Paths that this process, and no other, created under some roots: told by the interpreter's audit events."""

    def __init__(self, roots: Iterable[Path], ignore: Iterable[Path]) -> None:
        self._roots = tuple(f"{root}/" for root in roots)
        self._ignored = tuple(f"{path}/" for path in ignore)
        self._paths: dict[str, str] = {}

    def start(self) -> None:
        _install_audit_hook()
        _recorders.append(self)

    def stop(self) -> None:
        if self in _recorders:
            _recorders.remove(self)

    def record(self, path: str, how: str) -> None:
        if path in _SHARED or os.path.lexists(path):  # asking for one that is there is an event as well
            return
        if path.startswith(self._roots) and not f"{path}/".startswith(self._ignored):
            self._paths.setdefault(path, how)

    def left(self) -> dict[str, str]:
        return {path: how for path, how in list(self._paths.items()) if os.path.lexists(path)}


# Folders that clients share and nobody removes.
_SHARED: Final = frozenset({"/run/containerd", "/run/containerd/fifo"})
_recorders: list[_CreatedPaths] = []
_installed = threading.Event()
_EVENTS: Final = frozenset(
    ("open", "os.mkdir", "os.rename", "os.link", "os.symlink", "socket.bind", "tempfile.mkstemp")
)


def _install_audit_hook() -> None:
    if not _installed.is_set():  # a hook is for ever, hence one, and cheap while nobody records
        _installed.set()
        sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _recorders and event in _EVENTS and (path := _created_path(event, args)):
        for recorder in list(_recorders):
            recorder.record(path, event)


def _created_path(event: str, args: tuple[Any, ...]) -> str | None:
    match event, args:
        case "open", (path, _, int(flags)) if flags & os.O_CREAT:
            return _text(path)
        case "os.mkdir", (path, _, int(folder)):
            return _text(path, folder)
        case ("os.rename" | "os.link", (_, path, _, int(folder))) | ("os.symlink", (_, path, int(folder))):
            return _text(path, folder)
        case "socket.bind", (_, (str() | bytes()) as path):
            return _text(path)
        case "tempfile.mkstemp", (path,):
            return _text(path)
    return None


def _text(path: Any, folder: int = -1) -> str | None:
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    text = os.fsdecode(path)
    if folder >= 0 and not text.startswith("/"):
        try:
            text = f"{os.readlink(f'/proc/self/fd/{folder}')}/{text}"  # noqa: PTH115
        except OSError:
            return None
    return os.path.abspath(text) if not text.startswith("\0") else None  # noqa: PTH100
