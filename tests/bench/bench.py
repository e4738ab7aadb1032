"""Side by side with `ctr` and with stock grpclib, in one run: `nox -s bench -- [--line 2.1] [--only pull,run]`."""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import attrs
import grpclib.client

from containerd_py import Client, connect, for_each, open_daemon, open_fifos
from containerd_py._generated.containerd.services.containers.v1 import ContainersStub, ListContainersRequest
from containerd_py._generated.containerd.services.content.v1 import ContentStub, ReadContentRequest
from containerd_py._generated.containerd.services.version.v1 import VersionStub
from containerd_py.daemon import Daemon
from containerd_py.errors import NotFoundError
from containerd_py.services.containers import ContainerRecord, Runtime
from containerd_py.testing.images import busybox_layout
from containerd_py.testing.layers import random_layers
from containerd_py.testing.registry import LocalRegistry, open_registry
from containerd_py.typeurl import RUNTIME_SPEC, TypedValue
from tests.bench import records
from tests.bench.measuring import Comparison, Job, compare
from tests.bench.registries import pushing, ranged

DAEMONS = Path(__file__).parents[2] / ".cache" / "daemons"
MIB = 2**20
NAMESPACE = "bench"
Call = Callable[[], Awaitable[object]]


@attrs.frozen
class Bench:
    """What every measurement needs: a daemon, a client, ctr, and the machine to compare on."""

    daemon: Daemon
    client: Client
    stock: grpclib.client.Channel
    ctr_path: Path
    registry: LocalRegistry
    folder: Path
    runs: int

    async def ctr(self, *arguments: str, stdin: Path | None = None) -> None:
        """Run ctr on the daemon; its output is thrown away."""
        command = [str(self.ctr_path), "--address", self.daemon.address, "--namespace", NAMESPACE, *arguments]
        data = None if stdin is None else await anyio.Path(stdin).read_bytes()
        await anyio.run_process(command, input=data, stdout=-3, stderr=-1)

    async def forget_images(self) -> None:
        """Remove every image and wait until its content and snapshots are gone."""
        for image in await self.client.list_images():
            await image.delete()
        await self.collect()

    async def collect(self) -> None:
        """Run the garbage collection."""
        await self.client.leases.create("bench-collect")
        await self.client.leases.delete("bench-collect", synchronous=True)

    @property
    def metadata(self) -> dict[str, str]:
        """The namespace, for stock stubs."""
        return {"containerd-namespace": NAMESPACE}


async def unary(bench: Bench) -> Comparison:
    """200 Version calls, one after the other and 50 at once."""
    stock = VersionStub(bench.stock, metadata=bench.metadata)

    async def in_turn(call: Call) -> None:
        for _ in range(200):
            await call()

    async def at_once(call: Call) -> None:
        await for_each(range(200), lambda _: call(), limit=50)

    return await compare(
        "unary: 200 Version calls",
        {
            "containerd_py in turn": lambda: in_turn(bench.client.version),
            "stock grpclib in turn": lambda: in_turn(stock.version),
            "containerd_py 50 at once": lambda: at_once(bench.client.version),
            "stock grpclib 50 at once": lambda: at_once(stock.version),
        },
        baseline="stock grpclib in turn",
        runs=bench.runs,
    )


async def listing(bench: Bench) -> Comparison:
    """List 1,000 containers with specs of 6 kB."""
    client = bench.client.in_namespace("bench-list")
    spec = TypedValue(type_url=RUNTIME_SPEC, value=b'{"ociVersion":"1.0.2","annotations":{"a":"' + b"x" * 6000 + b'"}}')
    for number in range(1000):
        record = ContainerRecord(id=f"c{number}", runtime=Runtime(name="io.containerd.runc.v2"), spec=spec)
        await client.containers.create(record)
    stock = ContainersStub(bench.stock, metadata={"containerd-namespace": "bench-list"})

    async def ctr() -> None:
        command = [
            str(bench.ctr_path),
            "--address",
            bench.daemon.address,
            "-n",
            "bench-list",
            "containers",
            "list",
            "-q",
        ]
        await anyio.run_process(command)

    result = await compare(
        "list of 1,000 containers",
        {
            "containerd_py": client.containers.list,
            "stock grpclib, messages": lambda: stock.list(ListContainersRequest()),
            "ctr containers list": ctr,
        },
        baseline="ctr containers list",
        runs=bench.runs,
    )
    for number in range(1000):
        await client.containers.delete(f"c{number}")
    return result


async def content(bench: Bench) -> list[Comparison]:
    """Write and read a blob of 256 MiB."""
    size = 256 * MIB
    data = os.urandom(size)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    source = bench.folder / "blob"
    source.write_bytes(data)
    client = bench.client

    async def reset() -> None:
        with suppress(NotFoundError):
            await client.content.delete(digest)
        await bench.collect()

    async def write() -> None:
        async with client.content.open_writer("bench-write", total=size, expected=digest) as writer:
            await writer.write(data)
            await writer.commit()

    async def ctr_write() -> None:
        await bench.ctr(
            "content", "ingest", "--expected-digest", digest, "--expected-size", str(size), "b", stdin=source
        )

    writing = await compare(
        "content write, 256 MiB",
        {"containerd_py": write, "ctr content ingest": ctr_write},
        baseline="ctr content ingest",
        runs=bench.runs,
        reset=reset,
    )
    await reset()
    await write()
    stock = ContentStub(bench.stock, metadata=bench.metadata)

    async def read() -> None:
        async with client.content.open_reader(digest) as chunks:
            async for _ in chunks:
                pass

    async def stock_read() -> None:
        async for _ in stock.read(ReadContentRequest(digest=digest)):
            pass

    async def ctr_read() -> None:
        await bench.ctr("content", "get", digest)

    reading = await compare(
        "content read, 256 MiB",
        {"containerd_py": read, "stock grpclib": stock_read, "ctr content get": ctr_read},
        baseline="ctr content get",
        runs=bench.runs,
    )
    await reset()
    return [writing, reading]


async def pulling(bench: Bench) -> list[Comparison]:
    """Pull 8 layers of 64 MiB, and 40 small ones."""
    results = []
    for title, count, size in (("8 x 64 MiB", 8, 64 * MIB), ("40 x 64 KiB", 40, 64 * 1024)):
        layout = busybox_layout(bench.folder / f"layers-{count}", layers=random_layers(count, size))
        await bench.registry.push(layout, f"layers-{count}")
        ref = bench.registry.reference(f"layers-{count}")

        async def client_side(ref: str = ref) -> None:
            await bench.client.pull(ref, via="client")

        async def transfer(ref: str = ref) -> None:
            await bench.client.pull(ref, via="transfer")

        async def ctr(ref: str = ref) -> None:
            await bench.ctr("image", "pull", "--plain-http", ref)

        async def ctr_local(ref: str = ref) -> None:
            await bench.ctr("image", "pull", "--local", "--plain-http", ref)

        jobs = {"containerd_py client-side": client_side, "ctr image pull": ctr}
        if bench.client.supports("transfer") and not bench.daemon.version.startswith("1."):
            jobs |= {"containerd_py transfer": transfer, "ctr image pull --local": ctr_local}
        comparison = await compare(
            f"pull of {title} layers, unpacked",
            jobs,
            baseline="ctr image pull",
            runs=bench.runs,
            reset=bench.forget_images,
        )
        results.append(comparison)
    return results


async def running(bench: Bench) -> Comparison:
    """Run a container to its end and remove it."""
    layout = busybox_layout(bench.folder / "busybox")
    await bench.registry.push(layout, "busybox")
    ref = bench.registry.reference("busybox")
    image = await bench.client.pull(ref, via="client")
    counter = iter(range(10**6))

    async def ours() -> None:
        for _ in range(5):
            await bench.client.run(image, ["/bin/echo", "hello"])

    async def ctr() -> None:
        for _ in range(5):
            await bench.ctr("run", "--rm", ref, f"ctr-{next(counter)}", "/bin/echo", "hello")

    async def ours_at_once() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(bench.client.run, image, ["/bin/echo", "hello"])

    async def ctr_at_once() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                arguments = ("run", "--rm", ref, f"ctr-{next(counter)}", "/bin/echo", "hello")
                group.start_soon(bench.ctr, *arguments)

    return await compare(
        "5 containers run and removed",
        {
            "containerd_py in turn": ours,
            "ctr run --rm in turn": ctr,
            "containerd_py at once": ours_at_once,
            "ctr run --rm at once": ctr_at_once,
        },
        baseline="ctr run --rm in turn",
        runs=bench.runs,
    )


async def fifo(bench: Bench) -> Comparison:
    """Read 1 GiB through a container's stdout, and the same through a bare FIFO."""
    await bench.registry.push(busybox_layout(bench.folder / "fifo"), "busybox")
    image = await bench.client.ensure_image(bench.registry.reference("busybox"), via="client")
    size = 1024 * MIB

    async def container() -> None:
        async with bench.client.open_run(image, ["/bin/dd", "if=/dev/zero", "bs=1M", "count=1024"]) as task:
            await _drain(task.stdout, size)

    async def bare() -> None:
        async with open_fifos(stdin=False, stderr=False) as io:
            with Path(io.config.stdout).open("wb") as sink:
                process = await anyio.open_process(
                    ["dd", "if=/dev/zero", "bs=1M", "count=1024"], stdout=sink, stderr=-3
                )
            await io.release()
            async with process:
                await _drain(io.stdout, size)

    async def ctr() -> None:
        arguments = ("/bin/dd", "if=/dev/zero", "bs=1M", "count=1024")
        await bench.ctr("run", "--rm", bench.registry.reference("busybox"), f"fifo-{os.urandom(4).hex()}", *arguments)

    return await compare(
        "1 GiB through a task's stdout",
        {"containerd_py": container, "ctr run to /dev/null": ctr, "containerd_py, bare FIFO": bare},
        baseline="ctr run to /dev/null",
        runs=bench.runs,
    )


async def _drain(stream: AsyncIterator[bytes] | None, size: int) -> None:
    assert stream is not None
    count = 0
    async for chunk in stream:
        count += len(chunk)
    assert count == size, f"{count} bytes instead of {size}"


async def archives(bench: Bench) -> list[Comparison]:
    """Export an image of 8 layers of 64 MiB and one of 40 small ones, and import the archives, packed and unpacked."""
    results = []
    local = [] if bench.daemon.version.startswith("1.6") else ["--local"]
    has_transfer = bool(local) and not bench.daemon.version.startswith("1.")
    for title, count, size in (("8 x 64 MiB", 8, 64 * MIB), ("40 x 64 KiB", 40, 64 * 1024)):
        layout = busybox_layout(bench.folder / f"archived-{count}", layers=random_layers(count, size))
        await bench.registry.push(layout, f"archived-{count}")
        ref = bench.registry.reference(f"archived-{count}")
        ours, theirs = bench.folder / f"ours-{count}.tar", bench.folder / f"theirs-{count}.tar"
        await bench.client.pull(ref, via="client")

        async def export(via: str = "client", ref: str = ref, path: Path = ours) -> None:
            await bench.client.export_images(ref, path, via=via)  # type: ignore[arg-type]

        async def ctr_export(*way: str, ref: str = ref, path: Path = theirs) -> None:
            await bench.ctr("image", "export", *way, str(path), ref)

        async def load(via: str = "client", path: Path = ours, *, unpack: bool = False) -> None:
            await bench.client.import_images(path, via=via, unpack=unpack)  # type: ignore[arg-type]

        async def ctr_load(*way: str, path: Path = ours) -> None:
            await bench.ctr("image", "import", *way, str(path))

        exports: dict[str, Job] = {"containerd_py": export, "ctr image export": partial(ctr_export, *local)}
        packed = {"containerd_py": load, "ctr image import": partial(ctr_load, *local, "--no-unpack")}
        unpacked = {"containerd_py": partial(load, unpack=True), "ctr image import": partial(ctr_load, *local)}
        if has_transfer:
            exports |= {"containerd_py transfer": partial(export, "transfer"), "ctr transfer": ctr_export}
            packed |= {
                "containerd_py transfer": partial(load, "transfer"),
                "ctr transfer": partial(ctr_load, "--no-unpack"),
            }
        results.append(
            await compare(f"export of {title} layers", exports, baseline="ctr image export", runs=bench.runs)
        )
        for what, jobs in (("packed", packed), ("unpacked", unpacked)):
            comparison = await compare(
                f"import of {title} layers, {what}",
                jobs,
                baseline="ctr image import",
                runs=bench.runs,
                reset=bench.forget_images,
            )
            results.append(comparison)
        await bench.forget_images()
    return results


MEASUREMENTS = {
    "unary": unary,
    "list": listing,
    "codec": records.codecs,
    "records": records.containers,
    "many": records.many,
    "imports": records.imports,
    "content": content,
    "pull": pulling,
    "ranged": ranged,
    "push": pushing,
    "archives": archives,
    "run": running,
    "fifo": fifo,
}


@asynccontextmanager
async def prepared(line: str, runs: int) -> AsyncIterator[Bench]:
    """Start a daemon of the line and a registry, and connect to them both ways."""
    binaries = DAEMONS / line / "bin"
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(open_daemon(containerd=binaries / "containerd"))
        registry = await stack.enter_async_context(open_registry())
        client = await stack.enter_async_context(connect(daemon.address, namespace=NAMESPACE))
        stock = grpclib.client.Channel(path=daemon.address)
        stack.callback(stock.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield Bench(daemon, client, stock, binaries / "ctr", registry, folder, runs)


async def main(lines: list[str], only: list[str], runs: int) -> None:
    """Measure and print."""
    for line in lines:
        async with prepared(line, runs) as bench:
            print(
                f"\n=== containerd {bench.daemon.version}, {runs} interleaved runs, {os.cpu_count()} cores", flush=True
            )
            for name, measure in MEASUREMENTS.items():
                if only and name not in only:
                    continue
                measured = await measure(bench)
                for comparison in measured if isinstance(measured, list) else [measured]:
                    print("\n".join(comparison.rows()), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--line", action="append", choices=["1.6", "1.7", "2.1"], help="default: 2.1")
    parser.add_argument("--only", default="", help=f"comma-separated, of: {', '.join(MEASUREMENTS)}")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    chosen = [name for name in arguments.only.split(",") if name]
    anyio.run(main, arguments.line or ["2.1"], chosen, arguments.runs)
