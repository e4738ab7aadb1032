"""Messages, records and imports: what Python itself costs, apart from the wire."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
import grpc.aio

from containerd_py import for_each
from containerd_py._generated.containerd.services.containers.v1 import Container, ContainerRuntime
from containerd_py._generated.google.protobuf import Any as WireAny
from containerd_py._generated.google.protobuf import Timestamp as WireTimestamp
from containerd_py.services.containers import ContainerRecord, Runtime
from containerd_py.services.images import ImageRecord
from containerd_py.types import Descriptor
from containerd_py.typeurl import RUNC_OPTIONS, RUNTIME_SPEC, TypedValue
from tests.bench.measuring import Comparison, compare
from tests.harness import protobuf_reference as google
from tests.harness.stock_messages import stock_messages

if TYPE_CHECKING:
    from tests.bench.bench import Bench

CONTAINERS: Final = 1000
MANY: Final = 10_000
SPEC: Final = b'{"ociVersion":"1.0.2","annotations":{"a":"' + b"x" * 6000 + b'"}}'
LABELS: Final = {"io.containerd.image.config.stop-signal": "SIGTERM", "team": "infrastructure"}
REPLY: Final = "containerd.services.containers.v1.ListContainersResponse"
REQUEST: Final = "containerd.services.containers.v1.ListContainersRequest"
DIGEST: Final = "sha256:" + "a" * 64

# A line each: the interpreter's start is left out, reading compiled modules from disk is not.
IMPORTS: Final = {
    "asyncio and anyio": "import asyncio, anyio",
    "containerd_py": "import containerd_py",
    "a name that needs nothing": "from containerd_py import NotFoundError",
    "connect": "from containerd_py import connect",
    "everything": "from containerd_py import *",
    "grpc.aio": "import grpc.aio",
}
MEMORY: Final = """
import sys
from pathlib import Path

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4

import anyio, asyncio
start = resident()
from containerd_py import connect
imported = resident()

async def main():
    async with connect(sys.argv[1]) as client:
        connected = resident()
        await client.images.list()
        print(start, imported, connected, resident())

anyio.run(main)
"""


@attrs.frozen
class Facts:
    """Figures that are no comparison."""

    title: str
    lines: list[str]

    def rows(self) -> list[str]:
        """Return the lines to print."""
        return [self.title, *(f"    {line}" for line in self.lines)]


async def codecs(bench: Bench) -> list[Comparison]:
    """Decode and encode a list of 1,000 containers: three decoders, three encoders."""
    ours = google.our_class(REPLY)
    theirs = google.google_class(REPLY)
    message = ours(containers=[_container(number) for number in range(CONTAINERS)])
    data = bytes(message)
    results = []
    with tempfile.TemporaryDirectory() as folder, stock_messages(Path(folder)) as stock:
        stock_message, their_message = stock(REPLY).parse(data), theirs.FromString(data)
        for verb, jobs in {
            "decode": {
                "containerd_py": lambda: ours.parse(data),
                "betterproto2": lambda: stock(REPLY).parse(data),
                "protobuf (upb, C)": lambda: theirs.FromString(data),
            },
            "encode": {
                "containerd_py": lambda: bytes(message),
                "betterproto2": lambda: bytes(stock_message),
                "protobuf (upb, C)": lambda: their_message.SerializeToString(),
            },
        }.items():
            comparison = await compare(
                f"{verb} a list of 1,000 containers",
                {name: _async(job) for name, job in jobs.items()},
                baseline="betterproto2",
                runs=2 * bench.runs + 1,
                note=f"{len(data) / 1e6:.1f} MB; CPU time",
                clock=time.process_time,
            )
            results.append(comparison)
    return results


async def containers(bench: Bench) -> list[Comparison]:
    """List 1,000 containers from the daemon: typed records, and the messages of other stacks."""
    client = bench.client.in_namespace("bench-records")
    await for_each(range(CONTAINERS), lambda number: client.containers.create(_record(number)), limit=20)
    request, reply = google.google_class(REQUEST), google.google_class(REPLY)
    options = [("grpc.max_receive_message_length", -1)]
    results = []
    async with grpc.aio.insecure_channel(f"unix:{bench.daemon.address}", options=options) as channel:
        call: Any = channel.unary_unary(
            "/containerd.services.containers.v1.Containers/List",
            request_serializer=request.SerializeToString,
            response_deserializer=reply.FromString,
        )
        metadata = [("containerd-namespace", "bench-records")]

        async def streamed() -> None:
            async with client.containers.open_list() as found:
                assert len([record async for record in found]) == CONTAINERS

        async def aio() -> None:
            assert len((await call(request(), metadata=metadata)).containers) == CONTAINERS

        async def listed() -> None:
            assert len(await client.containers.list()) == CONTAINERS

        jobs = {"containerd_py, records": listed, "the same, streamed": streamed, "grpcio.aio, messages": aio}
        for clock, what in ((time.perf_counter, "elapsed"), (time.process_time, "CPU time of the client")):
            comparison = await compare(
                "list 1,000 containers",
                jobs,
                baseline="grpcio.aio, messages",
                runs=2 * bench.runs + 1,
                note=what,
                clock=clock,
            )
            results.append(comparison)
    await for_each(range(CONTAINERS), lambda number: client.containers.delete(f"c{number}"), limit=20)
    return results


async def many(bench: Bench) -> Facts:
    """List 10,000 images, snapshots and blobs, and tell how long the event loop was kept from everybody else."""
    target = Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest=DIGEST, size=1000)
    async with bench.client.in_namespace("bench-many").hold_lease() as client:
        snapshots = client.snapshotter("native")

        async def make(number: int) -> None:
            await client.images.create(ImageRecord(name=f"registry.example/{number}", target=target, labels=LABELS))
            await snapshots.prepare(f"bench-{number}", labels=LABELS)
            async with client.content.open_writer(f"bench-{number}") as writer:
                await writer.write(b"%d" % number)
                await writer.commit(labels=LABELS)

        async def unmake(number: int) -> None:
            await client.images.delete(f"registry.example/{number}")
            await snapshots.remove(f"bench-{number}")

        await for_each(range(MANY), make, limit=20)
        lines = [
            await _with_lag("images", client.images.list, bench.runs),
            await _with_lag("snapshots", snapshots.list, bench.runs),
            await _with_lag("blobs", client.content.list, bench.runs),
        ]
        await for_each(range(MANY), unmake, limit=20)
        for info in await client.content.list():
            await client.content.delete(info.digest)
    return Facts(f"lists of {MANY:,}, as typed records", lines)


async def imports(bench: Bench) -> list[Comparison | Facts]:
    """Import in new interpreters, in turn; and the memory of a client that does nothing.

    Modules have been compiled before, as they are where a package was installed, whatever the environment says.
    """
    seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(bench.folder / "compiled")
    for turn in range(bench.runs + 1):
        for name, code in IMPORTS.items():
            timed = f"import time\nbegan = time.process_time()\n{code}\nprint(time.process_time() - began)"
            run = await anyio.run_process([sys.executable, "-c", timed], stderr=subprocess.PIPE, env=env)
            if turn:
                seconds[name].append(float(run.stdout))
    command = [sys.executable, "-c", MEMORY, bench.daemon.address]
    samples = [(await anyio.run_process(command, env=env)).stdout.split() for _ in range(bench.runs)]
    start, imported, connected, used = (
        statistics.median(int(sample[i]) for sample in samples) / 1024 for i in range(4)
    )
    memory = Facts(
        "resident memory of an idle client",
        [
            f"{start:.1f} MiB with asyncio and anyio, {imported - start:+.1f} by importing `connect`",
            f"{connected - imported:+.1f} MiB by connecting, {used - connected:+.1f} by a first list",
            f"{connected:.1f} MiB in all once connected",
        ],
    )
    return [Comparison("import, CPU time", "asyncio and anyio", seconds), memory]


def _container(number: int) -> Container:
    moment = WireTimestamp(seconds=1_700_000_000 + number, nanos=123_456_789)
    return Container(
        id=f"c{number}",
        labels=LABELS,
        image="docker.io/library/busybox:latest",
        runtime=ContainerRuntime(
            name="io.containerd.runc.v2", options=WireAny(type_url=RUNC_OPTIONS, value=b"\x08\x01")
        ),
        spec=WireAny(type_url=RUNTIME_SPEC, value=SPEC),
        snapshotter="overlayfs",
        snapshot_key=f"c{number}",
        created_at=moment,
        updated_at=moment,
    )


def _record(number: int) -> ContainerRecord:
    return ContainerRecord(
        id=f"c{number}",
        labels=LABELS,
        image="docker.io/library/busybox:latest",
        runtime=Runtime(name="io.containerd.runc.v2", options=TypedValue(type_url=RUNC_OPTIONS, value=b"\x08\x01")),
        spec=TypedValue(type_url=RUNTIME_SPEC, value=SPEC),
        snapshotter="overlayfs",
        snapshot_key=f"c{number}",
    )


def _async(job: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def run() -> None:
        job()

    return run


async def _with_lag(what: str, job: Callable[[], Awaitable[list[Any]]], runs: int) -> str:
    elapsed, longest = [], []
    for _ in range(runs):
        async with _lag() as lags:
            began = time.perf_counter()
            found = await job()
            elapsed.append(time.perf_counter() - began)
        assert len(found) >= MANY
        longest.append(max(lags))
    seconds, lag = statistics.median(elapsed), statistics.median(longest)
    return f"{what:10} {seconds:.3f} s, {lag * 1000:.1f} ms of CPU time at most without a turn for others"


@asynccontextmanager
async def _lag() -> AsyncIterator[list[float]]:
    lags = [0.0]

    async def watch() -> None:
        while True:
            began = time.thread_time()  # CPU time: what others on the machine do is not the loop's fault
            await anyio.sleep(0)
            lags.append(time.thread_time() - began)

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await anyio.sleep(0)
        yield lags
        group.cancel_scope.cancel()
