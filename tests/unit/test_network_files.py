"""Hosts files, resolv.conf, and what is kept of a container's networks."""

import json
from pathlib import Path

import attrs
import pytest

from containerd_py._flows import reclaim_networks, resolver_file
from containerd_py._flows.hosts_files import enter_hosts, leave_hosts
from containerd_py._flows.network_state import FILE, HostsEntry, JoinedNetwork, NetworkState, read_network_state
from containerd_py._flows.plan_networks import with_own_network
from containerd_py._flows.resolver_file import ResolverWish, resolver_text, resolver_wish
from containerd_py.cni.attachment import Attachment
from containerd_py.cni.config import network_from
from containerd_py.cni.ports import PortMapping
from containerd_py.cni.results import CNIDns, CNIResult, result_from
from containerd_py.cni.settings import NetworkSettings
from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.runtime_spec import Spec


def result(*addresses: str) -> CNIResult:
    return result_from({"cniVersion": "1.0.0", "ips": [{"address": address} for address in addresses]}, what="result")


def enter(folder: Path, host: str, networks: dict[str, str], **entry: object) -> None:
    results = {network: result(address) for network, address in networks.items()}
    enter_hosts(str(folder / host), host, HostsEntry(hostname=host, **entry), results)  # type: ignore[arg-type]


def test_containers_of_a_network_know_each_other(tmp_path: Path):
    """A hosts file names the containers of the same networks, as nerdctl does, and no others."""
    enter(tmp_path, "a", {"net": "10.0.0.2/24"}, name="alpha", domainname="example.org")
    enter(tmp_path, "b", {"net": "10.0.0.3/24", "bridge": "10.4.0.3/24"}, extra_hosts={"db": "10.9.9.9"})
    enter(tmp_path, "c", {"bridge": "10.4.0.4/24"})
    enter(tmp_path, "d", {})
    text = {path.parent.name: path.read_text() for path in tmp_path.glob("*/hosts")}
    assert text["b"] == (
        "# <nerdctl>\n"
        "127.0.0.1\tlocalhost localhost.localdomain\n"
        "::1\t\tlocalhost localhost.localdomain\n"
        "10.9.9.9        db\n"
        "10.0.0.2        a.example.org a a.net alpha alpha.net\n"
        "10.0.0.3        b b.net\n"
        "10.4.0.3        b\n"
        "10.4.0.4        c\n"
        "# </nerdctl>\n"
    )
    assert "10.4.0" not in text["a"]
    assert "10." not in text["d"]
    leave_hosts(str(tmp_path / "a"))
    assert "10.0.0.2" not in (tmp_path / "b" / "hosts").read_text()
    assert (tmp_path / "a" / "hosts").exists()


def test_hosts_files_keep_what_others_wrote(tmp_path: Path):
    """Lines outside of the marked region stay, the file is the same one, and links are not followed."""
    enter(tmp_path, "a", {"net": "10.0.0.2/24"})
    path = tmp_path / "a" / "hosts"
    inode = path.stat().st_ino
    path.write_text("1.2.3.4 mine\n" + path.read_text() + "5.6.7.8 too")
    enter(tmp_path, "b", {"net": "10.0.0.3/24"})
    lines = path.read_text().splitlines()
    assert (lines[:2], "10.0.0.3        b b.net" in lines) == (["1.2.3.4 mine", "5.6.7.8 too"], True)
    assert path.stat().st_ino == inode
    assert path.stat().st_mode & 0o777 == 0o644
    victim = tmp_path / "victim"
    victim.write_text("safe")
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(OSError):
        enter(tmp_path, "c", {"net": "10.0.0.4/24"})
    assert victim.read_text() == "safe"


def test_what_others_wrote_stays_as_it_is(tmp_path: Path):
    """A form feed or another character that some take for the end of a line neither ends one nor adds one."""
    enter(tmp_path, "a", {"net": "10.0.0.2/24"})
    path = tmp_path / "a" / "hosts"
    written = "1.2.3.4 a\x0cb\u2028c\rd\n\n"
    path.write_bytes((written + path.read_text()).encode())
    for host in "bcd":
        enter(tmp_path, host, {"net": "10.0.0.3/24"})
    assert path.read_bytes().startswith(f"{written}# <nerdctl>".encode())


def test_a_broken_member_is_left_out(tmp_path: Path):
    """What another program has written about a container and cannot be read does not reach any hosts file."""
    for name, meta in {
        "evil": {
            "ID": "evil",
            "Hostname": "a\n6.6.6.6 bank",
            "Networks": {"net": {"ips": [{"address": "10.0.0.9/24"}]}},
        },
        "junk": {"ID": 5},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "meta.json").write_text(json.dumps(meta))
    enter(tmp_path, "a", {"net": "10.0.0.2/24"})
    assert "bank" not in (tmp_path / "a" / "hosts").read_text()
    assert not (tmp_path / "evil" / "hosts").exists()


def test_names_are_resolved_as_wished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The caller's wishes come first, then the networks', then the host's without what only it can reach."""
    host, systemd = tmp_path / "resolv.conf", tmp_path / "systemd.conf"
    monkeypatch.setattr(resolver_file, "_HOST_FILE", host)
    monkeypatch.setattr(resolver_file, "_SYSTEMD_FILE", systemd)
    host.write_text("# comment\ndomain old\nsearch a b\nnameserver 127.0.0.1\nnameserver 10.0.0.1 # x\noptions edns0\n")
    assert resolver_text(ResolverWish()) == "search a b\nnameserver 10.0.0.1\noptions edns0\n"
    assert "127.0.0.1" in resolver_text(ResolverWish(), shares_host=True)
    offered = [CNIDns(nameservers=("10.2.0.1",), domain="net", search=("more",))]
    assert resolver_text(ResolverWish(), offered) == "search net more\nnameserver 10.2.0.1\noptions edns0\n"
    wish = resolver_wish(["10.3.0.1"], ["mine"], ["ndots:3"])
    assert resolver_text(wish, offered) == "search mine\nnameserver 10.3.0.1\noptions ndots:3\n"
    host.write_text("nameserver 127.0.0.53\n")
    assert resolver_text(ResolverWish()) == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    systemd.write_text("nameserver 10.5.0.1\n")
    assert resolver_text(ResolverWish()) == "nameserver 10.5.0.1\n"
    host.unlink()
    assert "8.8.8.8" in resolver_text(ResolverWish())


@pytest.mark.parametrize(
    "words",
    [("a b", (), ()), (["name"], (), ()), ((), ["a b"], ()), ((), (), ["x\ny"]), ((), [""], ()), ((), "abc", ())],
)
def test_what_is_no_word_of_a_resolver(words: tuple[object, object, object]):
    """What would be more than one word in resolv.conf, or is no list, is refused."""
    with pytest.raises(InvalidArgumentError):
        resolver_wish(*words)  # type: ignore[arg-type]


def test_what_is_kept_of_a_containers_networks(tmp_path: Path):
    """What is written is read again, whole; damage is told; nothing is nothing."""
    assert read_network_state(str(tmp_path)) is None
    netns = Path("/run/netns/c")
    config = network_from({"name": "net", "cniVersion": "1.0.0", "plugins": [{"type": "bridge", "x": [1]}]})
    attachment = Attachment(
        container_id="ns-c", netns=netns, interface="eth0", arguments={"IP": "1"}, capabilities={"ips": ["1"]}
    )
    state = NetworkState(
        settings=NetworkSettings(conf_dir=tmp_path, plugin_dirs=("/a", "/b"), host_netns="/run/netns/host"),
        netns=netns,
        container_id="ns-c",
        networks=(JoinedNetwork(config=config, attachment=attachment, result=result("10.0.0.2/24")),),
        ports=(PortMapping(host_ip="::1", host_port=1, container_port=2, protocol="udp"),),
        hosts=HostsEntry(hostname="h", name="n", extra_hosts={"db": "10.0.0.1"}),
    )
    state.write(str(tmp_path))
    assert read_network_state(str(tmp_path)) == state
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    attrs.evolve(state, networks=()).write(str(tmp_path))
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(InvalidArgumentError):
        read_network_state(str(tmp_path))


def test_a_restored_spec_is_on_nobody_elses_network():
    """A checkpoint's spec loses the namespace and files of the old container; the user's and the host's stay."""
    store = "/var/lib/nerdctl/1935db59"
    sources = {
        f"{store}/etchosts/ns/c/hosts": "/etc/hosts",
        f"{store}/containers/ns/c/resolv.conf": "/etc/resolv.conf",
        f"{store}/containers/ns/c/hostname": "/etc/hostname",
        "/etc/hosts": "/etc/hosts",
        "/home/me/hosts": "/etc/hosts",
    }
    spec: Spec = {
        "linux": {"namespaces": [{"type": "network", "path": "/run/ns"}, {"type": "pid", "path": "/run/pid"}]},
        "mounts": [{"source": source, "destination": destination} for source, destination in sources.items()],
    }
    own = with_own_network()(spec)
    assert own["linux"]["namespaces"] == [{"type": "network"}, {"type": "pid", "path": "/run/pid"}]
    assert [mount["source"] for mount in own["mounts"]] == ["/etc/hosts", "/home/me/hosts"]


def test_a_container_that_plugins_know_by_the_same_words_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of several containers that plugins call alike, only what is attached to no living namespace is taken down."""
    settings = NetworkSettings(cache_dir=tmp_path)
    own, living, gone = (tmp_path / "netns" / name for name in ("a/b-c", "a-b/c", "other/a/b-c"))
    for number, netns in enumerate((own, living, gone)):
        network = network_from({"cniVersion": "1.0.0", "name": f"net{number}", "plugins": [{"type": "bridge"}]})
        attachment = Attachment(container_id="a-b-c", netns=netns, interface="eth0")
        settings.chain.cache.store(network, attachment, {"cniVersion": "1.0.0"})
    monkeypatch.setattr(reclaim_networks, "is_netns", {own, living}.__contains__)
    found = reclaim_networks._cached(settings, own, "a-b-c")
    assert {cached.attachment.netns for cached in found} == {own, gone}
