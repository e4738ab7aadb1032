"""The phases of a container's life, one by one, and samples of what it uses, beside `ctr`."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from containerd_py.container import Container
from containerd_py.image import Image
from tests.bench.measuring import Comparison, compare
from tests.bench.starts import busybox

if TYPE_CHECKING:  # it imports this module
    from tests.bench.bench import Bench

SLEEP = ["/bin/sleep", "1000"]
SAMPLES = 20
Step = tuple[str, Callable[[], Awaitable[object]]]


async def phases(bench: Bench) -> list[Comparison]:
    """Create a container, start its task, kill and delete both: each phase's time, of interleaved lives."""
    seconds: dict[str, dict[str, list[float]]] = {}
    async with busybox(bench) as image:
        for turn in range(3 * bench.runs + 1):
            lives = {"containerd_py": _our_life(bench, image), "ctr": _life_by_ctr(bench, image)}
            for way in sorted(lives, reverse=bool(turn % 2)):
                for phase, step in lives[way]:
                    began = time.perf_counter()
                    await step()
                    if turn:  # the first one warms up
                        seconds.setdefault(phase, {}).setdefault(way, []).append(time.perf_counter() - began)
    return [Comparison(f"one container: {phase}", "ctr", taken) for phase, taken in seconds.items()]


def _our_life(bench: Bench, image: Image) -> list[Step]:
    containers: list[Container] = []

    async def create() -> None:
        containers.append(await bench.client.create_container(image=image, args=SLEEP))

    async def start() -> None:
        await (await containers[0].create_task()).start()

    async def delete() -> None:
        await (await containers[0].load_task()).delete(force=True)
        await containers[0].delete()

    return [("create", create), ("start", start), ("kill and delete", delete)]


def _life_by_ctr(bench: Bench, image: Image) -> list[Step]:
    name = f"ctr-{os.urandom(6).hex()}"

    async def create() -> None:
        await bench.ctr("containers", "create", image.name, name, *SLEEP)

    async def start() -> None:
        await bench.ctr("tasks", "start", "--detach", name)

    async def delete() -> None:
        await bench.ctr("tasks", "delete", "--force", name)
        await bench.ctr("containers", "delete", name)

    return [("create", create), ("start", start), ("kill and delete", delete)]


async def stats(bench: Bench) -> Comparison:
    """Ask 20 times what a task uses."""
    async with busybox(bench) as image, bench.client.open_run(image, SLEEP) as task:

        async def ours() -> None:
            for _ in range(SAMPLES):
                await task.metrics()

        async def ctr() -> None:
            for _ in range(SAMPLES):
                await bench.ctr("tasks", "metrics", task.id)

        return await compare(
            f"{SAMPLES} samples of a task's metrics",
            {"containerd_py": ours, "ctr tasks metrics": ctr},
            baseline="ctr tasks metrics",
            runs=bench.runs,
        )
