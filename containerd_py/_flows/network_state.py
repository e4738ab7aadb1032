"""What a container's networks are, kept in its directory: enough for any program to take them down again. Blocking.

The file is written before anything is made, and removed when nothing is left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from containerd_py._whole_files import write_whole
from containerd_py.cni.attachment import Attachment
from containerd_py.cni.config import NetworkConfig, network_from
from containerd_py.cni.ports import PortMapping, Protocol
from containerd_py.cni.results import CNIResult, result_from
from containerd_py.cni.settings import NetworkSettings
from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.json_fields import Fields
from containerd_py.oci.strict_json import load_object

FILE: Final = "containerd-py-network.json"
PORTS_FILE: Final = "network-config.json"  # nerdctl's
_MAX_SIZE: Final = 16 * 1024 * 1024
_FIELDS: Final = frozenset(
    [
        "confDir",
        "pluginDirs",
        "cacheDir",
        "netnsDir",
        "hostNetns",
        "netns",
        "ofTask",
        "containerID",
        "networks",
        "ports",
        "hosts",
    ]
)
_NETWORK: Final = frozenset(["config", "interface", "arguments", "capabilities", "result"])
_PORT: Final = frozenset(["hostIP", "hostPort", "containerPort", "protocol"])
_HOSTS: Final = frozenset(["hostname", "domainname", "name", "extraHosts"])


@attrs.frozen(kw_only=True)
class HostsEntry:
    """How a container is called in the hosts files of the others, and what its own file has besides."""

    hostname: str
    name: str = ""
    domainname: str = ""
    extra_hosts: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class JoinedNetwork:
    """A network, how the container is attached to it, and what that has made, once it has."""

    config: NetworkConfig
    attachment: Attachment
    result: CNIResult | None = None


@attrs.frozen(kw_only=True)
class NetworkState:
    """Everything about one container's networks."""

    settings: NetworkSettings
    netns: Path
    container_id: str  # as plugins know it: NAMESPACE-ID, as nerdctl calls it
    networks: tuple[JoinedNetwork, ...]
    ports: tuple[PortMapping, ...] = ()
    hosts: HostsEntry
    of_task: bool = False  # the namespace is each task's own: it belongs to the task's user namespace

    def write(self, folder: str) -> None:
        """Write it, and what nerdctl wants to know of it."""
        document = {
            "confDir": str(self.settings.conf_dir),
            "pluginDirs": [str(path) for path in self.settings.plugin_dirs],
            "cacheDir": str(self.settings.cache_dir),
            "netnsDir": str(self.settings.netns_dir),
            "hostNetns": None if self.settings.host_netns is None else str(self.settings.host_netns),
            "netns": str(self.netns),
            "ofTask": self.of_task,
            "containerID": self.container_id,
            "networks": [_network_document(network) for network in self.networks],
            "ports": [port.to_document() for port in self.ports],
            "hosts": {
                "hostname": self.hosts.hostname,
                "name": self.hosts.name,
                "domainname": self.hosts.domainname,
                "extraHosts": dict(self.hosts.extra_hosts),
            },
        }
        write_whole(Path(folder, FILE), json.dumps(document).encode())
        if self.ports:
            mappings = [
                {
                    "HostPort": port.host_port,
                    "ContainerPort": port.container_port,
                    "Protocol": port.protocol,
                    "HostIP": port.host_ip,
                }
                for port in self.ports
            ]
            write_whole(Path(folder, PORTS_FILE), json.dumps({"portMappings": mappings}).encode())


def read_network_state(folder: str) -> NetworkState | None:
    """Read the networks of the container whose directory it is; None where it has none.

    Raises:
        InvalidArgumentError: The file was damaged.
    """
    path = Path(folder, FILE)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_SIZE + 1)
    except FileNotFoundError:
        return None
    document = load_object(data, what=str(path), max_size=_MAX_SIZE, fold_case=False)
    fields = Fields(members=document, known=_FIELDS, what=str(path))
    netns, container_id = Path(fields.string("netns")), fields.string("containerID")
    hosts = fields.nested("hosts", _HOSTS)
    if hosts is None:
        raise fields.error("hosts", "is missing")
    return NetworkState(
        settings=NetworkSettings(
            conf_dir=fields.string("confDir"),
            plugin_dirs=fields.strings("pluginDirs"),
            cache_dir=fields.string("cacheDir"),
            netns_dir=fields.string("netnsDir"),
            host_netns=fields.optional_string("hostNetns"),
        ),
        netns=netns,
        of_task=fields.boolean("ofTask"),
        container_id=container_id,
        networks=tuple(_network(child, netns, container_id) for child in fields.nested_array("networks", _NETWORK)),
        ports=tuple(_port(child) for child in fields.nested_array("ports", _PORT)),
        hosts=HostsEntry(
            hostname=hosts.string("hostname"),
            name=hosts.string("name"),
            domainname=hosts.string("domainname"),
            extra_hosts=hosts.string_map("extraHosts"),
        ),
    )


def _network_document(network: JoinedNetwork) -> dict[str, object]:
    return {
        "config": network.config.document,
        "interface": network.attachment.interface,
        "arguments": dict(network.attachment.arguments),
        "capabilities": dict(network.attachment.capabilities),
        "result": None if network.result is None else network.result.document,
    }


def _network(fields: Fields, netns: Path, container_id: str) -> JoinedNetwork:
    config, result = fields.nested("config", frozenset()), fields.nested("result", frozenset())
    capabilities = fields.nested("capabilities", frozenset())
    if config is None:
        raise fields.error("config", "is missing")
    return JoinedNetwork(
        config=network_from(config.members, what=fields.what),
        attachment=Attachment(
            container_id=container_id,
            netns=netns,
            interface=fields.string("interface"),
            arguments=fields.string_map("arguments"),
            capabilities={} if capabilities is None else capabilities.members,
        ),
        result=None if result is None else result_from(result.members, what=fields.what),
    )


def _port(fields: Fields) -> PortMapping:
    host_port, container_port = fields.integer("hostPort"), fields.integer("containerPort")
    protocol: Protocol
    match fields.string("protocol"):
        case "tcp" | "udp" | "sctp" as protocol:
            pass
        case other:
            raise InvalidArgumentError(f"{fields.what}: {other[:64]!a} is no protocol of ports")
    return PortMapping(
        host_ip=fields.string("hostIP"),
        host_port=host_port or 0,
        container_port=container_port or 0,
        protocol=protocol,
    )
