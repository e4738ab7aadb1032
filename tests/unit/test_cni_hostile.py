"""Whatever plugins, networks and users say: a value or the documented error, never anything else."""

import ipaddress
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from containerd_py.cni.config import parse_network
from containerd_py.cni.ports import parse_ports
from containerd_py.cni.results import parse_result
from containerd_py.errors import InvalidArgumentError

LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just("10.0.0.1/24"))
NAMES = st.sampled_from(
    ["cniVersion", "interfaces", "ips", "routes", "dns", "name", "address", "interface", "gateway", "dst", "gw", "type",
     "plugins", "capabilities", "ipam", "nameservers", "search", "disableCheck", "cniVersions", "Name", "sandbox"]
)  # fmt: skip
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=30
)


def documents() -> st.SearchStrategy[bytes]:
    whole = st.dictionaries(NAMES, DOCUMENTS, max_size=6).map(lambda document: json.dumps(document).encode())
    return st.one_of(whole, st.binary(max_size=200))


@settings(max_examples=300, deadline=None)
@given(documents())
def test_results(data: bytes):
    """A result's addresses are addresses, and its words are single and printable."""
    try:
        result = parse_result(data, what="result")
    except InvalidArgumentError:
        return
    assert all(isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address) for address in result.addresses)
    words = [*result.dns.nameservers, *result.dns.search, *result.dns.options, result.dns.domain]
    assert all(word.split() in ([word], []) and word.isprintable() for word in words)


@settings(max_examples=300, deadline=None)
@given(documents())
def test_networks(data: bytes):
    """A network's plugins have names that lead nowhere, and its version is one that is spoken here."""
    try:
        network = parse_network(data)
    except InvalidArgumentError:
        return
    assert not any(set(plugin.type) & set("/\0\n") for plugin in network.plugins)
    assert network.cni_version in {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789.:[]-/tcpudabf", max_size=40))
def test_ports(written: str):
    """A port is 1 to 65535, on both sides, whatever is written."""
    try:
        requests = parse_ports([written])
    except InvalidArgumentError:
        return
    for request in requests:
        assert 1 <= request.container_port <= 65535
        assert 1 <= min(request.host_ports) <= max(request.host_ports) <= 65535
        ipaddress.ip_address(request.host_ip)
