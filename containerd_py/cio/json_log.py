"""Logs in Docker's json-file format: what a shim is told to write them, and the files read back.

Knows files and our log process (`_logger.json_file`); knows nothing of containers, tasks or what a line means.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import attrs

from containerd_py.cio.config import IOConfig, log_binary
from containerd_py.errors import FailedPreconditionError, InvalidArgumentError, PermissionDeniedError

MAX_SIZE: Final = 20 << 20  # bytes; it and the number of files are those of Docker's local driver
MAX_FILES: Final = 5

OWN_FOLDER: Final = ""  # the container's own, known once its task is created

_SCRIPT: Final = str(Path(__file__).resolve().parents[1] / "_logger" / "json_file.py")
_SOCKET_SUFFIX: Final = ".sock"  # as in _logger.json_file
_HAS_ENDED: Final = b"e"  # as there
_STILL_RUNS: Final = b"r"
_ANSWER_BOUND: Final = 5.0  # seconds
_CHUNK: Final = 1 << 16  # bytes
_BOUNDARY: Final = b"\n"
_RESCANS: Final = 5  # then a file is missing for good: the log was overtaken, or somebody has removed it
_LOCK_PAUSE: Final = 0.01  # seconds
_RESCAN_PAUSE: Final = 0.002  # seconds


def json_file_log(
    folder: str | os.PathLike[str] | None = None,
    *,
    max_size: int = MAX_SIZE,
    max_files: int = MAX_FILES,
    terminal: bool = False,
) -> IOConfig:
    """Write stdout and stderr to `ID-json.log` in a folder, as Docker and nerdctl do; `Container.logs` reads it.

    The shim starts a log process of ours, which outlives this program; the daemon's host must see this Python under the
    same path. At `max_size` bytes the file becomes `ID-json.log.1`, and so on, up to `max_files` files. Each container
    has a folder of its own, mode 0700, which is made where it is missing and stays when the container is deleted; None
    means the container's own directory, where nerdctl looks for the log, and which goes with the container.

    Raises:
        InvalidArgumentError: The folder is no absolute path, or a limit is not positive.
        FailedPreconditionError: This program does not know its Python's path.
    """
    path = OWN_FOLDER if folder is None else os.fspath(folder)
    if folder is not None and (not path.startswith("/") or "\0" in path):
        raise InvalidArgumentError(f"log folder {path!r} must be absolute: it is the daemon's host that opens it")
    if max_size < 1 or max_files < 1:
        raise InvalidArgumentError(
            f"a log of {max_files} files of {max_size} bytes holds nothing: give positive limits"
        )
    if not sys.executable:
        raise FailedPreconditionError("this program does not know the path of its Python, which is to write the log")
    settings = {"folder": path, "max_size": max_size, "max_files": max_files}
    return log_binary(sys.executable, {_SCRIPT: json.dumps(settings)}, terminal=terminal)


def log_folder_of(config: IOConfig) -> str | None:
    """Return the folder of a configuration that `json_file_log` made, perhaps `OWN_FOLDER`; None for any other."""
    if not config.stdout.startswith("binary://"):
        return None
    settings = _settings(config)
    return None if settings is None else str(settings["folder"])


def placed_log(config: IOConfig, folder: str) -> IOConfig:
    """Return a configuration that `json_file_log` made, with its folder."""
    settings = {**(_settings(config) or {}), "folder": folder}
    made = log_binary(sys.executable, {_SCRIPT: json.dumps(settings)}, terminal=config.terminal)
    return attrs.evolve(config, stdout=made.stdout, stderr=made.stderr)


def _settings(config: IOConfig) -> dict[str, object] | None:
    found = parse_qs(urlsplit(config.stdout).query).get(_SCRIPT)
    settings: dict[str, object] | None = json.loads(found[0]) if found else None
    return settings


def make_log_folder(folder: str) -> None:
    """Make a log folder where it is missing; the log process could tell nobody that it cannot. Blocks.

    Raises:
        PermissionDeniedError: It may not be made or written here.
        InvalidArgumentError: Something else has its name.
    """
    try:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    except PermissionError as error:
        raise PermissionDeniedError(f"log folder {folder}: {error.strerror}") from error
    except OSError as error:
        raise InvalidArgumentError(f"log folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionDeniedError(f"log folder {folder} may not be written")


def settle_log(folder: str, name: str, *, has_ended: bool) -> None:
    """Wait until all that was output so far is in the file; do nothing where no log process lives. Blocks, bounded.

    `has_ended`: no more will come, so that a last line without its end is to be written as well.
    """
    # A socket's path has at most 107 bytes, a folder's more.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.settimeout(_ANSWER_BOUND)
            connection.connect(f"/proc/self/fd/{directory}/{name}{_SOCKET_SUFFIX}")
        finally:
            os.close(directory)
        connection.sendall(_HAS_ENDED if has_ended else _STILL_RUNS)
        connection.recv(1)
        return
    if has_ended:
        _wait_for_other_logger(folder)


def _wait_for_other_logger(folder: str) -> None:
    """Wait for a log process of nerdctl, which holds a lock until everything is in the file."""
    with suppress(OSError):
        lock = os.open(f"{folder}/logger-lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            end = time.monotonic() + _ANSWER_BOUND
            while time.monotonic() < end:
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    return
                time.sleep(_LOCK_PAUSE)
        finally:
            os.close(lock)


class LogFiles:
    """A log's files read as one, oldest first, however they are renamed meanwhile. Blocks; for a worker thread."""

    def __init__(self, folder: str, name: str) -> None:
        """Have nothing open."""
        self._path = f"{folder}/{name}"
        self._open: deque[int] = deque()

    def open(self) -> int:
        """Open all there are and return how many bytes `read` gives of what they hold now.

        Raises:
            PermissionDeniedError: They are somebody else's.
        """
        try:
            self._open.extend(self._newer_than(None))
        except PermissionError as error:
            raise PermissionDeniedError(f"log {self._path}: {error.strerror}") from error
        return sum(os.fstat(fd).st_size for fd in self._open) + max(len(self._open) - 1, 0) * len(_BOUNDARY)

    def read(self, limit: int = _CHUNK) -> bytes:
        """Return at most `limit` bytes of what comes next; nothing where nothing has been written since.

        Between two files comes an empty line: one that its writer left unfinished must not run into the next.
        """
        if not self._open:
            self.open()
        while self._open:
            chunk = os.read(self._open[0], limit)
            if chunk:
                return chunk
            if len(self._open) == 1:
                newer = self._newer_than(self._open[0])
                if not newer:
                    return b""
                self._open.extend(newer)
                # It is not written any more, but may have been between the read and the look.
                if chunk := os.read(self._open[0], limit):
                    return chunk
            os.close(self._open.popleft())
            return _BOUNDARY
        return b""

    def close(self) -> None:
        """Close all."""
        while self._open:
            os.close(self._open.popleft())

    def _newer_than(self, known: int | None) -> list[int]:
        """Open the files from the newest one down to the one that is known, and return them, oldest first."""
        found, is_whole = self._scan(known)
        for _ in range(_RESCANS):
            if is_whole:
                break
            for fd in found:
                os.close(fd)
            time.sleep(_RESCAN_PAUSE)
            found, is_whole = self._scan(known)
        return found[::-1]

    def _scan(self, known: int | None) -> tuple[list[int], bool]:
        """Open what is there, newest first, and tell whether no renaming came in between.

        Files are renamed one by one, the oldest first: one name may be missing, and a file be met under two names.
        """
        found: list[int] = []
        try:
            return found, self._open_newer(known, found)
        except BaseException:
            for fd in found:
                os.close(fd)
            raise

    def _open_newer(self, known: int | None, found: list[int]) -> bool:
        identities = {_identity(known)} if known is not None else set()
        missing = 0
        is_whole = True
        for number in itertools.count():
            try:
                fd = os.open(f"{self._path}.{number}" if number else self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                missing += 1
                if missing > 1:
                    break
                continue
            is_whole, missing = is_whole and not missing, 0
            identity = _identity(fd)
            if identity in identities:
                os.close(fd)
                if known is not None and identity == _identity(known):
                    return is_whole
            else:
                identities.add(identity)
                found.append(fd)
        return is_whole and known is None


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
