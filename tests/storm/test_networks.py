"""Networks under load and sudden death: addresses and ports are each container's own, and nothing stays."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import anyio
import pytest
from anyio import to_thread

from containerd_py import Client, Daemon, Image, NotFoundError, deleting, for_each
from tests.harness.network_host import NetworkHost, talk

CONTAINERS = 50
AT_ONCE = 10
ROUNDS = 6
SERVE = ["/bin/nc", "-ll", "-p", "80", "-e", "/bin/sh", "-c", "read line; hostname"]
SLEEP = ["/bin/sleep", "1000"]


async def reached(host: NetworkHost, port: int) -> str:
    """Ask the server behind a published port for its name, once it listens."""
    with anyio.fail_after(30):
        while True:
            with suppress(ConnectionRefusedError, ConnectionResetError):
                if answer := await to_thread.run_sync(talk, host.netns, "127.0.0.1", port):
                    return answer.decode().strip()
            await anyio.sleep(0.05)


@pytest.mark.lines("2.1")
@pytest.mark.timeout(1800)
async def test_fifty_containers_killed_at_random(
    networked: Client, busybox: Image, network_host: NetworkHost, note: Callable[[str], None]
) -> None:
    """50 containers, 10 at once, each reached by TCP at its own port, ended in random ways: nothing is left."""
    dice = random.Random(1)
    seen: list[tuple[str, str, int]] = []

    async def live(number: int) -> None:
        name = f"server-{number}"
        fate = dice.choice(["delete", "kill", "cancel", "cancel early"])
        with anyio.CancelScope() as scope:
            if fate == "cancel early":
                scope.deadline = anyio.current_time() + dice.uniform(0.1, 3)
            container = await networked.create_container(
                name, image=busybox, args=SERVE, hostname=name, network="bridge", ports=["127.0.0.1::80"]
            )
            async with deleting(container), deleting(await container.create_task()) as task:
                await task.start()
                (network,) = await container.networks()
                port = network.ports[0].host_port
                assert await reached(network_host, port) == name
                seen.append((name, str(network.addresses[0]), port))
                if fate == "kill":
                    await task.kill(signal.SIGKILL)
                    await task.wait()
                if fate == "cancel":
                    scope.cancel()

    began = anyio.current_time()
    await for_each(range(CONTAINERS), live, limit=AT_ONCE)
    note(f"{len(seen)} of {CONTAINERS} were reached, in {anyio.current_time() - began:.0f} s")
    assert len(seen) > CONTAINERS / 2
    assert network_host.left() == {}
    assert await networked.containers.list() == []


@pytest.mark.lines("2.1")
@pytest.mark.timeout(1800)
async def test_fifty_containers_at_the_same_time(
    networked: Client, busybox: Image, network_host: NetworkHost, note: Callable[[str], None]
) -> None:
    """50 containers that live at the same time have addresses and ports of their own, and know each other's names."""
    async with anyio.create_task_group() as group:
        held = anyio.Event()
        ready: list[tuple[str, str, int]] = []

        async def live(number: int) -> None:
            name = f"server-{number}"
            async with networked.open_run(
                busybox, SERVE, id=name, hostname=name, network="bridge", ports=["127.0.0.1::80"]
            ) as task:
                (network,) = await (await networked.load_container(name)).networks()
                port = network.ports[0].host_port
                assert await reached(network_host, port) == name
                ready.append((name, str(network.addresses[0]), port))
                if number == 0:
                    while len(ready) < CONTAINERS:
                        await anyio.sleep(0.1)
                    hosts = (await task.run_exec(["/bin/cat", "/etc/hosts"])).stdout.decode().splitlines()
                    told = {line.split()[1]: line.split()[0] for line in hosts if " server-" in line}
                    assert told == {name: address for name, address, _ in ready}
                    held.set()
                await held.wait()

        began = anyio.current_time()
        for number in range(CONTAINERS):
            group.start_soon(live, number)
    assert len({address for _, address, _ in ready}) == CONTAINERS
    assert len({port for _, _, port in ready}) == CONTAINERS
    note(f"{CONTAINERS} up and down in {anyio.current_time() - began:.0f} s")
    assert network_host.left() == {}


PROGRAM = """
import sys, anyio
from containerd_py import connect, for_each, deleting, NetworkSettings
async def main(address, namespace, data_root, folder):
    settings = NetworkSettings(conf_dir=f"{folder}/net.d", plugin_dirs=("/usr/lib/cni",), netns_dir=f"{folder}/netns",
        cache_dir=f"{folder}/results", lease_dir=f"{folder}/leases", host_netns=f"{folder}/host")
    async with connect(address, namespace=namespace, data_root=data_root, networks=settings) as client:
        (image,) = await client.list_images()
        async def live(number):
            container = await client.create_container(f"c-{number}", image=image, args=["/bin/sleep", "1000"],
                network="bridge", ports=["80", "53/udp"])
            async with deleting(container), deleting(await container.create_task()) as task:
                await task.start()
                await anyio.sleep(0.5)
        await for_each(range(50), live, limit=10)
anyio.run(main, *sys.argv[1:])
"""


@pytest.mark.lines("2.1")
@pytest.mark.timeout(1800)
async def test_a_program_killed_at_random(
    networked: Client,
    busybox: Image,
    network_host: NetworkHost,
    daemon: Daemon,
    namespace: str,
    note: Callable[[str], None],
) -> None:
    """A program with 10 containers under way is killed; whatever it left, another one takes down by public calls."""
    dice = random.Random(2)
    leftovers: set[str] = set()
    arguments = [daemon.address, namespace, network_host.data_root, network_host.folder]
    for _ in range(ROUNDS):
        program = subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, arguments)])
        await anyio.sleep(dice.uniform(1.5, 8))
        program.send_signal(signal.SIGKILL)
        await to_thread.run_sync(program.wait)
        leftovers |= set(network_host.left())
        for container in await networked.list_containers():
            with suppress(NotFoundError):
                await (await container.load_task()).delete(force=True)
            await container.delete()
        report = await networked.networks.reclaim()
        assert report.failures == ()
        assert network_host.left() == {}
        for lease in await networked.leases.list():  # which would expire
            await networked.leases.delete(lease.id, synchronous=True)
    note(f"left by {ROUNDS} programs, and gone: {', '.join(sorted(leftovers))}")
    assert leftovers
