"""Registries next to `ctr`: pushes, and one large layer in several ranges over connections that are slow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from containerd_py import Registry
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.testing.images import busybox_layout
from containerd_py.testing.layers import random_layers
from containerd_py.testing.registry import open_registry
from tests.bench.measuring import Comparison, Job, compare
from tests.harness.registry import BLOBS
from tests.harness.registry import open_registry as open_shaped_registry
from tests.harness.registry_actions import Slow

if TYPE_CHECKING:  # it imports this module
    from tests.bench.bench import Bench

MIB = 2**20
PIECE, PAUSE = 256 * 1024, 0.016  # bytes, and seconds between them: 16 MiB/s a connection at most
WAYS = (1, 2, 4, 8)


async def pushing(bench: Bench) -> list[Comparison]:
    """Push 4 layers of 64 MiB, and 40 small ones, to a registry that has none of them under the name."""
    results = []
    for title, count, size in (("4 x 64 MiB", 4, 64 * MIB), ("40 x 64 KiB", 40, 64 * 1024)):
        layout = busybox_layout(bench.folder / f"pushed-{count}", layers=random_layers(count, size))
        await bench.registry.push(layout, f"pushed-{count}")
        image = await bench.client.pull(bench.registry.reference(f"pushed-{count}"), unpack=False, via="client")
        async with open_registry() as target:
            numbers = iter(range(10**6))

            def fresh(target=target, numbers=numbers) -> str:
                return target.reference(f"fresh/number-{next(numbers)}")

            async def client_side(image=image, fresh=fresh) -> None:
                await bench.client.push(fresh(), source=image, via="client")

            async def transfer(image=image, fresh=fresh) -> None:
                await bench.client.push(fresh(), source=image, via="transfer")

            async def ctr(*way: str, image=image, fresh=fresh) -> None:
                await bench.ctr("image", "push", "--plain-http", *way, fresh(), image.name)

            async def ctr_local(ctr=ctr) -> None:
                await ctr("--local")

            jobs: dict[str, Job] = {"containerd_py client-side": client_side, "ctr image push": ctr}
            if not bench.daemon.version.startswith("1."):
                jobs |= {"containerd_py transfer": transfer, "ctr image push --local": ctr_local}
            results.append(await compare(f"push of {title} layers", jobs, baseline="ctr image push", runs=bench.runs))
        await bench.forget_images()
    return results


async def ranged(bench: Bench) -> list[Comparison]:
    """Pull one layer of 128 MiB in 1 to 8 ranges at once: at full speed, and at 16 MiB/s for each connection."""
    layout = busybox_layout(bench.folder / "one-layer", layers=random_layers(1, 128 * MIB))
    await bench.registry.push(layout, "one-layer")
    results = [await _ranges(bench, bench.registry.reference("one-layer"), "at full speed")]
    async with open_shaped_registry() as shaped:
        for manifest in layout.manifests:
            for blob in layout.blobs_of(manifest):
                shaped.add_blob(layout.blob(blob.digest).read_bytes(), repository="one-layer")
            data = layout.blob(manifest.digest).read_bytes()
            shaped.add_manifest(data, repository="one-layer", tag="latest", media_type=manifest.media_type)
        shaped.fault(Slow(PIECE, PAUSE), path=BLOBS)
        results.append(await _ranges(bench, shaped.reference("one-layer:latest"), "16 MiB/s a connection"))
    return results


async def _ranges(bench: Bench, ref: str, speed: str) -> Comparison:
    def pulling(ways: int) -> Job:
        registry = Registry(limits=RegistryLimits(layer_parallelism=ways))

        async def pull() -> None:
            await bench.client.pull(ref, unpack=False, registry=registry, via="client")

        return pull

    async def ctr() -> None:
        await bench.ctr("content", "fetch", "--plain-http", ref)

    jobs: dict[str, Job] = {f"containerd_py, {ways} at once": pulling(ways) for ways in WAYS}
    return await compare(
        f"fetch of one layer of 128 MiB, {speed}",
        {"ctr content fetch": ctr, **jobs},
        baseline="ctr content fetch",
        runs=bench.runs,
        reset=bench.forget_images,
    )
