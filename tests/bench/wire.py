"""Calls and content beside other clients of the same daemon: stock grpclib, grpcio.aio, and `ctr`."""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import grpc.aio

from containerd_py import Client, connect, for_each
from containerd_py._generated.containerd.services.content.v1 import (
    ContentStub,
    ReadContentRequest,
    WriteAction,
    WriteContentRequest,
)
from containerd_py._generated.containerd.services.version.v1 import VersionStub
from containerd_py.errors import NotFoundError
from tests.bench.floor import Replay, recorded
from tests.bench.measuring import Comparison, Job, compare
from tests.harness.protobuf_reference import google_class

if TYPE_CHECKING:  # it imports this module
    from tests.bench.bench import Bench

MIB = 2**20
SIZE = 256 * MIB
IN_FLIGHT = 4  # writes that grpcio.aio sends before it waits for an answer: as many as we do
METADATA = [("containerd-namespace", "bench")]
CONTENT, VERSION = "containerd.services.content.v1", "containerd.services.version.v1"


@asynccontextmanager
async def open_aio(bench: Bench) -> AsyncIterator[grpc.aio.Channel]:
    """Lend a channel of grpcio.aio without limits on messages."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"unix:{bench.daemon.address}", options=options) as channel:
        yield channel


async def unary(bench: Bench) -> list[Comparison]:
    """Version calls, one after the other and 50 at once: typed record, generated message, message of protobuf's C."""
    stock = VersionStub(bench.stock, metadata=bench.metadata)
    reply: Any = google_class("google.protobuf.Empty")
    async with open_aio(bench) as channel:
        call: Any = channel.unary_unary(
            f"/{VERSION}.Version/Version",
            request_serializer=reply.SerializeToString,
            response_deserializer=google_class(f"{VERSION}.VersionResponse").FromString,  # type: ignore[attr-defined]
        )

        async def aio() -> None:
            await call(reply(), metadata=METADATA)

        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "containerd_py": bench.client.version,
            "stock grpclib": stock.version,
            "grpcio.aio": aio,
        }

        def in_turn(call: Callable[[], Awaitable[object]]) -> Job:
            async def run() -> None:
                for _ in range(500):
                    await call()

            return run

        def at_once(call: Callable[[], Awaitable[object]]) -> Job:
            async def run() -> None:
                await for_each(range(2000), lambda _: call(), limit=50)

            return run

        runs = 2 * bench.runs + 1
        return [
            await compare(
                "unary: 500 Version calls in turn",
                {name: in_turn(call) for name, call in ways.items()},
                baseline="grpcio.aio",
                runs=runs,
            ),
            await compare(
                "unary: 2,000 Version calls, 50 at once",
                {name: at_once(call) for name, call in ways.items()},
                baseline="grpcio.aio",
                runs=runs,
            ),
        ]


async def content(bench: Bench) -> list[Comparison]:
    """Write and read a blob of 256 MiB; what a write sends, sent again by a thread, shows the daemon's own share."""
    data = os.urandom(SIZE)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    client = bench.client
    start_up = await _start_up(bench)

    async def reset() -> None:
        with suppress(NotFoundError):
            await client.content.delete(digest)
        await bench.collect()
        await anyio.to_thread.run_sync(os.sync)

    async def write(client: Client = client) -> None:
        async with client.content.open_writer("bench-write", total=SIZE, expected=digest) as writer:
            await writer.write(data)
            await writer.commit()

    await reset()
    with recorded(bench.daemon.address, bench.folder) as recorder:
        async with connect(recorder.address, namespace="bench") as through_recorder:
            await write(through_recorder)
    replay = Replay(max(recorder.said, key=len))

    async with open_aio(bench) as channel:
        with _in_memory(bench, data) as source:
            writing = await compare(
                "content write, 256 MiB",
                {
                    "containerd_py": write,
                    "its bytes sent again": lambda: anyio.to_thread.run_sync(replay, bench.daemon.address),
                    "stock grpclib": lambda: _stock_write(bench, data, digest),
                    "grpcio.aio": lambda: _aio_write(channel, data, digest),
                    "ctr content ingest": lambda: _ctr_write(bench, source, digest),
                },
                baseline="ctr content ingest",
                runs=bench.runs,
                reset=reset,
            )
        await reset()
        await write()
        reading = await compare(
            "content read, 256 MiB",
            {
                "containerd_py": lambda: _read(bench, digest),
                "stock grpclib": lambda: _stock_read(bench, digest),
                "grpcio.aio": lambda: _aio_read(channel, digest),
                "ctr content get": lambda: bench.ctr("content", "get", digest),
            },
            baseline="ctr content get",
            runs=bench.runs,
        )
    await reset()
    return [writing.without(start_up, "ctr content ingest"), reading.without(start_up, "ctr content get")]


async def _start_up(bench: Bench) -> float:
    """Return the seconds that `ctr` takes to do next to nothing."""
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        await bench.ctr("version")
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


class _in_memory:  # used as a function
    """Lends a file with some data in memory, or on disk where there is no such file system."""

    def __init__(self, bench: Bench, data: bytes) -> None:
        folder = Path("/dev/shm")
        self._path = (folder if folder.is_dir() else bench.folder) / f"containerd-py-bench-{os.getpid()}"
        self._data = data

    def __enter__(self) -> Path:
        self._path.write_bytes(self._data)
        return self._path

    def __exit__(self, *_: object) -> None:
        self._path.unlink()


async def _ctr_write(bench: Bench, source: Path, digest: str) -> None:
    promised = ("--expected-digest", digest, "--expected-size", str(SIZE))
    command = [str(bench.ctr_path), "-a", bench.daemon.address, "-n", "bench", "content", "ingest", *promised, "b"]
    with source.open("rb") as file:
        await anyio.run_process(command, stdin=file)


def _writes(data: bytes, digest: str, ref: str) -> list[WriteContentRequest]:
    requests = [
        WriteContentRequest(
            action=WriteAction.WRITE, ref=ref, total=SIZE, expected=digest, offset=at, data=data[at : at + MIB]
        )
        for at in range(0, SIZE, MIB)
    ]
    commit = WriteContentRequest(action=WriteAction.COMMIT, ref=ref, total=SIZE, expected=digest, offset=SIZE)
    return [*requests, commit]


async def _stock_write(bench: Bench, data: bytes, digest: str) -> None:
    stub = ContentStub(bench.stock, metadata=bench.metadata)
    committed = ""
    async for reply in stub.write(_writes(data, digest, "bench-stock")):
        committed = reply.digest or committed
    assert committed == digest


async def _aio_write(channel: grpc.aio.Channel, data: bytes, digest: str) -> None:
    make: Any = google_class(f"{CONTENT}.WriteContentRequest")
    call: Any = channel.stream_stream(
        f"/{CONTENT}.Content/Write",
        request_serializer=make.SerializeToString,
        response_deserializer=google_class(f"{CONTENT}.WriteContentResponse").FromString,  # type: ignore[attr-defined]
    )(metadata=METADATA)
    common = {"ref": "bench-aio", "total": SIZE, "expected": digest}
    unanswered = 0
    for at in range(0, SIZE, MIB):
        await call.write(make(action=1, offset=at, data=data[at : at + MIB], **common))
        unanswered += 1
        if unanswered == IN_FLIGHT:
            await call.read()
            unanswered -= 1
    await call.write(make(action=2, offset=SIZE, **common))
    await call.done_writing()
    committed = ""
    while (reply := await call.read()) is not grpc.aio.EOF:
        committed = reply.digest or committed
    assert committed == digest


async def _read(bench: Bench, digest: str) -> None:
    async with bench.client.content.open_reader(digest) as chunks:
        assert sum([len(chunk) async for chunk in chunks]) == SIZE


async def _stock_read(bench: Bench, digest: str) -> None:
    stub = ContentStub(bench.stock, metadata=bench.metadata)
    assert sum([len(reply.data) async for reply in stub.read(ReadContentRequest(digest=digest))]) == SIZE


async def _aio_read(channel: grpc.aio.Channel, digest: str) -> None:
    make: Any = google_class(f"{CONTENT}.ReadContentRequest")
    call: Any = channel.unary_stream(
        f"/{CONTENT}.Content/Read",
        request_serializer=make.SerializeToString,
        response_deserializer=google_class(f"{CONTENT}.ReadContentResponse").FromString,  # type: ignore[attr-defined]
    )
    assert sum([len(reply.data) async for reply in call(make(digest=digest), metadata=METADATA)]) == SIZE
