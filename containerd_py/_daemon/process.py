"""A daemon as a child process of ours. Blocking: to be called in worker threads. Knows processes, not containerd."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from containerd_py.errors import ContainerdError, DaemonStartError

KILLED_LIMIT: Final = 10.0  # seconds that a process may take to vanish after SIGKILL
TAIL_LINES: Final = 20
TAIL_BYTES: Final = 16 * 1024


class DaemonProcess:
    """The child process, its log, and how it ended. Safe to use from several threads."""

    def __init__(self) -> None:
        # Cancellation may end the wait for a thread that is just spawning: who ends the process waits for that one.
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._command: Sequence[str] = ()
        self._log_path: Path | None = None
        self.environment: Mapping[str, str] = {}
        self._closed = False
        self._ended_by_us = False

    @property
    def pid(self) -> int:
        """The process id of the daemon that runs, or of the last one."""
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How the process ended, as `subprocess` tells it; None while it runs."""
        return self._process.poll() if self._process is not None else None

    @property
    def died(self) -> bool:
        """Whether the process ended without our doing."""
        return self.returncode is not None and not self._ended_by_us

    def describe_end(self) -> str:
        """Say how the process ended, with the end of its log."""
        code = self.returncode
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        return f"{self._command[0]} {how}{self.log_excerpt()}"

    def log_excerpt(self) -> str:
        """Return the end of the log as the end of a message."""
        tail = self.log_tail()
        return f"; the end of its log:\n{tail}" if tail else "; it logged nothing"

    def spawn(self, command: Sequence[str], *, environment: Mapping[str, str], log_path: Path) -> None:
        """Start the process in a session of its own, so that a terminal's Ctrl-C reaches us alone.

        What it writes is added to the file at `log_path`.

        Raises:
            DaemonStartError: It cannot be executed.
        """
        with self._lock:
            if self._closed:
                return
            self._command = command
            self._log_path = log_path
            self.environment = environment
            self._ended_by_us = False
            try:
                with log_path.open("ab") as log:
                    self._process = subprocess.Popen(
                        command,
                        env=dict(environment),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
            except OSError as error:
                raise DaemonStartError(f"cannot run {command[0]}: {error.strerror or error}") from error

    def end(self, signum: signal.Signals, *, limit: float) -> None:
        """Send the signal and wait for the end; send SIGKILL after `limit` seconds.

        Raises:
            ContainerdError: The process does not even die of SIGKILL.
        """
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                return
            self._ended_by_us = True
            process.send_signal(signum)
            try:
                process.wait(limit)
            except subprocess.TimeoutExpired:
                process.kill()
                self._wait_killed(process)

    def close(self, *, limit: float) -> None:
        """End the process as `end` does, and let none be started any more."""
        self._closed = True
        self.end(signal.SIGTERM, limit=limit)

    def log_tail(self) -> str:
        """Return the last lines that the process logged."""
        if self._log_path is None:
            return ""
        try:
            with self._log_path.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-TAIL_LINES:])

    @staticmethod
    def _wait_killed(process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(KILLED_LIMIT)
        except subprocess.TimeoutExpired as error:
            raise ContainerdError(f"containerd (pid {process.pid}) hangs in the kernel and cannot be killed") from error
