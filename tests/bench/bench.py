"""Side by side with `ctr` and with stock grpclib, in one run: `nox -s bench -- [--line 2.1] [--only pull,run]`."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs
import grpclib.client

from containerd_py import Client, connect, open_daemon
from containerd_py.daemon import Daemon
from containerd_py.testing.images import busybox_layout
from containerd_py.testing.layers import random_layers
from containerd_py.testing.registry import LocalRegistry, open_registry
from tests.bench import phases, records, starts, wire
from tests.bench.goals import CLIENT, LOCAL, PULL, PULL_OF_OLD, TRANSFER, table
from tests.bench.measuring import Comparison, Job, compare
from tests.bench.registries import pushing, ranged

DAEMONS = Path(__file__).parents[2] / ".cache" / "daemons"
MIB = 2**20
NAMESPACE = "bench"


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

    async def ctr(self, *arguments: str) -> None:
        """Run ctr on the daemon; its output is thrown away."""
        command = [str(self.ctr_path), "--address", self.daemon.address, "--namespace", NAMESPACE, *arguments]
        await anyio.run_process(command, stdout=-3, stderr=-1)

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


async def pulling(bench: Bench) -> list[Comparison]:
    """Pull 8 layers of 64 MiB, and 60 small ones."""
    results = []
    for title, count, size in (("8 x 64 MiB", 8, 64 * MIB), ("60 x 64 KiB", 60, 64 * 1024)):
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

        # Before 2.0 ctr pulls by itself, as we do: that is what is compared there.
        is_old = bench.daemon.version.startswith("1.")
        baseline = PULL_OF_OLD if is_old else PULL
        jobs = {CLIENT: client_side, baseline: ctr}
        if not is_old:
            jobs |= {TRANSFER: transfer, LOCAL: ctr_local}
        comparison = await compare(
            f"pull of {title} layers, unpacked",
            jobs,
            baseline=baseline,
            runs=bench.runs,
            reset=bench.forget_images,
        )
        results.append(comparison)
    return results


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


# What goals are set for (tests.bench.goals), in about ten minutes; and the rest, with --all.
MEASUREMENTS = {
    "codec": records.codecs,
    "records": records.containers,
    "imports": records.imports,
    "unary": wire.unary,
    "content": wire.content,
    "pull": pulling,
    "run": starts.running,
    "exec": starts.exec_latency,
    "phases": phases.phases,
    "stats": phases.stats,
    "fifo": starts.fifo,
}
MORE = {
    "many": records.many,
    "ranged": ranged,
    "push": pushing,
    "archives": archives,
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


def write_table(page: Path, lines: list[str]) -> None:
    """Put a table into a page of the documentation, between its marks."""
    before, begin, rest = page.read_text().partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end of table -->")
    assert begin and end, f"{page} has no place for a table"
    page.write_text("\n".join([before + begin, *lines, "", end + after]))


async def main(lines: list[str], only: list[str], runs: int, page: Path | None) -> None:
    """Measure and print; the table of goals comes last."""
    for line in lines:
        compared: list[Comparison] = []
        async with prepared(line, runs) as bench:
            heading = f"containerd {bench.daemon.version}, {runs} interleaved runs, {os.cpu_count()} cores"
            print(f"\n=== {heading}", flush=True)
            for name in only:
                measured: Any = await (MEASUREMENTS | MORE)[name](bench)
                for result in measured if isinstance(measured, list) else [measured]:
                    print("\n".join(result.rows()), flush=True)
                    compared += [result] if isinstance(result, Comparison) else []
        rows = [f"{heading}:", "", *table(compared)]
        print("\n".join(["", *rows]), flush=True)
        if page is not None:
            write_table(page, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--line", action="append", choices=["1.6", "1.7", "2.1"], help="default: 2.1")
    parser.add_argument("--only", default="", help=f"comma-separated, of: {', '.join(MEASUREMENTS | MORE)}")
    parser.add_argument("--all", action="store_true", help=f"also {', '.join(MORE)}")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", type=Path, help="a page of the documentation to put the table into")
    arguments = parser.parse_args()
    chosen = [name for name in arguments.only.split(",") if name]
    default = [*MEASUREMENTS, *(MORE if arguments.all else ())]
    anyio.run(main, arguments.line or ["2.1"], chosen or default, arguments.runs, arguments.write)
