"""Networks, results, ports and subnets as documents: what is read, what is refused, what nerdctl would write."""

import base64
import ipaddress
import json
from pathlib import Path

import attrs
import pytest

from containerd_py.cni.cache import ResultCache
from containerd_py.cni.config import load_network, network_from, parse_network
from containerd_py.cni.making import NetworkWish, default_network, network_document
from containerd_py.cni.ports import CHOSEN_PORTS, PortMapping, choose_ports, parse_ports
from containerd_py.cni.results import parse_result
from containerd_py.cni.settings import NetworkSettings
from containerd_py.cni.store import NetworkStore, bridge_name, network_id
from containerd_py.cni.subnets import free_subnet, parse_subnet, range_document, ranges_of
from containerd_py.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError, ResourceExhaustedError

# What nerdctl 2.3 writes for its default network.
NERDCTL_DEFAULT = """
{"cniVersion":"1.0.0","name":"bridge",
 "nerdctlID":"17f29b073143d8cd97b5bbe492bdeffec1c5fee55cc1fe2112c8b9335f8b6121",
 "nerdctlLabels":{"nerdctl/default-network":"true"},
 "plugins":[
  {"type":"bridge","bridge":"nerdctl0","isGateway":true,"ipMasq":true,"hairpinMode":true,
   "ipam":{"type":"host-local","routes":[{"dst":"0.0.0.0/0"}],
           "ranges":[[{"subnet":"10.4.0.0/24","gateway":"10.4.0.1"}]]}},
  {"type":"portmap","capabilities":{"portMappings":true}},
  {"type":"firewall","ingressPolicy":"same-bridge"},
  {"type":"tuning"}]}
"""


def plugins_of(**wish: object) -> list[dict[str, object]]:
    document = network_document(NetworkWish(name="net", **wish), [])
    found = document["plugins"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "line 1"),
        ("[]", "expected an object"),
        ('{"name":"a","name":"b"}', "appears twice"),
        ('{"name":"net","cniVersion":"1.0.0","plugins":[],"loadOnlyInlinedPlugins":true}', "no plugins"),
        ('{"name":"../up","cniVersion":"1.0.0","plugins":[{"type":"a"}]}', "no network name"),
        ('{"name":"net\\n","cniVersion":"1.0.0","plugins":[{"type":"a"}]}', "no network name"),
        ('{"cniVersion":"1.0.0","plugins":[{"type":"a"}]}', "no network name"),
        ('{"name":"net","cniVersion":"2.0.0","plugins":[{"type":"a"}]}', "not supported: 0.3.0"),
        ('{"name":"net","plugins":[{"type":"a"}]}', "'0.2.0' is not supported"),
        ('{"name":"net","cniVersion":"1.0.0","plugins":[{"type":"../sh"}]}', "no plugin's name"),
        ('{"name":"net","cniVersion":"1.0.0","plugins":[{"type":"/bin/sh"}]}', "no plugin's name"),
        ('{"name":"net","cniVersion":"1.0.0","plugins":[{}]}', "no plugin's name"),
        ('{"name":"net","cniVersion":"1.0.0","plugins":[{"type":"a","capabilities":{"x":1}}]}', "boolean"),
        ('{"name":"net","cniVersion":"1.0.0","plugins":"a"}', "an array"),
        ('{"name":"net","CniVersion":"1.0.0","plugins":[{"type":"a"}]}', "spelled differently"),
        ('{"name":"net","cniVersion":"1.0.0","disableCheck":"maybe","plugins":[{"type":"a"}]}', "disableCheck"),
    ],
)
def test_what_is_no_network(document: str, message: str):
    """A document that is damaged, ambiguous or leads somewhere is refused with the place in it."""
    with pytest.raises(InvalidArgumentError, match=message):
        parse_network(document.encode())


def test_networks_are_read_whole(tmp_path: Path):
    """Lists, single plugins, and lists with plugins in files of their own; unknown members stay."""
    listed = parse_network(
        b'{"name":"n","cniVersion":"0.4.0","cniVersions":["1.0.0","9.0.0"],"x":1,"plugins":[{"type":"a"}]}'
    )
    assert (listed.cni_version, listed.document["x"]) == ("1.0.0", 1)
    single = parse_network(b'{"name":"n","cniVersion":"1.0.0","type":"ptp","capabilities":{"ips":true,"mac":false}}')
    assert [(plugin.type, plugin.capabilities) for plugin in single.plugins] == [("ptp", {"ips"})]
    path = tmp_path / "n.conflist"
    path.write_text('{"name":"n","cniVersion":"1.1.0"}')
    with pytest.raises(InvalidArgumentError, match="no plugins"):
        load_network(path)
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "10-first.conf").write_text('{"type":"first"}')
    (tmp_path / "n" / "20-second.conf").write_text('{"type":"second"}')
    folder = load_network(path)
    assert [plugin.type for plugin in folder.plugins] == ["first", "second"]
    assert network_from(folder.document).plugins == folder.plugins
    with pytest.raises(NotFoundError):
        load_network(tmp_path / "missing.conflist")


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_results_of_all_versions(version: str):
    """A result of any version becomes the same values; of 1.1 with what it adds."""
    document = {
        "cniVersion": version,
        "interfaces": [{"name": "br0"}, {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/ns"}],
        "ips": [
            {"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
            {"address": "10.1.0.1/16", "interface": 0},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
        "dns": {"nameservers": ["10.1.0.1"], "domain": "local", "search": ["a.example"], "options": ["ndots:1"]},
    }
    if version < "1":
        document["ips"][0]["version"] = "4"  # type: ignore[index]
    if version == "1.1.0":
        document["interfaces"][1] |= {"mtu": 1400, "socketPath": "/s", "pciID": "1:2"}  # type: ignore[index,operator]
        document["routes"][0] |= {"mtu": 1300, "advmss": 1, "priority": 2, "table": 3, "scope": 0}  # type: ignore[index,operator]
    result = parse_result(json.dumps(document).encode(), what="result")
    assert result.addresses == (ipaddress.ip_address("10.1.0.5"),)
    assert (result.interfaces[1].mac, result.routes[0].gateway) == (
        "02:00:00:00:00:01",
        ipaddress.ip_address("10.1.0.1"),
    )
    assert result.dns.search == ("a.example",)
    if version == "1.1.0":
        assert (result.interfaces[1].mtu, result.interfaces[1].pci_id, result.routes[0].table) == (1400, "1:2", 3)


@pytest.mark.parametrize(
    "document",
    [
        '{"ips":[{"address":"10.0.0.1\\nevil"}]}',
        '{"ips":[{"address":"nowhere"}]}',
        '{"ips":[{"address":"10.0.0.1/24","interface":3}]}',
        '{"ips":[{"address":"10.0.0.1/24","interface":-1}]}',
        '{"interfaces":[{"name":"a b"}]}',
        '{"routes":[{"dst":"x"}]}',
        '{"dns":{"nameservers":["10.0.0.1\\nsearch evil"]}}',
        '{"dns":{"search":["a b"]}}',
        '{"ips":{}}',
        '{"Ips":[]}',
        "null",
    ],
)
def test_what_is_no_result(document: str):
    """What would end up in hosts and resolv.conf is one word or an address, or the result is refused."""
    with pytest.raises(InvalidArgumentError):
        parse_result(document.encode(), what="result")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("8080:80", ["0.0.0.0:8080:80/tcp"]),
        ("127.0.0.1:8080:80/TCP", ["127.0.0.1:8080:80/tcp"]),
        ("[::1]:53:53/udp", ["[::1]:53:53/udp"]),
        ("8000-8001:80-81/sctp", ["0.0.0.0:8000:80/sctp", "0.0.0.0:8001:81/sctp"]),
        (PortMapping(host_ip="::", host_port=1, container_port=2), ["[::]:1:2/tcp"]),
    ],
)
def test_ports_as_users_write_them(written: str, meant: list[str], tmp_path: Path):
    """Addresses, ranges and protocols mean what they mean to nerdctl."""
    assert [str(port) for port in choose_ports(parse_ports([written]), ResultCache(tmp_path), None)] == meant


@pytest.mark.parametrize(
    "written",
    [
        "",
        "0:80",
        "65536:80",
        "80:",
        "a:80",
        "1.2.3.4",
        "1.2.3:80:80",
        "300.1.1.1:80:80",
        "80-79",
        "1-3:1-2",
        "80/xyz",
        "-1:80",
        "80-:80",
    ],
)
def test_what_is_no_port(written: str):
    """What is no port is refused with the words it was written in."""
    with pytest.raises(InvalidArgumentError, match="port"):
        parse_ports([written])
    with pytest.raises(InvalidArgumentError, match="list"):
        parse_ports("80:80")


def test_taken_ports_are_not_chosen(tmp_path: Path):
    """A port that a container publishes, in Go's words too, is taken at its address and at all, for its protocol."""
    cache = ResultCache(tmp_path)
    config = {"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "a"}]}
    cached = {
        "kind": "cniCacheV1",
        "containerId": "c",
        "config": base64.b64encode(json.dumps(config).encode()).decode(),
        "ifName": "eth0",
        "networkName": "n",
        "capabilityArgs": {"portMappings": [{"HostPort": CHOSEN_PORTS[0], "Protocol": "tcp", "HostIP": "127.0.0.1"}]},
        "result": {"cniVersion": "1.0.0"},
    }
    (tmp_path / "n-c-eth0").write_text(json.dumps(cached))
    (chosen,) = choose_ports(parse_ports(["80"]), cache, None)
    assert chosen.host_port != CHOSEN_PORTS[0]
    first = CHOSEN_PORTS[0]
    for written in (f"{first}:80", f"127.0.0.1:{first}:80"):
        with pytest.raises(AlreadyExistsError, match=f"port {first}/tcp"):
            choose_ports(parse_ports([written]), cache, None)
    with pytest.raises(ResourceExhaustedError):
        choose_ports(parse_ports([f"127.0.0.1:{first + 1}-{first + 2}:80"] * 3), cache, None)
    for written in (f"127.0.0.2:{first}:80", f"127.0.0.1:{first}:80/udp"):
        assert choose_ports(parse_ports([written]), cache, None)


def test_the_default_network_is_nerdctls():
    """The default network is the one nerdctl makes, member for member."""
    assert network_document(default_network(), []) == json.loads(NERDCTL_DEFAULT)


def test_other_networks_as_nerdctl_makes_them():
    """Bridges are named after the network; internal ones have no way out; macvlan and ipvlan are alone."""
    assert (bridge_name("web"), network_id("web")[:12]) == ("br-4b5e57f6eb2f", "4b5e57f6eb2f")
    internal = plugins_of(internal=True)
    assert [plugin["type"] for plugin in internal] == ["bridge", "firewall", "tuning"]
    assert {"isGateway", "ipMasq"}.isdisjoint(internal[0])
    assert "routes" not in internal[0]["ipam"]  # type: ignore[operator]
    (vlan,) = plugins_of(driver="ipvlan", parent="eth1", mode="l3", mtu=1400)
    assert (vlan["master"], vlan["mode"], vlan["mtu"]) == ("eth1", "l3", 1400)
    both = plugins_of(subnets=("10.9.0.0/24", "fd00::/64"), gateways=("fd00::9", "10.9.0.9"), ipv6=True)[0]
    assert both["capabilities"] == {"ips": True}
    assert [(str(subnet), str(gateway)) for subnet, gateway in ranges_of({"plugins": [both]})] == [
        ("10.9.0.0/24", "10.9.0.9"),
        ("fd00::/64", "fd00::9"),
    ]
    ranged = plugins_of(subnets=("10.9.0.0/24",), ip_ranges=("10.9.0.128/25",))[0]["ipam"]
    assert ranged["ranges"][0][0] == {  # type: ignore[index]
        "subnet": "10.9.0.0/24",
        "gateway": "10.9.0.1",
        "rangeStart": "10.9.0.129",
        "rangeEnd": "10.9.0.254",
        "ipRange": "10.9.0.128/25",
    }
    assert plugins_of(options={"vlan": 7})[0]["vlan"] == 7


@pytest.mark.parametrize(
    "wish",
    [
        {"name": "host"},
        {"name": "a/b"},
        {"driver": "overlay"},
        {"mtu": 1},
        {"mode": "bridge"},
        {"driver": "macvlan", "mode": "l2"},
        {"parent": "eth0"},
        {"driver": "macvlan", "parent": "a/b"},
        {"labels": {"nerdctl/default-network": "true"}},
        {"labels": {"": "x"}},
    ],
)
def test_wishes_that_cannot_be(wish: dict[str, object]):
    """What no network can be is refused before anything is looked at."""
    with pytest.raises(InvalidArgumentError):
        attrs.evolve(NetworkWish(name="net"), **wish).check()


@pytest.mark.parametrize(
    "wish",
    [
        {"subnets": ("10.9.0.0",)},
        {"subnets": ("10.9.0.1/24",)},
        {"subnets": ("x",)},
        {"subnets": ("fd00::/64",)},
        {"subnets": ("10.9.0.0/24",), "gateways": ("10.8.0.1",)},
        {"subnets": ("10.9.0.0/24",), "gateways": ("fd00::1",)},
        {"subnets": ("10.9.0.0/24",), "ip_ranges": ("10.9.1.0/25",)},
        {"subnets": ("10.9.0.0/24",), "ip_ranges": ("10.9.0.0/16",)},
        {"subnets": ("127.0.0.0/8",)},
        {"subnets": ("224.0.0.0/24",)},
    ],
)
def test_addresses_that_do_not_fit(wish: dict[str, tuple[str, ...]]):
    """Subnets are networks, and gateways and ranges lie in them."""
    with pytest.raises(InvalidArgumentError):
        network_document(NetworkWish(name="net", **wish), [])  # type: ignore[arg-type]


def test_subnets_do_not_collide():
    """A subnet that is used is refused, and without one the first free one is taken."""
    used = [parse_subnet("10.4.0.0/22"), parse_subnet("fd00::/48")]
    with pytest.raises(AlreadyExistsError, match=r"10\.4\.0\.0/22"):
        network_document(NetworkWish(name="net", subnets=("10.4.3.0/24",)), used)
    with pytest.raises(AlreadyExistsError, match="overlaps"):
        network_document(NetworkWish(name="net", subnets=("10.8.0.0/24", "10.8.0.0/25")), used)
    assert str(free_subnet(used)) == "10.4.4.0/24"
    with pytest.raises(ResourceExhaustedError):
        free_subnet([parse_subnet("10.0.0.0/8")])
    assert range_document(parse_subnet("10.0.0.7/32"), None, None)["gateway"] == "10.0.0.7"


def test_networks_of_a_namespace_and_of_all(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A namespace sees its own networks and everybody's, by name and ID; a broken file is told and left out."""
    one, other = NetworkStore(tmp_path, "one"), NetworkStore(tmp_path, "other")
    made = one.create("net", lambda _: network_document(NetworkWish(name="net"), []))
    assert made.config.path == tmp_path / "one" / "nerdctl-net.conflist"
    assert one.find("net") == one.find(network_id("net")[:12]) == made
    with pytest.raises(NotFoundError, match="net"):
        other.find("net")
    with pytest.raises(AlreadyExistsError):
        one.create("net", lambda _: {})
    with pytest.raises(InvalidArgumentError):
        one.create("broken", lambda _: {"name": "broken"})
    default = one.create("bridge", lambda _: network_document(default_network(), []))
    assert default.config.path == tmp_path / "nerdctl-bridge.conflist"
    assert other.find_default() == default
    (tmp_path / "10-broken.conflist").write_text("{")
    assert [network.config.name for network in one.all()] == ["bridge", "net"]
    assert "10-broken.conflist" in caplog.text
    one.remove(made, lambda: None)
    assert [network.config.name for network in one.all()] == ["bridge"]


def test_settings_are_nerdctls(monkeypatch: pytest.MonkeyPatch):
    """The places are nerdctl's, by its variables; a relative one is refused."""
    for name in ("NETCONFPATH", "CNI_PATH", "ROOTLESSKIT_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert (NetworkSettings().conf_dir, NetworkSettings().host_netns) == (Path("/etc/cni/net.d"), None)
    assert Path("/opt/cni/bin") == NetworkSettings().plugin_dirs[0]
    monkeypatch.setenv("NETCONFPATH", "/etc/other")
    monkeypatch.setenv("CNI_PATH", "/a:b:/c")
    assert (NetworkSettings().conf_dir, NetworkSettings().plugin_dirs) == (Path("/etc/other"), (Path("/a"), Path("/c")))
    with pytest.raises(InvalidArgumentError, match="absolute"):
        NetworkSettings(conf_dir="net.d")
    with pytest.raises(InvalidArgumentError, match="absolute"):
        NetworkSettings(plugin_dirs=("bin",))
