"""Networks under faulty plugins, cancellation and lost state: a typed error, nothing left, and the next call works."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import attrs
import pytest
from anyio import to_thread

from containerd_py import (
    Client,
    CNIError,
    CNIPluginNotFoundError,
    CNIPluginTimeoutError,
    CNIProtocolError,
    CNITryAgainError,
    Daemon,
    Image,
    UserNamespace,
    connect,
    deleting,
)
from tests.harness.cancel import Mode, Tally, sweep
from tests.harness.network_host import NetworkHost

SLEEP = ["/bin/sleep", "1000"]
PORTS = ["127.0.0.1:8080:80"]
BOUND = 3.0  # seconds a plugin may take here
EVERY = 16  # the storm session visits every point
PLUGIN = """#!/bin/sh
cat >/dev/null
case "$CNI_COMMAND" in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}' ;;
@WHEN@)
@ACTION@
;;
esac
"""
FAULTS = {
    "says so": ('echo \'{"cniVersion":"1.0.0","code":11,"msg":"later"}\'; exit 1', CNITryAgainError),
    "babbles": ("echo nonsense; echo more >&2; exit 3", CNIProtocolError),
    "answers nothing": ("true", CNIProtocolError),
    "hangs": ("sleep 1000", CNIPluginTimeoutError),
    "is killed": ("kill -9 $$", CNIProtocolError),
    "floods": ("head -c 10485760 /dev/zero", CNIProtocolError),
    "lies": ('echo \'{"cniVersion":"1.0.0","ips":[{"address":"nowhere"}]}\'', CNIProtocolError),
}


@pytest.fixture
async def patient(daemon: Daemon, namespace: str, network_host: NetworkHost) -> AsyncIterator[Client]:
    """Lend a client that gives plugins little time."""
    settings = attrs.evolve(network_host.settings, plugin_bound=BOUND)
    data_root = network_host.data_root
    async with connect(daemon.address, namespace=namespace, data_root=data_root, networks=settings) as client:
        yield client


async def faulty_network(client: Client, host: NetworkHost, position: int, command: str, action: str) -> None:
    """Make a network whose plugin at `position` is told to misbehave at a command."""
    host.script("faulty", PLUGIN.replace("@WHEN@", command).replace("@ACTION@", action))
    config = (await (await client.networks.create("faulty", subnet="10.9.0.0/24")).info()).config
    assert config.path is not None
    document = json.loads(config.path.read_text())
    document["plugins"].insert(position, {"type": "faulty"})
    await to_thread.run_sync(config.path.write_text, json.dumps(document))


@pytest.mark.lines("2.1")
@pytest.mark.parametrize(
    ("fault", "position"), [*((fault, 4) for fault in FAULTS), *(("says so", position) for position in range(4))]
)
async def test_a_plugin_that_fails_leaves_nothing(
    patient: Client, busybox: Image, network_host: NetworkHost, fault: str, position: int
):
    """Whatever a plugin does at ADD, wherever in the chain, all that was made is undone; and it works without it."""
    action, error = FAULTS[fault]
    await faulty_network(patient, network_host, position, "ADD", f"touch {network_host.folder}/fired; {action}")
    with pytest.raises(error):
        await patient.create_container("tries", image=busybox, args=SLEEP, network="faulty", ports=PORTS)
    assert (network_host.folder / "fired").exists()
    assert network_host.left() == {}
    async with deleting(await patient.create_container("tries", image=busybox, network="bridge", ports=PORTS)):
        pass


@pytest.mark.lines("2.1")
async def test_a_plugin_that_is_not_there(patient: Client, busybox: Image, network_host: NetworkHost):
    """A plugin that is missing is told with where it was looked for, before any other one was called."""
    await faulty_network(patient, network_host, 4, "ADD", "true")
    (network_host.plugins / "faulty").unlink()
    with pytest.raises(CNIPluginNotFoundError, match=r"faulty.*/usr/lib/cni"):
        await patient.create_container(image=busybox, args=SLEEP, network="faulty")
    assert network_host.left() == {}


@pytest.mark.lines("2.1")
async def test_what_cannot_be_detached_stays_known(patient: Client, busybox: Image, network_host: NetworkHost):
    """Where a plugin fails at DEL, the container and all that is known of its networks stay; deleting again works."""
    action = f'[ -e {network_host.folder}/mended ] || {{ echo \'{{"code":5,"msg":"no"}}\'; exit 1; }}'
    await faulty_network(patient, network_host, 1, "DEL", action)
    network_host.script(
        "faulty",
        '#!/bin/sh\nread config\n[ "$CNI_COMMAND" = VERSION ] && echo \'{"supportedVersions":["1.0.0"]}\'\n'
        '[ "$CNI_COMMAND" = ADD ] && echo "$config" | sed \'s/.*"prevResult": \\({.*}\\)}$/\\1/\'\n'
        f'[ "$CNI_COMMAND" = DEL ] && {{ {action}; }}\nexit 0\n',
    )
    container = await patient.create_container("stuck", image=busybox, args=SLEEP, network="faulty", ports=PORTS)
    with pytest.raises(CNIError, match="faulty failed at DEL: no"):
        await container.delete()
    assert (await container.record()).id == "stuck"
    (network_host.folder / "mended").touch()
    await container.delete()


@pytest.mark.lines("2.1")
async def test_deleting_where_state_was_lost(networked: Client, busybox: Image, network_host: NetworkHost):
    """A namespace, a result, or both, that went behind our back do not keep a container from being deleted."""
    for lost in (["netns"], ["results"], ["netns", "results"], ["rules"]):
        container = await networked.create_container(image=busybox, network="bridge", ports=PORTS)
        (network,) = await container.networks()
        if "results" in lost:
            for path in (network_host.folder / "results").iterdir():
                path.unlink()
        if "rules" in lost:  # as by a firewall that is set up anew
            network_host.run("iptables", "-t", "nat", "-F")
            network_host.run("iptables", "-t", "nat", "-X")
        if "netns" in lost:
            network_host.run("umount", network.netns)
        await container.delete()
        assert network_host.left() == {}, lost


async def sweep_networks(
    flow: Callable[[], Awaitable[None]], client: Client, host: NetworkHost, request: pytest.FixtureRequest, every: int
) -> None:
    """Cancel a flow at every so many points, each of them in the storm, and see that nothing is left and it works."""
    is_storm = request.config.getoption("--storm", default=False)
    tally = Tally()
    modes = tuple(Mode) if is_storm else (Mode.SCOPE, Mode.TASK)
    async for outcome in sweep(flow, every=1 if is_storm else every, modes=modes):
        outcome.check()
        tally.add(outcome)
        with anyio.move_on_after(5):
            while host.left() or await client.containers.list():
                await anyio.sleep(0.05)
        assert host.left() == {}, outcome
        assert await client.containers.list() == [], outcome
    assert tally.delivered > 0, str(tally)
    await flow()


@pytest.mark.lines("2.1")
@pytest.mark.timeout(3600)
async def test_cancelled_anywhere_nothing_is_left(
    networked: Client, busybox: Image, network_host: NetworkHost, request: pytest.FixtureRequest
):
    """Cancelled at any suspension point, attaching and detaching leave nothing, and the same flow then succeeds."""

    async def flow() -> None:
        async with deleting(await networked.create_container(image=busybox, network="bridge", ports=PORTS, name="one")):
            pass

    await sweep_networks(flow, networked, network_host, request, EVERY)


@pytest.mark.lines("2.1")
@pytest.mark.timeout(3600)
async def test_cancelled_anywhere_with_a_task_of_mapped_users(
    networked: Client, busybox: Image, network_host: NetworkHost, request: pytest.FixtureRequest
):
    """The same where the network is made with the task, in whose user namespace it is."""
    mapped = UserNamespace.of(100000)

    async def flow() -> None:
        async with networked.open_run(busybox, SLEEP, network="bridge", ports=PORTS, user_namespace=mapped):
            pass

    await sweep_networks(flow, networked, network_host, request, 4 * EVERY)
