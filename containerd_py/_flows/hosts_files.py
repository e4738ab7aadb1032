"""Hosts files by which the containers of a network find each other, in nerdctl's layout and words. Blocking.

`etchosts/NAMESPACE/ID` has a container's `hosts`, which is mounted into it, and `meta.json` with what others need to
know. The lock is that of the directory etchosts/NAMESPACE. A file is written in place: another one in its place would
not be the one that is mounted.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from containerd_py._flows.network_state import HostsEntry
from containerd_py._whole_files import write_whole
from containerd_py.cni.locks import locked
from containerd_py.cni.results import CNIResult, IPAddress, result_from
from containerd_py.cni.store import DEFAULT_NAME
from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.json_fields import Fields
from containerd_py.oci.strict_json import load_object

META: Final = "meta.json"
HOSTS: Final = "hosts"
_BEGIN, _END = "# <nerdctl>", "# </nerdctl>"
_MAX_META: Final = 1024 * 1024  # bytes
_MAX_HOSTS: Final = 1024 * 1024  # bytes; a container may write into its file
_FIELDS: Final = frozenset(["ID", "Networks", "Hostname", "ExtraHosts", "Name", "Domainname"])
_NAME_RE: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?", re.ASCII)


@attrs.frozen(kw_only=True)
class _Member:
    entry: HostsEntry
    addresses: Mapping[str, tuple[IPAddress, ...]]  # by network


def check_host_name(name: str) -> str:
    """Return a name that may stand in a hosts file.

    Raises:
        InvalidArgumentError: It may not.
    """
    if not _NAME_RE.fullmatch(name):
        raise InvalidArgumentError(f"{name[:64]!a} is no host name: use letters, digits, '.', '-' and '_'")
    return name


def enter_hosts(folder: str, container_id: str, entry: HostsEntry, results: Mapping[str, CNIResult]) -> None:
    """Make a container's hosts file and tell it, and those of its networks, of each other."""
    own = Path(folder)
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    meta = {
        "ID": container_id,
        "Networks": {name: result.document for name, result in results.items()},
        "Hostname": entry.hostname,
        "ExtraHosts": dict(entry.extra_hosts),
        "Name": entry.name,
        "Domainname": entry.domainname,
    }
    with locked(own.parent):
        write_whole(own / META, json.dumps(meta).encode())
        if not (own / HOSTS).exists():
            write_whole(own / HOSTS, b"", mode=0o644)
        _rewrite(own.parent)


def leave_hosts(folder: str) -> None:
    """Tell the others that a container has gone; its own file stays until its directory goes."""
    own = Path(folder)
    if own.parent.is_dir():
        with locked(own.parent):
            (own / META).unlink(missing_ok=True)
            _rewrite(own.parent)


def _rewrite(folder: Path) -> None:
    members = {path.parent: member for path in sorted(folder.glob(f"*/{META}")) if (member := _read(path)) is not None}
    for place, member in members.items():
        path = place / HOSTS
        old = _own_text(path)
        new = "".join([*_kept(old), *_region(member, members.values())])
        if new != old:
            _write_in_place(path, new.encode())


def _region(own: _Member, members: Iterable[_Member]) -> Iterator[str]:
    yield f"{_BEGIN}\n127.0.0.1\tlocalhost localhost.localdomain\n::1\t\tlocalhost localhost.localdomain\n"
    for name, ip in own.entry.extra_hosts.items():
        yield f"{ip:<15} {name}\n"
    for member in members:
        for network in own.addresses:
            for address in member.addresses.get(network, ()):
                yield f"{address!s:<15} {' '.join(_names(member.entry, network))}\n"
    yield f"{_END}\n"


def _names(entry: HostsEntry, network: str) -> Iterator[str]:
    if entry.domainname:
        yield f"{entry.hostname}.{entry.domainname}"
    for name in dict.fromkeys((entry.hostname, entry.name)):
        if name:
            yield name
            if network != DEFAULT_NAME:
                yield f"{name}.{network}"


def _kept(text: str) -> Iterator[str]:
    """Yield the lines outside of the marked region: what the container, or somebody else, has written."""
    inside = False
    for line in text.removesuffix("\n").split("\n") if text else ():  # not splitlines(): a form feed ends no line
        mark = line.strip()
        if mark == _BEGIN:
            inside = True
        elif mark == _END:
            inside = False
        elif not inside:
            yield f"{line}\n"


def _own_text(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_MAX_HOSTS + 1)
    return "" if len(data) > _MAX_HOSTS else data.decode(errors="replace")


def _write_in_place(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o644)
        file.write(data)
        file.truncate()


def _read(path: Path) -> _Member | None:
    """Read what is known of a container; what cannot be read is as if it were not there."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_META + 1)
        fields = Fields(
            members=load_object(data, what=str(path), max_size=_MAX_META, fold_case=False),
            known=_FIELDS,
            what=str(path),
        )
        networks = fields.nested("Networks", frozenset())
        results = {} if networks is None else {name: networks.nested(name, frozenset()) for name in networks.members}
        entry = HostsEntry(
            hostname=check_host_name(fields.string("Hostname")),
            name=check_host_name(name) if (name := fields.string("Name")) else "",
            domainname=check_host_name(domain) if (domain := fields.string("Domainname")) else "",
            extra_hosts={
                check_host_name(name): str(ipaddress.ip_address(ip))
                for name, ip in fields.string_map("ExtraHosts").items()
            },
        )
        return _Member(
            entry=entry,
            addresses={
                name: result_from(found.members, what=str(path)).addresses
                for name, found in results.items()
                if found is not None
            },
        )
    except (OSError, ValueError):
        return None
