"""Results of ADD kept on disk, so that another process can DEL after a crash; in libcni's format and place. Blocking.

Source: containernetworking/cni, libcni ("cniCacheV1"); also read and written by nerdctl, cnitool and CRI plugins.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from containerd_py._whole_files import write_whole
from containerd_py.cni.attachment import Attachment
from containerd_py.cni.config import MAX_CONFIG_SIZE, NetworkConfig, parse_network
from containerd_py.cni.results import MAX_RESULT_SIZE, CNIResult, result_from
from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.json_fields import Fields
from containerd_py.oci.strict_json import load_object

KIND: Final = "cniCacheV1"
_MAX_SIZE: Final = 2 * (MAX_CONFIG_SIZE + MAX_RESULT_SIZE)
_FIELDS: Final = frozenset(
    ["kind", "containerId", "config", "ifName", "networkName", "netns", "cniArgs", "capabilityArgs", "result"]
)


@attrs.frozen(kw_only=True)
class CachedAttachment:
    """An attachment that was made, by whomever, with the network as it was then."""

    network: NetworkConfig
    attachment: Attachment
    result: CNIResult | None


@attrs.frozen
class ResultCache:
    """The folder of results."""

    folder: Path

    def path(self, network: str, container_id: str, interface: str) -> Path:
        """Return the file of an attachment."""
        return self.folder / f"{network}-{container_id}-{interface}"

    def store(self, network: NetworkConfig, attachment: Attachment, result: Mapping[str, object]) -> None:
        """Keep the result of an attachment."""
        document: dict[str, object] = {
            "kind": KIND,
            "containerId": attachment.container_id,
            "config": base64.b64encode(json.dumps(network.document).encode()).decode(),
            "ifName": attachment.interface,
            "networkName": network.name,
            "netns": str(attachment.netns),
            "cniArgs": [[key, value] for key, value in attachment.arguments.items()],
            "capabilityArgs": dict(attachment.capabilities),
            "result": dict(result),
        }
        path = self.path(network.name, attachment.container_id, attachment.interface)
        write_whole(path, json.dumps(document).encode(), durable=False)  # what it tells of is gone then, too

    def result(self, network: str, attachment: Attachment) -> Mapping[str, object] | None:
        """Return what ADD answered; None where nothing is known, or nothing that can be read."""
        cached = self._read(self.path(network, attachment.container_id, attachment.interface))
        return None if cached is None or cached.result is None else cached.result.document

    def drop(self, network: str, attachment: Attachment) -> None:
        """Forget an attachment."""
        self.path(network, attachment.container_id, attachment.interface).unlink(missing_ok=True)

    def attachments(self, network: str | None = None) -> Iterator[CachedAttachment]:
        """Yield what is attached, to a network or to any; files that are none of ours are left out."""
        try:
            paths = sorted(self.folder.iterdir())
        except FileNotFoundError:
            return
        for path in paths:
            if path.name.startswith(".") or not path.name.startswith(f"{network}-" if network else ""):
                continue
            cached = self._read(path)
            if cached is not None and network in (None, cached.network.name):
                yield cached

    def _read(self, path: Path) -> CachedAttachment | None:
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_SIZE + 1)
            return _parse(data, str(path))
        except (OSError, InvalidArgumentError):
            return None  # as libcni: a cache that cannot be read is none


def _parse(data: bytes, what: str) -> CachedAttachment:
    fields = Fields(members=load_object(data, what=what, max_size=_MAX_SIZE, fold_case=False), known=_FIELDS, what=what)
    if fields.string("kind") != KIND:
        raise fields.error("kind", "is not libcni's")
    try:
        config = base64.b64decode(fields.string("config"), validate=True)
    except binascii.Error as error:
        raise fields.error("config", "is not base64") from error
    result = fields.nested("result", frozenset())
    capabilities = fields.nested("capabilityArgs", frozenset())
    return CachedAttachment(
        network=parse_network(config, what=what),
        attachment=Attachment(
            container_id=fields.string("containerId"),
            netns=Path(fields.string("netns")),
            interface=fields.string("ifName"),
            arguments=dict(_pairs(fields)),
            capabilities={} if capabilities is None else capabilities.members,
        ),
        result=None if result is None else result_from(result.members, what=what),
    )


def _pairs(fields: Fields) -> Iterator[tuple[str, str]]:
    pairs = fields.members.get("cniArgs") or []
    if not isinstance(pairs, list):
        raise fields.error("cniArgs", "is no list of pairs")
    for pair in pairs:
        match pair:
            case [str(key), str(value)]:
                yield key, value
            case _:
                raise fields.error("cniArgs", "is no list of pairs")
