"""Plugins as programs: found, run with a document, bounded in time and output. Blocking. Knows no network.

Source: CNI specification 1.1, section 2 "Execution protocol".
"""

from __future__ import annotations

import errno
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from containerd_py.cni.netns import in_netns
from containerd_py.cni.results import MAX_RESULT_SIZE
from containerd_py.cni.stopping import Stop, Stopped
from containerd_py.errors import CNIError, CNIPluginNotFoundError, CNIPluginTimeoutError, CNIProtocolError

PLUGIN_BOUND: Final = 60.0  # seconds one plugin may take
STOP_GRACE: Final = 3.0  # seconds a plugin may go on once its caller was cancelled: half-done is harder to undo
_MAX_ERRORS: Final = 64 * 1024  # bytes kept of the standard error
_PLUGIN_RE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
_BUSY_ATTEMPTS: Final = 5  # for a program that is just being installed
_BUSY_PAUSE: Final = 0.2  # seconds
_SYSTEM_FOLDERS: Final = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
# What firewalld's bus and users' runtime folders are found by; never a secret of ours.
_PASSED_ON: Final = ("HOME", "LANG", "TMPDIR", "DBUS_SYSTEM_BUS_ADDRESS", "XDG_RUNTIME_DIR")


@attrs.frozen(kw_only=True)
class Answer:
    """How a plugin ended and what it wrote."""

    code: int
    stdout: bytes
    stderr: bytes


def find_plugin(name: str, folders: Iterable[Path]) -> Path:
    """Find a plugin's program in the first folder that has it; no name leads out of them.

    Raises:
        CNIPluginNotFoundError: None has it.
    """
    searched = [folder for folder in folders if folder.is_absolute()]
    if _PLUGIN_RE.fullmatch(name):
        for folder in searched:
            program = folder / name
            if program.is_file() and os.access(program, os.X_OK):
                return program
    raise CNIPluginNotFoundError(
        f"there is no network plugin {name[:64]!a} in {', '.join(map(str, searched)) or 'no folder at all'}: "
        "install it (Debian, Ubuntu: apt-get install containernetworking-plugins), or name its folder in CNI_PATH",
        plugin=name,
    )


def run_plugin(
    program: Path,
    document: bytes,
    variables: Mapping[str, str],
    *,
    netns: Path | None = None,
    bound: float = PLUGIN_BOUND,
    stop: Stop | None = None,
) -> Answer:
    """Run a plugin to its end, in the network namespace that is the host's for it.

    Raises:
        CNIPluginTimeoutError: It took longer than `bound` seconds and was killed.
        CNIProtocolError: It wrote more than any result and was killed.
        CNIError: It cannot be run.
        Stopped: The caller was cancelled before it began.
    """
    if stop is not None and stop.is_set:
        raise Stopped
    process = in_netns(netns, lambda: _start(program, variables))
    try:
        return _Talk(process, program.name, document, stop).finish(time.monotonic() + bound, bound)
    except BaseException:
        _kill(process)
        raise
    finally:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _start(program: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    inherited = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    path = os.pathsep.join(dict.fromkeys([*filter(os.path.isabs, os.get_exec_path()), *_SYSTEM_FOLDERS]))
    for attempt in range(_BUSY_ATTEMPTS):
        try:
            return subprocess.Popen(
                [str(program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**inherited, "PATH": path, **variables},
                cwd="/",
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            if error.errno != errno.ETXTBSY or attempt == _BUSY_ATTEMPTS - 1:
                raise CNIError(f"the plugin {program} cannot be run: {error.strerror}", plugin=program.name) from error
            time.sleep(_BUSY_PAUSE)
    raise AssertionError("unreachable")


class _Talk:
    """Feeds a plugin its document and takes its answer, without ever waiting for one stream only."""

    def __init__(self, process: subprocess.Popen[bytes], name: str, document: bytes, stop: Stop | None) -> None:
        self._process = process
        self._name = name
        self._document = memoryview(document)
        self._stop = stop
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._pidfd = os.pidfd_open(process.pid)

    def finish(self, deadline: float, bound: float) -> Answer:
        try:
            with selectors.DefaultSelector() as selector:
                self._register(selector)
                self._follow(selector, deadline, bound)
        finally:
            os.close(self._pidfd)
        return Answer(code=self._process.wait(), stdout=bytes(self._stdout), stderr=bytes(self._stderr))

    def _register(self, selector: selectors.BaseSelector) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for stream in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(stream.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE, self._feed)
        selector.register(process.stdout, selectors.EVENT_READ, self._take_output)
        selector.register(process.stderr, selectors.EVENT_READ, self._take_errors)
        selector.register(self._pidfd, selectors.EVENT_READ)
        if self._stop is not None:
            selector.register(self._stop, selectors.EVENT_READ)

    def _follow(self, selector: selectors.BaseSelector, deadline: float, bound: float) -> None:
        while True:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise CNIPluginTimeoutError(
                    f"plugin {self._name} did not end within {bound:g} s and was killed", plugin=self._name
                )
            for key, _ in ready:
                if key.fileobj is self._stop:
                    selector.unregister(key.fileobj)
                    deadline = min(deadline, time.monotonic() + STOP_GRACE)
                elif key.data is not None and not key.data():
                    selector.unregister(key.fileobj)
            # What outlives the plugin may hold its output open: its end is the plugin's word, not the pipe's.
            if any(key.fd == self._pidfd for key, _ in ready):
                while self._take_output(only_now=True):
                    pass
                while self._take_errors(only_now=True):
                    pass
                return

    def _feed(self) -> bool:
        stream = self._process.stdin
        assert stream is not None
        try:
            written = os.write(stream.fileno(), self._document)
        except BrokenPipeError:  # it may not care to listen
            written = len(self._document)
        self._document = self._document[written:]
        if not self._document:
            stream.close()
        return bool(self._document)

    def _take_output(self, *, only_now: bool = False) -> bool:
        assert self._process.stdout is not None
        chunk = _read(self._process.stdout.fileno())
        if chunk:
            self._stdout += chunk
            if len(self._stdout) > MAX_RESULT_SIZE:
                raise CNIProtocolError(
                    f"plugin {self._name} wrote more than {MAX_RESULT_SIZE} bytes and was killed", plugin=self._name
                )
        return bool(chunk) if only_now else chunk != b""

    def _take_errors(self, *, only_now: bool = False) -> bool:
        assert self._process.stderr is not None
        chunk = _read(self._process.stderr.fileno())
        if chunk and len(self._stderr) < _MAX_ERRORS:
            self._stderr += chunk[: _MAX_ERRORS - len(self._stderr)]
        return bool(chunk) if only_now else chunk != b""


def _read(descriptor: int) -> bytes | None:
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the plugin with everything it started in its group, and reap it."""
    with suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
