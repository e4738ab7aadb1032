"""The log process of `json_file_log`, started by a shim with a folder's settings as its argument; a script of its own.

Knows the shim's protocol for log programs and Docker's json-file format; imports nothing but a little of the standard
library, for a container's start waits for it.

It reads stdout (fd 3) and stderr (fd 4) until both have ended or, after SIGTERM, until they are empty: the shim holds
their other ends until the task is deleted, then sends SIGTERM, and SIGKILL 12 seconds later. Whoever wants to know that
everything written so far is in the file connects to the socket: the connection is closed when it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from json.encoder import encode_basestring, encode_basestring_ascii
from pathlib import Path

STDOUT, STDERR, READY = 3, 4, 5
SOCKET_SUFFIX = ".sock"  # after the log's name
HAS_ENDED = b"e"  # said by who connects when the process has ended: what lacks its line's end is written, too
MAX_ENTRY = 16384  # bytes of output in one entry, as in Docker: longer lines come in several
CHUNK = 1 << 16  # bytes
PIPE_MAX = 1 << 20  # bytes: fs.pipe-max-size, the most a pipe has held when somebody asked


class LogFile:
    """A file of entries that makes room by renaming itself to name.1, that to name.2 and so on."""

    def __init__(self, folder: int, name: str, max_size: int, max_files: int) -> None:
        self._folder = folder  # a descriptor: the folder may be renamed
        self._name = name
        self._max_size = max_size
        self._max_files = max_files
        self._fd = -1
        self._size = 0
        self._is_torn = False

    def open(self) -> None:
        """Open the file; what an earlier process left unfinished at its end becomes a line of its own."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._name, flags, 0o640, dir_fd=self._folder)
        self._size = os.fstat(self._fd).st_size
        self._is_torn = self._size > 0 and os.pread(self._fd, 1, self._size - 1) != b"\n"

    def write(self, entries: list[bytes]) -> None:
        """Append entries, each whole in one file; a full disk loses them, which must not hold up the container."""
        for batch in self._batches(entries):
            self._append(b"\n" + batch if self._is_torn else batch)

    def _batches(self, entries: list[bytes]) -> Iterator[bytes]:
        batch: list[bytes] = []
        size = 0
        for entry in entries:
            if size and self._size + size + len(entry) > self._max_size:
                yield b"".join(batch)
                batch, size = [], 0
            if not size and self._size and self._size + len(entry) > self._max_size:
                self._rotate()
            batch.append(entry)
            size += len(entry)
        if batch:
            yield b"".join(batch)

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            if self._fd < 0:
                self.open()
            while rest:
                written = os.write(self._fd, rest)
                self._size += written
                rest = rest[written:]
            self._is_torn = False
        except OSError:
            self._is_torn = self._is_torn or 0 < len(rest) < len(data)

    def _rotate(self) -> None:
        try:
            if os.stat(self._name, dir_fd=self._folder).st_ino == os.fstat(self._fd).st_ino:
                for number in range(self._max_files - 1, 0, -1):
                    former = f"{self._name}.{number - 1}" if number > 1 else self._name
                    with suppress(FileNotFoundError):
                        os.rename(former, f"{self._name}.{number}", src_dir_fd=self._folder, dst_dir_fd=self._folder)
                if self._max_files == 1:
                    os.unlink(self._name, dir_fd=self._folder)
            self.open()
        except OSError:
            pass  # goes on in the file there is


class Stream:
    """One output: cuts what comes into entries."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self._tail = f',"stream":"{name}","time":"'.encode()
        self._held = b""
        self.has_ended = False
        os.set_blocking(fd, False)

    def take(self) -> tuple[list[bytes], int]:
        """Read once; return the entries that are complete, and how many bytes were read."""
        try:
            chunk = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return [], 0
        if not chunk:
            self.has_ended = True
            return self.rest(), 0
        *lines, self._held = (self._held + chunk).split(b"\n")
        tail = self._tail + _now()  # a time for all: it is when they were read
        entries: list[bytes] = []
        for line in lines:
            if len(line) < MAX_ENTRY:
                entries.append(_entry(line + b"\n", tail))
            else:
                entries += _pieces(line + b"\n", tail)
        while len(self._held) > MAX_ENTRY:
            piece, self._held = _cut(self._held)
            entries.append(_entry(piece, tail))
        return entries, len(chunk)

    def rest(self) -> list[bytes]:
        """Return what is held back for a line's end that will not come."""
        held, self._held = self._held, b""
        return _pieces(held, self._tail + _now()) if held else []


def _pieces(line: bytes, tail: bytes) -> list[bytes]:
    entries: list[bytes] = []
    while len(line) > MAX_ENTRY:
        piece, line = _cut(line)
        entries.append(_entry(piece, tail))
    return [*entries, _entry(line, tail)]


def _entry(data: bytes, tail: bytes) -> bytes:
    # Bytes that are no UTF-8 become lone surrogates, which we read back as they were and Go as U+FFFD.
    text = data.decode("utf-8", "surrogateescape")
    try:
        value = encode_basestring(text).encode()
    except UnicodeEncodeError:
        value = encode_basestring_ascii(text).encode()
    return b'{"log":' + value + tail


def _cut(line: bytes) -> tuple[bytes, bytes]:
    """Split off a piece, not within a character."""
    end = MAX_ENTRY
    while end > MAX_ENTRY - 4 and line[end] & 0xC0 == 0x80:
        end -= 1
    return line[:end], line[end:]


def _now() -> bytes:
    """Return the end of an entry: the time, and what closes it."""
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return f'{_text(seconds)}.{nanos:09d}Z"}}\n'.encode()


@lru_cache(maxsize=1)
def _text(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class Logger:
    """Copies both streams to the file, and tells who asks when that is done."""

    def __init__(self, streams: list[Stream], log: LogFile, listener: socket.socket | None) -> None:
        self._streams = streams
        self._log = log
        self._listener = listener
        self._is_to_end = False
        self._wake, self._waker = os.pipe()
        for fd in (self._wake, self._waker):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._end_when_empty)

    def _end_when_empty(self, _number: int, _frame: object) -> None:
        self._is_to_end = True

    def run(self) -> None:
        """Copy until the streams have ended."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if self._listener is not None:
            poller.register(self._listener.fileno(), select.POLLIN)
        for stream in self._streams:
            poller.register(stream.fd, select.POLLIN)
        while self._streams:
            poller.poll()
            asked = self._asked()
            is_to_end = self._is_to_end
            self._drain(poller)
            for connection in asked:
                self._answer(connection)
            if is_to_end:
                break
        self._write_rest()

    def _write_rest(self) -> None:
        self._log.write([entry for stream in self._streams for entry in stream.rest()])

    def _asked(self) -> list[socket.socket]:
        connections: list[socket.socket] = []
        while self._listener is not None:
            try:
                connections.append(self._listener.accept()[0])
            except OSError:
                break
        return connections

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(1)
                if connection.recv(1) == HAS_ENDED:
                    self._write_rest()
            except OSError:
                pass  # it has not waited

    def _drain(self, poller: select.poll) -> None:
        """Take what is there, from both in turn; at least all that was there when it began."""
        left = PIPE_MAX
        has_more = True
        while has_more and left > 0:
            has_more = False
            for stream in list(self._streams):
                entries, count = stream.take()
                self._log.write(entries)
                if stream.has_ended:
                    poller.unregister(stream.fd)
                    self._streams.remove(stream)
                has_more = has_more or count > 0
            left -= CHUNK if has_more else 0


def _listen(folder: int, name: str) -> socket.socket | None:
    """Return a socket in the folder, or None where the file system has none."""
    path = f"/proc/self/fd/{folder}/{name}"  # a socket's path has at most 107 bytes
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        listener.bind(path)
        listener.listen(64)
    except OSError:
        listener.close()
        return None
    return listener


def _stop_listening(folder: int, name: str, own: os.stat_result | None) -> None:
    """Remove our socket, and not that of a logger of the same container's next task."""
    with suppress(FileNotFoundError):
        if own is not None and os.stat(name, dir_fd=folder).st_ino == own.st_ino:
            os.unlink(name, dir_fd=folder)


def main() -> None:
    """Log one container's output as the settings say."""
    settings = json.loads(sys.argv[1])
    os.umask(0o077)
    Path(settings["folder"]).mkdir(0o700, parents=True, exist_ok=True)
    folder = os.open(settings["folder"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    lock = os.open("logger-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    fcntl.flock(lock, fcntl.LOCK_SH)  # nerdctl takes it for itself to know that we have ended
    name = os.environ["CONTAINER_ID"] + "-json.log"
    log = LogFile(folder, name, settings["max_size"], settings["max_files"])
    log.open()
    listener = _listen(folder, name + SOCKET_SUFFIX)
    own = None if listener is None else os.stat(name + SOCKET_SUFFIX, dir_fd=folder)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    logger = Logger([Stream(STDOUT, "stdout"), Stream(STDERR, "stderr")], log, listener)
    os.write(READY, b"\x01")
    os.close(READY)
    logger.run()
    _stop_listening(folder, name + SOCKET_SUFFIX, own)


if __name__ == "__main__":
    main()
