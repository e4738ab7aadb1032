"""Networks on disk, in nerdctl's layout: found, written, removed, under the lock it takes. Blocking.

`CONF_DIR/*.{conf,conflist,json}` are everybody's, `CONF_DIR/NAMESPACE/*` those of one containerd namespace.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import attrs

from containerd_py._whole_files import write_whole
from containerd_py.cni.config import SUFFIXES, NetworkConfig, load_network, network_from
from containerd_py.cni.locks import locked
from containerd_py.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from containerd_py.oci.json_fields import Fields

DEFAULT_NAME: Final = "bridge"  # nerdctl's default network
DEFAULT_LABEL: Final = "nerdctl/default-network"
PSEUDO_NETWORKS: Final = frozenset(["host", "none"])
_LOCK: Final = ".nerdctl.lock"
_ID_LENGTH: Final = 12  # of the digits shown, and of those in a bridge's name
_FIELDS: Final = frozenset(["nerdctlID", "nerdctlLabels"])
_log = logging.getLogger(__name__)


def network_id(name: str) -> str:
    """Return the ID nerdctl gives a network."""
    return hashlib.sha256(name.encode()).hexdigest()


def bridge_name(name: str) -> str:
    """Return the name of a network's bridge on the host."""
    return "nerdctl0" if name == DEFAULT_NAME else f"br-{network_id(name)[:_ID_LENGTH]}"


@attrs.frozen(kw_only=True)
class StoredNetwork:
    """A network, and what nerdctl keeps of it in its file."""

    config: NetworkConfig
    id: str | None = None  # None where another program wrote it
    labels: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def is_default(self) -> bool:
        """Whether it is the one used where none is named."""
        return DEFAULT_LABEL in self.labels


@attrs.frozen
class NetworkStore:
    """The networks of one containerd namespace, those of all namespaces included."""

    folder: Path
    namespace: str

    def all(self) -> list[StoredNetwork]:
        """Return all networks, everybody's first; a file that cannot be read is left out, with a warning."""
        with locked(self.folder / _LOCK, shared=True):
            return self._list()

    def find(self, name: str) -> StoredNetwork:
        """Return a network by its name or the beginning of its ID, of at least 12 digits.

        Raises:
            NotFoundError: There is none.
        """
        networks = self.all()
        for network in reversed(networks):  # a namespace's own goes before everybody's
            if network.config.name == name:
                return network
        for network in networks:
            if len(name) >= _ID_LENGTH and network.id is not None and network.id.startswith(name):
                return network
        raise NotFoundError(
            f"there is no network {name[:64]!r} in {self.folder}: create it with client.networks.create"
        )

    def find_default(self) -> StoredNetwork | None:
        """Return the default network: the one labelled so, else the one of its name; None where there is none."""
        networks = self.all()
        by_name = (network for network in networks if network.config.name == DEFAULT_NAME)
        return next((network for network in networks if network.is_default), next(by_name, None))

    def create(self, name: str, make: Callable[[list[StoredNetwork]], Mapping[str, object]]) -> StoredNetwork:
        """Write the network that `make` makes, knowing all others, under the lock that keeps it alone.

        Raises:
            AlreadyExistsError: There is one of that name.
        """
        with locked(self.folder / _LOCK):
            networks = self._list()
            path = self._path(name)
            if any(network.config.name == name for network in networks) or path.exists():
                raise AlreadyExistsError(f"there is a network {name!r} already")
            document = make(networks)
            network_from(document)  # what is written can be read
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_whole(path, json.dumps(document, indent=2).encode(), mode=0o644)
            return _stored(load_network(path))

    def remove(self, network: StoredNetwork, clean: Callable[[], None]) -> None:
        """Remove a network's file and what `clean` cleans. That it has gone already is fine."""
        with locked(self.folder / _LOCK):
            assert network.config.path is not None, "it was read from a file"
            clean()
            network.config.path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        folder = self.folder if name == DEFAULT_NAME else self.folder / self.namespace
        return folder / f"nerdctl-{name}.conflist"

    def _list(self) -> list[StoredNetwork]:
        found = []
        for folder in (self.folder, self.folder / self.namespace):
            for path in _files(folder):
                try:
                    found.append(_stored(load_network(path)))
                except (InvalidArgumentError, NotFoundError, OSError) as error:
                    _log.warning("network configuration left out: %s", error)
        return found


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _stored(config: NetworkConfig) -> StoredNetwork:
    fields = Fields(members=config.document, known=_FIELDS, what=str(config.path))
    return StoredNetwork(
        config=config, id=fields.optional_string("nerdctlID"), labels=fields.string_map("nerdctlLabels")
    )
