"""Print what the running containers use, again and again; with --demo, of two that are started for it."""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack

import anyio
from anyio.abc import TaskStatus

from containerd_py import Client, NotFoundError, Stats, Task, TaskState, connect


async def running(client: Client) -> list[Task]:
    tasks = []
    for container in await client.list_containers():
        try:
            task = await container.load_task()
            if (await task.status()).state is TaskState.RUNNING:
                tasks.append(task)
        except NotFoundError:
            continue  # it has no task, or had
    return tasks


async def follow(task: Task, latest: dict[str, Stats], interval: float, *, task_status: TaskStatus[None]) -> None:
    async with task.stats(interval=interval) as samples:
        first = await anext(samples, None)
        task_status.started()
        if first is not None:
            latest[task.id] = first
            async for stats in samples:
                latest[task.id] = stats
    latest.pop(task.id, None)  # it has ended


async def show(client: Client, rounds: int, interval: float) -> None:
    latest: dict[str, Stats] = {}
    async with anyio.create_task_group() as group:
        for task in await running(client):
            await group.start(follow, task, latest, interval)
        for _ in range(rounds):
            print(f"{'CONTAINER':<14}{'CPU %':>8}{'MEMORY':>12}{'PIDS':>6}")
            for name, stats in sorted(latest.items()):
                print(f"{name[:12]:<14}{stats.cpu_percent:>8.1f}{stats.memory // 1024:>8} KiB{stats.pids:>6}")
            await anyio.sleep(interval)
        group.cancel_scope.cancel()


async def main(address: str | None, image: str, rounds: int, interval: float, *, is_demo: bool) -> None:
    async with connect(address) as client, AsyncExitStack() as started:
        if is_demo:
            made = await client.ensure_image(image)
            for name, command in (("busy", "while true; do :; done"), ("idle", "sleep 1000")):
                await started.enter_async_context(client.open_run(made, ["sh", "-c", command], id=name))
        await show(client, rounds, interval)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="containerd's socket; default: as connect() finds it")
    parser.add_argument("--image", default="docker.io/library/alpine:3.20")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds")
    parser.add_argument("--demo", action="store_true", help="start two containers and show them")
    arguments = parser.parse_args()
    anyio.run(
        lambda: main(arguments.address, arguments.image, arguments.rounds, arguments.interval, is_demo=arguments.demo)
    )
