"""Containers on networks, with the real plugins, in a network namespace of each test's own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
import attrs
import pytest
from anyio import to_thread

from containerd_py import (
    AlreadyExistsError,
    Cleanup,
    Client,
    CNIError,
    Container,
    FailedPreconditionError,
    Image,
    InvalidArgumentError,
    NotFoundError,
    UserNamespace,
    connect,
    deleting,
)
from containerd_py.cni.netns import in_netns
from tests.harness.network_host import NetworkHost, talk

SLEEP = ["/bin/sleep", "1000"]
# Answers every connection with its host name.
SERVE = ["/bin/nc", "-ll", "-p", "80", "-e", "/bin/sh", "-c", "read line; hostname"]


async def serving(task) -> None:
    """Wait until the server of a task listens."""
    with anyio.fail_after(20):
        while b":0050 " not in (await task.run_exec(["/bin/cat", "/proc/net/tcp", "/proc/net/tcp6"])).stdout:
            await anyio.sleep(0.05)


async def said(task, *command: str) -> str:
    return (await task.run_exec(list(command))).stdout.decode()


async def test_two_containers_reach_each_other_by_name(networked: Client, busybox: Image, network_host: NetworkHost):
    """Containers of a network find each other by host name and name, and no longer when one has gone."""
    await networked.networks.create("web", subnet="10.9.0.0/24")
    async with networked.open_run(busybox, SLEEP, name="asks", network="web") as asking:
        async with networked.open_run(busybox, SERVE, name="answers", hostname="server", network="web") as answering:
            await serving(answering)
            for name in ("answers", "server", "answers.web", "10.9.0.3"):
                assert await said(asking, "/bin/sh", "-c", f"echo | nc {name} 80") == "server\n"
            assert await said(answering, "/bin/cat", "/etc/hostname") == "server\n"
            assert "10.9.0.2        " in await said(answering, "/bin/cat", "/etc/hosts")
        assert "server" not in await said(asking, "/bin/cat", "/etc/hosts")
    await (await networked.networks.load("web")).delete()
    assert "br-" not in network_host.run("ip", "-o", "link")
    assert not any("br-" in rule for rule in network_host.rules())


@pytest.mark.lines("2.1")
async def test_ports_are_published_on_loopback(networked: Client, busybox: Image, network_host: NetworkHost):
    """A TCP client reaches a container at loopback, at the port named and at the one chosen; then no more."""
    ports = ["127.0.0.1:8080:80/tcp", "80"]
    async with networked.open_run(busybox, SERVE, id="server", network="bridge", ports=ports) as task:
        await serving(task)
        (network,) = await (await networked.load_container("server")).networks()
        named, chosen = network.ports
        assert (named.host_ip, named.host_port) == ("127.0.0.1", 8080)
        assert 49153 <= chosen.host_port <= 60999
        for port in (8080, chosen.host_port):
            assert await to_thread.run_sync(talk, network_host.netns, "127.0.0.1", port) == b"server\n"
        assert await to_thread.run_sync(talk, network_host.netns, "10.4.0.1", chosen.host_port) == b"server\n"
        with pytest.raises(ConnectionRefusedError):  # published on loopback alone
            await to_thread.run_sync(talk, network_host.netns, "10.4.0.1", 8080)
    with pytest.raises(ConnectionRefusedError):
        await to_thread.run_sync(talk, network_host.netns, "127.0.0.1", 8080)


@pytest.mark.lines("2.1")
async def test_datagrams_reach_published_ports(networked: Client, busybox: Image, network_host: NetworkHost):
    """A range of UDP ports is published one to one."""
    ports = ["127.0.0.1:7000-7001:5000-5001/udp"]
    async with deleting(
        await networked.create_container(image=busybox, args=SLEEP, network="bridge", ports=ports)
    ) as container:
        (network,) = await container.networks()
        with in_netns(Path(network.netns), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
            server.bind(("0.0.0.0", 5001))
            server.settimeout(10)

            def echo() -> None:
                data, sender = server.recvfrom(100)
                server.sendto(data, sender)

            async with anyio.create_task_group() as group:
                group.start_soon(to_thread.run_sync, echo)
                answer = await to_thread.run_sync(partial(talk, network_host.netns, "127.0.0.1", 7001, udp=True))
        assert answer == b"ping\n"


@pytest.mark.lines("2.1")
async def test_a_taken_port_is_refused(networked: Client, busybox: Image, network_host: NetworkHost):
    """What another container publishes is not published again; nothing is left of the attempt."""
    ports = ["127.0.0.1:8080:80"]
    async with networked.open_run(busybox, SERVE, id="first", network="bridge", ports=ports) as task:
        await serving(task)
        with pytest.raises(AlreadyExistsError, match="8080"):
            await networked.create_container(image=busybox, args=SLEEP, network="bridge", ports=["8080:80"])
        other = await networked.create_container(
            image=busybox, network="bridge", ports=["127.0.0.2:8080:80", "8080:80/udp"]
        )
        await other.delete()
        assert await to_thread.run_sync(talk, network_host.netns, "127.0.0.1", 8080) == b"first\n"


async def test_a_container_keeps_its_network_from_task_to_task(networked: Client, busybox: Image):
    """Another task of a container has the same namespace, address and names."""
    async with deleting(await networked.create_container(image=busybox, args=SLEEP, network="bridge")) as container:
        seen = []
        for _ in range(2):
            async with deleting(await container.create_task()) as task:
                await task.start()
                seen.append((await said(task, "/bin/ip", "-o", "address"), await said(task, "/bin/cat", "/etc/hosts")))
        (network,) = await container.networks()
        assert seen[0] == seen[1]
        assert str(network.addresses[0]) in seen[0][0]
        await container.check_networks()


@pytest.mark.lines("2.1")
async def test_networks_come_back_after_a_reboot(networked: Client, busybox: Image, network_host: NetworkHost):
    """Where the namespace has gone with the host's memory, the next task finds a new one, attached as before."""
    async with deleting(
        await networked.create_container(id="booted", image=busybox, args=SERVE, network="bridge", ports=["8080:80"])
    ) as container:
        (before,) = await container.networks()
        network_host.run("umount", before.netns)
        network_host.run("iptables", "-t", "nat", "-F")
        with pytest.raises(CNIError):
            await container.check_networks()
        async with deleting(await container.create_task()) as task:
            await task.start()
            await serving(task)
            (after,) = await container.networks()
            assert after.ports == before.ports
            assert await to_thread.run_sync(talk, network_host.netns, "127.0.0.1", 8080) == b"booted\n"


@pytest.mark.lines("2.1")
async def test_several_networks_and_addresses_of_ones_own(networked: Client, busybox: Image):
    """A container is on each network it names, in their order, with the address and MAC it wants."""
    front = await networked.networks.create("front", subnet="10.9.1.0/24")
    await networked.networks.create("back", subnet=["10.9.2.0/24", "fd00:9::/64"], ipv6=True, internal=True)
    options = {"network": [front, "back"], "ip": ["10.9.2.77", "fd00:9::77"], "mac": "02:42:ac:11:00:02"}
    async with networked.open_run(busybox, SLEEP, id="both", **options) as task:
        shown = await said(task, "/bin/ip", "-o", "address")
        one, two = await (await networked.load_container("both")).networks()
        assert (one.network, one.interface, one.mac) == ("front", "eth0", "02:42:ac:11:00:02")
        assert [str(address) for address in two.addresses] == ["10.9.2.77", "fd00:9::77"]
        assert re.search(r"eth1 +inet 10\.9\.2\.77/24", shown)
        assert re.search(r"eth1 +inet6 fd00:9::77/64", shown)
        assert "default via 10.9.1.1 dev eth0" in await said(task, "/bin/ip", "route")
    assert sorted(await networked.networks.prune()) == ["back", "front"]


@pytest.mark.lines("2.1")
@pytest.mark.parametrize("driver", ["macvlan", "ptp"])
async def test_other_drivers(networked: Client, busybox: Image, network_host: NetworkHost, driver: str):
    """A network may be on an interface of the host's, or a link of each container's own."""
    network_host.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "wall")
    network_host.run("ip", "link", "set", "lan", "up")
    parent = None if driver == "ptp" else "lan"
    network = await networked.networks.create("lan", driver=driver, parent=parent, subnet="10.9.3.0/24", mtu=1400)
    async with networked.open_run(busybox, SLEEP, network=network) as task:
        shown = await said(task, "/bin/ip", "-o", "address", "show", "dev", "eth0")
        assert "inet 10.9.3." in shown
        assert "mtu 1400" in await said(task, "/bin/ip", "-o", "link", "show", "dev", "eth0")
    await network.delete()
    network_host.run("ip", "link", "delete", "lan")


@pytest.mark.lines("2.1")
async def test_a_network_of_another_container(networked: Client, busybox: Image):
    """A container in another one's namespace has its interfaces, hosts and host name, wherever that one's task is."""
    async with (
        deleting(
            await networked.create_container("owner", image=busybox, args=SLEEP, network="bridge", hostname="shared")
        ) as owner,
        networked.open_run(busybox, SLEEP, network="container:owner") as task,
    ):
        (network,) = await owner.networks()
        assert f"inet {network.addresses[0]}/24" in await said(task, "/bin/ip", "-o", "address")
        assert await said(task, "/bin/hostname") == "shared\n"
        assert " shared" in await said(task, "/bin/cat", "/etc/hosts")
    plain = await networked.create_container("plain", image=busybox, args=SLEEP)
    with pytest.raises(FailedPreconditionError, match="start it"):
        await networked.create_container(image=busybox, args=SLEEP, network="container:plain")
    async with deleting(plain):
        task = await plain.create_task()
        await task.start()
        guest = await networked.create_container(image=busybox, args=SLEEP, network="container:plain")
        await task.delete(force=True)
        async with deleting(await plain.create_task()) as task, deleting(guest):
            await task.start()
            async with deleting(await guest.create_task()) as other:
                await other.start()
                links = [Path(f"/proc/{pid}/ns/net").readlink() for pid in (task.pid, other.pid)]
                assert links[0] == links[1]


@pytest.mark.lines("2.1")
@pytest.mark.parametrize("network", [None, "host", "bridge"])
async def test_names_without_plugins(networked: Client, busybox: Image, network: str | None):
    """Host name, resolvers and extra hosts are told in every kind of network; loopback resolvers only on the host's."""
    options = {
        "hostname": "named",
        "dns": ["10.0.0.53"],
        "dns_search": ["example.org"],
        "dns_options": ["ndots:2"],
        "extra_hosts": {"db": "10.0.0.5"},
    }
    async with networked.open_run(busybox, SLEEP, network=network, **options) as task:
        assert await said(task, "/bin/hostname") == "named\n"
        resolver = await said(task, "/bin/cat", "/etc/resolv.conf")
        assert resolver == "search example.org\nnameserver 10.0.0.53\noptions ndots:2\n"
        hosts = await said(task, "/bin/cat", "/etc/hosts")
        assert "10.0.0.5        db\n" in hosts
        assert hosts.count("127.0.0.1") == 1


@pytest.mark.lines("2.1")
async def test_options_that_do_not_go_together(networked: Client, busybox: Image):
    """What cannot work is refused before anything is made, with the option's name."""
    await networked.networks.create("shut", internal=True)
    wrong = [
        ({"network": "host", "ports": ["80"]}, InvalidArgumentError, "ports"),
        ({"network": ["host", "bridge"]}, InvalidArgumentError, "joined"),
        ({"network": ["bridge", "bridge"]}, InvalidArgumentError, "once"),
        ({"network": "bridge", "namespaces": {"network": "host"}}, InvalidArgumentError, "namespaces"),
        ({"network": "shut", "ports": ["80"]}, InvalidArgumentError, "portmap"),
        ({"network": "missing"}, NotFoundError, "missing"),
        ({"network": "container:missing"}, NotFoundError, "missing"),
        ({"network": "bridge", "ports": ["0:80"]}, InvalidArgumentError, "port"),
        ({"network": "bridge", "ip": "10.99.0.1"}, InvalidArgumentError, "10.99.0.1"),
        ({"network": "bridge", "mac": "nonsense"}, InvalidArgumentError, "mac"),
        ({"network": "bridge", "hostname": "a b"}, InvalidArgumentError, "host name"),
        ({"network": "bridge", "dns": ["resolver"]}, InvalidArgumentError, "dns"),
        ({"network": "bridge", "extra_hosts": {"a": "10.0.0.1\nevil"}}, InvalidArgumentError, "extra_hosts"),
    ]
    for options, error, words in wrong:
        with pytest.raises(error, match=words):
            await networked.create_container(image=busybox, args=SLEEP, **options)


@pytest.mark.lines("2.1")
async def test_a_used_network_stays(networked: Client, busybox: Image, network_host: NetworkHost):
    """A network is not deleted while a container of any namespace is on it, and is gone with its bridge afterwards."""
    network = await networked.networks.create("kept", subnet="10.9.4.0/24", labels={"who": "me"})
    container = await networked.create_container(image=busybox, args=SLEEP, network=network)
    with pytest.raises(FailedPreconditionError, match=container.id):
        await network.delete()
    assert await networked.networks.prune() == []
    info = await network.info()
    assert (info.driver, info.labels, str(info.subnets[0][0])) == ("bridge", {"who": "me"}, "10.9.4.0/24")
    await container.delete()
    await network.delete()
    assert [left.name for left in await networked.networks.list()] == []
    assert "br-" not in network_host.run("ip", "-o", "link")
    with pytest.raises(NotFoundError):
        await network.info()


@pytest.mark.lines("2.1")
async def test_nerdctl_finds_what_it_looks_for(
    networked: Client, busybox: Image, network_host: NetworkHost, namespace: str
):
    """Labels, annotations and files are those that nerdctl reads."""
    container = await networked.create_container("read", image=busybox, network="bridge", ports=["8080:80"])
    record, spec = await container.record(), await container.spec()
    assert json.loads(record.labels["nerdctl/networks"]) == ["bridge"]
    assert spec["annotations"]["nerdctl/networks"] == '["bridge"]'
    folder = Path(record.labels["nerdctl/state-dir"])
    ports = json.loads((folder / "network-config.json").read_text())
    assert ports == {"portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "0.0.0.0"}]}
    (hosts,) = network_host.data_root.glob(f"*/etchosts/{namespace}/read")
    meta = json.loads((hosts / "meta.json").read_text())
    assert meta["Networks"]["bridge"]["ips"][0]["address"] == "10.4.0.2/24"
    with pytest.raises(FailedPreconditionError, match="default"):
        await networked.networks.delete("bridge")
    (cached,) = (network_host.folder / "results").iterdir()
    assert cached.name == f"bridge-{namespace}-read-eth0"
    await container.delete()


CRASHING = """
import sys, anyio
from containerd_py import connect, NetworkSettings
async def main(address, namespace, data_root, folder, plugins):
    settings = NetworkSettings(conf_dir=f"{folder}/net.d", plugin_dirs=(plugins, "/usr/lib/cni"),
        cache_dir=f"{folder}/results", lease_dir=f"{folder}/leases", netns_dir=f"{folder}/netns",
        host_netns=f"{folder}/host")
    async with connect(address, namespace=namespace, data_root=data_root, networks=settings) as client:
        (image,) = await client.list_images()
        await client.create_container("lost", name="lost", image=image, network="slow", ports=["8080:80"])
anyio.run(main, *sys.argv[1:])
"""
WAITING = """#!/bin/sh
cat >/dev/null
[ "$CNI_COMMAND" = VERSION ] && { echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}'; exit; }
[ "$CNI_COMMAND" = ADD ] && { echo $$ >MARK.new; mv MARK.new MARK; exec sleep 1000; }
exit 0
"""


@pytest.mark.lines("2.1")
async def test_what_a_killed_program_left_is_reclaimed(
    networked: Client, busybox: Image, network_host: NetworkHost, daemon, namespace: str
):
    """A program killed between plugins leaves addresses, rules and a namespace; another one takes them all down."""
    network = await networked.networks.create("slow", subnet="10.9.5.0/24")
    path = (await network.info()).config.path
    assert path is not None
    document = json.loads(path.read_text())
    document["plugins"].append({"type": "waits"})
    path.write_text(json.dumps(document))
    mark = network_host.folder / "mark"
    network_host.script("waits", WAITING.replace("MARK", str(mark)))
    arguments = [daemon.address, namespace, network_host.data_root, network_host.folder, network_host.plugins]
    program = subprocess.Popen([sys.executable, "-c", CRASHING, *map(str, arguments)])
    try:
        with anyio.fail_after(30):
            while not mark.exists():
                await anyio.sleep(0.05)
    finally:
        program.send_signal(signal.SIGKILL)
        program.wait()
    assert {"links", "rules", "leases", "namespaces", "directories"} <= set(network_host.left())
    try:
        report = await networked.networks.reclaim()
    finally:
        os.kill(int(mark.read_text()), signal.SIGKILL)  # the plugin, which nobody waits for any more
    assert (report.containers, report.failures) == (("lost",), ())
    assert network_host.left() == {}
    for lease in await networked.leases.list():  # which would expire
        await networked.leases.delete(lease.id, synchronous=True)
    document["plugins"].pop()
    path.write_text(json.dumps(document))
    async with deleting(await networked.create_container("lost", name="lost", image=busybox, network="slow")):
        pass


@pytest.mark.lines("2.1")
async def test_another_program_deletes_the_container(
    networked: Client, busybox: Image, daemon, namespace: str, network_host: NetworkHost
):
    """Whoever deletes a container needs no settings: its directory tells where everything is."""
    container = await networked.create_container("handed-over", image=busybox, network="bridge", ports=["80"])
    assert set(network_host.left()) > {"links", "rules", "leases"}
    async with connect(daemon.address, namespace=namespace) as other:
        await (await other.load_container(container.id)).delete()


@pytest.mark.lines("2.1")
async def test_many_at_once(networked: Client, busybox: Image, network_host: NetworkHost):
    """Containers created at the same time have addresses and ports of their own."""
    containers: list[Container] = []

    async def create(number: int) -> None:
        containers.append(await networked.create_container(image=busybox, args=SLEEP, network="bridge", ports=["80"]))

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(create, number)
    networks = [(await container.networks())[0] for container in containers]
    assert len({network.addresses for network in networks}) == 6
    assert len({network.ports[0].host_port for network in networks}) == 6
    async with anyio.create_task_group() as group:
        for container in containers:
            group.start_soon(container.delete)


NOTING = """#!/bin/sh
config=$(cat)
case "$CNI_COMMAND" in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}' ;;
ADD) echo "$config" >FOLDER/told; echo '{"cniVersion":"1.1.0","ips":[{"address":"10.9.6.2/24"}]}' ;;
GC) echo "$config" >FOLDER/collected ;;
esac
"""


@pytest.mark.lines("2.1")
async def test_plugins_of_1_1_are_told_and_collect(networked: Client, busybox: Image, network_host: NetworkHost):
    """What plugins ask for by capability they get; those that know GC hear what is still attached."""
    network_host.script("notes", NOTING.replace("FOLDER", str(network_host.folder)))
    wants = {"bandwidth": True, "dns": True, "ips": True, "mac": True}
    document = {"cniVersion": "1.1.0", "name": "noted", "plugins": [{"type": "notes", "capabilities": wants}]}
    network_host.settings.conf_dir.mkdir()
    (network_host.settings.conf_dir / "noted.conflist").write_text(json.dumps(document))
    limits = {"ingressRate": 1000, "ingressBurst": 2000}
    options = {
        "ip": "10.9.6.9",
        "mac": "02:42:ac:11:00:02",
        "dns": ["10.0.0.1"],
        "plugin_arguments": {"bandwidth": limits},
    }
    async with deleting(await networked.create_container("c", image=busybox, network="noted", **options)):
        told = json.loads((network_host.folder / "told").read_text())
        assert told["runtimeConfig"] == {
            "bandwidth": limits,
            "dns": {"servers": ["10.0.0.1"], "searches": [], "options": []},
            "ips": ["10.9.6.9/32"],
            "mac": "02:42:ac:11:00:02",
        }
        network_host.script("notes", NOTING.replace("FOLDER", str(network_host.folder)).replace("GC)", "GC | STATUS)"))
        await (await networked.networks.load("noted")).check_ready()
        assert (await networked.networks.reclaim()).failures == ()
        collected = json.loads((network_host.folder / "collected").read_text())
        attachments = [{"containerID": f"{networked.namespace}-c", "ifname": "eth0"}]
        assert collected["cni.dev/valid-attachments"] == attachments


@pytest.mark.lines("2.1")
async def test_a_container_that_nerdctl_stopped_is_attached_again(
    networked: Client, busybox: Image, network_host: NetworkHost
):
    """Where another program has detached a container, as nerdctl's stop does, its next task is attached again."""
    async with deleting(
        await networked.create_container("c", image=busybox, args=SERVE, network="bridge")
    ) as container:
        (network,) = await container.networks()
        (cached,) = network_host.settings.chain.cache.attachments()
        gone = attrs.evolve(cached.attachment, netns=Path("/nowhere"))
        await to_thread.run_sync(network_host.settings.chain.delete, cached.network, gone)
        taken = networked.open_run(busybox, SLEEP, network="bridge", ip=str(network.addresses[0]))
        async with taken, deleting(await container.create_task()) as task:
            await task.start()
            await serving(task)
            (again,) = await container.networks()
            assert again.addresses != network.addresses
            address = str(again.addresses[0])
            assert await to_thread.run_sync(talk, network_host.netns, address, 80) == b"c\n"


@pytest.mark.lines("2.1")
async def test_a_restored_container_is_on_a_network_of_its_own(
    networked: Client, busybox: Image, network_host: NetworkHost
):
    """A checkpoint's container comes back on the network it is given, with its processes, beside the first one."""
    count = ["/bin/sh", "-c", "while :; do sleep 0.1; done"]
    async with deleting(
        await networked.create_container("first", image=busybox, args=count, network="bridge")
    ) as first:
        async with deleting(await first.create_task()) as task:
            await task.start()
            saved = await first.checkpoint("example.org/saved:1")
        async with deleting(await networked.restore_container("alone", saved)) as alone:
            assert await alone.networks() == []
            assert json.loads((await alone.labels())["nerdctl/networks"]) == ["none"]
        async with (
            deleting(saved),
            deleting(await networked.restore_container("other", saved, network="bridge")) as other,
            deleting(await other.create_task(checkpoint=saved)) as task,
        ):
            await task.start()
            (one,), (two,) = await first.networks(), await other.networks()
            assert one.addresses != two.addresses
            assert f"inet {two.addresses[0]}/24" in await said(task, "/bin/ip", "-o", "address")


@pytest.mark.lines("2.1")
async def test_cleanup_takes_networks_after_containers(networked: Client, busybox: Image, network_host: NetworkHost):
    """A Cleanup undoes containers before the networks they are on, in whatever order they were added."""
    async with Cleanup() as cleanup:
        network = cleanup.add(await networked.networks.create("brief"))
        cleanup.add(await networked.create_container(image=busybox, network=network))
        cleanup.add(await networked.networks.create("briefer"))
    assert await networked.networks.list() == []


@pytest.mark.lines("2.1")
async def test_mapped_users_have_networks_of_their_tasks(networked: Client, busybox: Image, network_host: NetworkHost):
    """In a user namespace the network namespace is the task's: it is attached when the task is made, each anew."""
    async with deleting(
        await networked.create_container(
            "mapped",
            image=busybox,
            args=SERVE,
            network="bridge",
            ports=["8080:80"],
            user_namespace=UserNamespace.of(100000),
        )
    ) as container:
        assert await container.networks() == []
        for _ in range(2):
            async with deleting(await container.create_task()) as task:
                await task.start()
                await serving(task)
                assert await to_thread.run_sync(talk, network_host.netns, "127.0.0.1", 8080) == b"mapped\n"
                (network,) = await container.networks()
                assert f"{network.addresses[0]}  " in await said(task, "/bin/cat", "/etc/hosts")


@pytest.mark.lines("2.1")
async def test_a_record_that_others_deleted_is_reclaimed(networked: Client, busybox: Image, network_host: NetworkHost):
    """Where another client has deleted a record, its networks are taken down by reclaim, and only those."""
    kept = await networked.create_container("kept", image=busybox, network="bridge")
    lost = await networked.create_container("lost", image=busybox, network="bridge", ports=["8080:80"])
    await networked.containers.delete(lost.id)
    assert (await networked.networks.reclaim()).containers == ("lost",)
    await kept.check_networks()
    assert not any("8080" in rule for rule in network_host.rules())
    await kept.delete()
