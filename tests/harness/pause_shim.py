"""A shim that runs sandboxes and nothing else, for daemons whose own shims run none: containerd starts it as a program.

A sandbox is one process that sleeps, as a pod's pause container is. Speaks ttrpc, containerd.runtime.sandbox.v1, on a
socket beside the daemon's. Needs the standard library alone, so that it starts quickly.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

HEADER = struct.Struct(">IIBB")  # length, stream, type, flags (ttrpc)
REQUEST, RESPONSE = 1, 2
NOT_FOUND, UNIMPLEMENTED = 5, 12
PREFIX = "containerd.runtime.sandbox.v1.Sandbox/"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
METRIC_TYPE, METRIC = "org.example.PauseMetrics", b"asleep"


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def field(number: int, value: int | str | bytes) -> bytes:
    """Encode one field of a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(data: bytes) -> dict[int, bytes]:
    """Decode a message's length-delimited fields; numbers are skipped."""
    found, position = {}, 0
    while position < len(data):
        key, position = read_varint(data, position)
        size, position = read_varint(data, position)
        if key & 7 == 2:
            found[key >> 3] = data[position : position + size]
            position += size
    return found


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, position


def timestamp(nanoseconds: int) -> bytes:
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return field(1, seconds) + field(2, nanos)


class PauseSandbox:
    """One sandbox and its process."""

    def __init__(self, name: str, leave: Callable[[], None]) -> None:
        self.name = name
        self.leave = leave
        self.process: subprocess.Popen[bytes] | None = None
        self.created_at = time.time_ns()
        self.exited_at = 0

    def answer(self, method: str) -> bytes:
        """Carry out a call and return the encoded answer."""
        return getattr(self, f"on_{method}")()

    def on_CreateSandbox(self) -> bytes:
        return b""

    def on_StartSandbox(self) -> bytes:
        self.process = subprocess.Popen(["sleep", "1000000"])
        return field(1, self.process.pid) + field(2, timestamp(self.created_at))

    def on_Platform(self) -> bytes:
        machine = platform.machine()
        return field(1, field(1, "linux") + field(2, ARCHITECTURES.get(machine, machine)))

    def on_PingSandbox(self) -> bytes:
        return b""

    def on_SandboxStatus(self) -> bytes:
        pid = 0 if self.process is None else self.process.pid
        state = "SANDBOX_NOTREADY" if self.exited_at or not pid else "SANDBOX_READY"
        times = field(5, timestamp(self.created_at)) + (field(6, timestamp(self.exited_at)) if self.exited_at else b"")
        return field(1, self.name) + field(2, pid) + field(3, state) + field(4, field(1, "is") + field(2, "it")) + times

    def on_SandboxMetrics(self) -> bytes:
        data = field(1, METRIC_TYPE) + field(2, METRIC)
        return field(1, field(1, timestamp(time.time_ns())) + field(2, self.name) + field(3, data))

    def on_WaitSandbox(self) -> bytes:
        code = self.process.wait() if self.process is not None else 0
        self.exited_at = self.exited_at or time.time_ns()
        return field(1, 128 - code if code < 0 else code) + field(2, timestamp(self.exited_at))

    def on_StopSandbox(self) -> bytes:
        if self.process is not None:
            self.process.kill()
            self.on_WaitSandbox()
        return b""

    def on_ShutdownSandbox(self) -> bytes:
        self.on_StopSandbox()
        threading.Timer(0.05, self.leave).start()
        return b""


def serve(connection: socket.socket, sandbox: PauseSandbox) -> None:
    """Answer the calls of one connection, each in a thread of its own: waiting holds nobody up."""
    stream = connection.makefile("rb")
    writing = threading.Lock()

    def respond(number: int, method: str) -> None:
        try:
            body = field(2, sandbox.answer(method))
        except AttributeError:
            body = field(1, field(1, UNIMPLEMENTED) + field(2, f"no {method} here"))
        with writing:
            connection.sendall(HEADER.pack(len(body), number, RESPONSE, 0) + body)

    while len(header := stream.read(HEADER.size)) == HEADER.size:
        length, number, kind, _ = HEADER.unpack(header)
        request = fields(stream.read(length))
        if kind == REQUEST:
            method = request[2].decode()
            threading.Thread(target=respond, args=(number, method), daemon=True).start()


def start(name: str) -> None:
    """Leave a server running and tell where it listens."""
    beside = Path(os.environ["TTRPC_ADDRESS"]).parent
    address = beside / f"pause-{hashlib.sha256(f'{Path.cwd()}{name}'.encode()).hexdigest()[:12]}.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen()
    if os.fork():
        print(json.dumps({"version": 2, "address": f"unix://{address}", "protocol": "ttrpc"}), flush=True)
        return
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)

    def leave() -> None:
        address.unlink(missing_ok=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, lambda *_: leave())
    sandbox = PauseSandbox(name, leave)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, sandbox), daemon=True).start()


if __name__ == "__main__":
    if sys.argv[-1] == "start":
        start(sys.argv[sys.argv.index("-id") + 1])
    # "delete" has nothing to clear away: an empty answer.
