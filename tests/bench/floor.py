"""What a daemon takes for a call, whatever its client: the client's own bytes, sent again with nothing else to do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Final

import attrs

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER: Final = 9  # bytes of a frame's
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK = 1, 1
INITIAL_WINDOW: Final = 65535
INITIAL_WINDOW_SIZE: Final = 4
BURST: Final = 512 * 1024  # bytes sent at a time
SEND_BUFFER: Final = 1024 * 1024


@attrs.frozen
class Frame:
    """A frame and where it is."""

    kind: int
    flags: int
    stream: int
    begin: int
    end: int

    @property
    def size(self) -> int:
        """Bytes that count against the windows."""
        return self.end - self.begin - HEADER if self.kind == DATA else 0


def frames(data: bytes | bytearray | memoryview, begin: int) -> Iterator[Frame]:
    """Yield the whole frames from `begin` on."""
    while begin + HEADER <= len(data):
        end = begin + HEADER + int.from_bytes(data[begin : begin + 3], "big")
        if end > len(data):
            return
        stream = int.from_bytes(data[begin + 5 : begin + HEADER], "big")
        yield Frame(data[begin + 3], data[begin + 4], stream, begin, end)
        begin = end


class Recorder:
    """A socket between a client and a daemon that keeps what the client says on each connection."""

    def __init__(self, daemon: str, folder: Path) -> None:
        self.address = str(folder / "recorder.sock")
        self.said: list[bytearray] = []
        self._daemon = daemon
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.address)
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """End, once all clients have gone."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        Path(self.address).unlink()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            daemon = socket.socket(socket.AF_UNIX)
            daemon.connect(self._daemon)
            kept = bytearray()
            self.said.append(kept)
            for source, sink, record in ((client, daemon, kept), (daemon, client, None)):
                self._threads.append(threading.Thread(target=_forward, args=(source, sink, record)))
                self._threads[-1].start()


def _forward(source: socket.socket, sink: socket.socket, record: bytearray | None) -> None:
    while data := source.recv(1 << 20):
        if record is not None:
            record += data
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)


@contextmanager
def recorded(daemon: str, folder: Path) -> Iterator[Recorder]:
    """Lend a recorder; the block closes its clients."""
    recorder = Recorder(daemon, folder)
    try:
        yield recorder
    finally:
        recorder.close()


class Replay:
    """The longest call of a connection, to be sent again on connections of its own.

    Its headers must be literals that refer to none before them, as this package's are.
    """

    def __init__(self, said: bytes | bytearray) -> None:
        assert said.startswith(PREFACE)
        everything = list(frames(said, len(PREFACE)))
        amounts: dict[int, int] = {}
        for frame in everything:
            amounts[frame.stream] = amounts.get(frame.stream, 0) + frame.size
        self._stream = max(amounts, key=lambda stream: amounts[stream])
        call = [frame for frame in everything if frame.stream == self._stream and frame.kind in (HEADERS, DATA)]
        assert call[-1].flags & END_STREAM
        self._data = b"".join(said[frame.begin : frame.end] for frame in call)
        self._ends = list(accumulate(frame.end - frame.begin for frame in call))
        self._counted = list(accumulate(frame.size for frame in call))

    def __call__(self, address: str) -> None:
        """Send it, and return when the daemon has ended the call. Blocks."""
        with socket.socket(socket.AF_UNIX) as connection, memoryview(self._data) as data:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            connection.connect(address)
            connection.sendall(PREFACE + _frame(SETTINGS))
            answers = _Answers(connection, self._stream)
            begin = index = 0
            while index < len(self._ends):
                before = index
                while self._may_follow(index, begin, answers.allowed):
                    index += 1
                if index > before:
                    connection.sendall(data[begin : self._ends[index - 1]])
                    begin = self._ends[index - 1]
                answers.take(wait=index == before)
            while not answers.has_ended:
                answers.take(wait=True)

    def _may_follow(self, index: int, begin: int, allowed: int) -> bool:
        return index < len(self._ends) and self._counted[index] <= allowed and self._ends[index] - begin <= BURST


class _Answers:
    """What the daemon says meanwhile: only windows, pings and the end of the call are of interest."""

    def __init__(self, connection: socket.socket, stream: int) -> None:
        self._connection = connection
        self._windows = {0: INITIAL_WINDOW, stream: INITIAL_WINDOW}  # all that was ever allowed
        self._initial = INITIAL_WINDOW
        self._stream = stream
        self._rest = b""
        self.has_ended = False

    @property
    def allowed(self) -> int:
        """How many bytes of data may have been sent."""
        return min(self._windows.values())

    def take(self, *, wait: bool) -> None:
        """Take what has come."""
        try:
            received = self._connection.recv(1 << 16, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        assert received, "the daemon has gone"
        self._rest += received
        end = 0
        for frame in frames(self._rest, 0):
            self._heed(frame, self._rest[frame.begin + HEADER : frame.end])
            end = frame.end
        self._rest = self._rest[end:]

    def _heed(self, frame: Frame, payload: bytes) -> None:
        assert frame.kind not in (RST_STREAM, GOAWAY), payload
        if frame.kind == WINDOW_UPDATE and frame.stream in self._windows:
            self._windows[frame.stream] += int.from_bytes(payload, "big")
        elif frame.kind == PING and not frame.flags & ACK:
            self._connection.sendall(_frame(PING, ACK, payload))
        elif frame.kind == SETTINGS and not frame.flags & ACK:
            for begin in range(0, len(payload), 6):
                if int.from_bytes(payload[begin : begin + 2], "big") == INITIAL_WINDOW_SIZE:
                    initial = int.from_bytes(payload[begin + 2 : begin + 6], "big")
                    self._windows[self._stream] += initial - self._initial
                    self._initial = initial
            self._connection.sendall(_frame(SETTINGS, ACK))
        elif frame.kind == HEADERS and frame.flags & END_STREAM:
            self.has_ended = True


def _frame(kind: int, flags: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + bytes(4) + payload
