"""Where to look for a registry's content: the hosts to ask, in order, as containerd's hosts directories say.

Reads files; to be called off the event loop. Opens no connection.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from containerd_py.errors import InvalidArgumentError
from containerd_py.references import Reference
from containerd_py.remotes.host_config import HostConfig, RootConfig
from containerd_py.remotes.hosts_toml import parse_hosts_toml
from containerd_py.remotes.origins import Origin, origin_of
from containerd_py.remotes.tls import NO_FILES, TLSFiles

MAX_FILE_SIZE: Final = 1024 * 1024  # bytes of a hosts.toml

_log = logging.getLogger(__name__)


def load_hosts(
    reference: Reference, *, hosts_dir: Path | None, plain_http: bool | None, expects_tls: bool
) -> list[HostConfig]:
    """List the hosts to ask for a reference: mirrors in the file's order, then the registry itself.

    `expects_tls` says that TLS was configured for the whole registry, so that even one on loopback is asked over it.

    Raises:
        InvalidArgumentError: A configured file cannot be read, or the registry's name is no host.
    """
    mirrors: list[HostConfig] = []
    root = RootConfig()
    directory = find_directory(hosts_dir, reference.domain) if hosts_dir is not None else None
    if directory is not None:
        mirrors, root = _load_directory(directory)
    expects_tls = expects_tls or root.tls != NO_FILES or root.skip_verify is not None
    own = root.server or HostConfig(
        origin=default_origin(reference, plain_http=plain_http, expects_tls=expects_tls),
        tls=root.tls,
        skip_verify=root.skip_verify,
        headers=root.headers,
        dial_timeout=root.dial_timeout,
    )
    return [*mirrors, own]


def default_origin(reference: Reference, *, plain_http: bool | None, expects_tls: bool = False) -> Origin:
    """Tell where a registry is that nothing was configured for: https, but plain HTTP on loopback.

    Raises:
        InvalidArgumentError: The registry's name is no host.
    """
    try:
        secure = origin_of(f"https://{reference.host}")
        plain = origin_of(f"http://{reference.host}")
    except ValueError as error:
        raise InvalidArgumentError(f"{reference.domain!r} is no registry's address: {error}") from None
    if plain_http is not None:
        return plain if plain_http else secure
    return plain if secure.is_loopback and secure.port != 443 and not expects_tls else secure


def find_directory(hosts_dir: Path, domain: str) -> Path | None:
    """Find a registry's folder: `host_port_`, `host:port`, then `_default`.

    Raises:
        InvalidArgumentError: The domain could lead out of the directory, or the directory cannot be searched.
    """
    if "/" in domain or "\0" in domain or domain in {"", ".", ".."}:
        raise InvalidArgumentError(f"{domain!r} is no registry's name")
    host, colon, port = domain.rpartition(":")
    names = [f"{host}_{port}_"] if colon and host else []
    for name in (*names, domain, "_default"):
        folder = hosts_dir / name
        try:
            folder.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InvalidArgumentError(f"{folder} cannot be read: {error.strerror}") from None
        return folder
    return None


def _load_directory(directory: Path) -> tuple[list[HostConfig], RootConfig]:
    file = directory / "hosts.toml"
    data = _read(file)
    if data:
        try:
            return parse_hosts_toml(data, directory)
        except ValueError as error:
            # As containerd does: say so, and go on as if there were certificates only.
            _log.error("%s is not used: %s", file, error)
    return [], _load_certificates(directory)


def _load_certificates(directory: Path) -> RootConfig:
    """Read a folder laid out as Docker's certs.d: *.crt are authorities, *.cert with *.key are ours."""
    try:
        names = sorted(entry.name for entry in directory.iterdir() if not entry.is_dir())
    except NotADirectoryError:
        return RootConfig()
    except OSError as error:
        raise InvalidArgumentError(f"{directory} cannot be read: {error.strerror}") from None
    authorities = tuple(directory / name for name in names if name.endswith(".crt"))
    pairs = tuple(
        (directory / name, directory / key if (key := name.removesuffix(".cert") + ".key") in names else None)
        for name in names
        if name.endswith(".cert")
    )
    return RootConfig(tls=TLSFiles(ca=authorities, client=pairs))


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_SIZE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise InvalidArgumentError(f"{file} cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_SIZE:
        raise InvalidArgumentError(f"{file} is larger than {MAX_FILE_SIZE} bytes")
    return data
