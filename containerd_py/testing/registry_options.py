"""The configuration of a local `docker-registry`. Blocking; knows that program's configuration file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import bcrypt

from containerd_py.errors import InvalidArgumentError

HASH_ROUNDS: Final = 4  # the fewest that bcrypt allows: the secrets are tests' own


@attrs.frozen(kw_only=True)
class TLSFiles:
    """Where a server's certificate chain and its key are, PEM; `ca` is what a client must trust."""

    certificate: Path
    key: Path
    ca: Path


@attrs.frozen(kw_only=True)
class TokenAuth:
    """Bearer tokens as the distribution specification has them: `root_certificates` (PEM) sign those of `issuer`."""

    realm: str
    service: str
    issuer: str
    root_certificates: Path


@attrs.frozen(kw_only=True)
class RegistryOptions:
    """What a registry demands of its clients, and where it gets what it lacks."""

    users: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    tls: TLSFiles | None = None
    token: TokenAuth | None = None
    upstream: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.users and self.token is not None:
            raise InvalidArgumentError("a registry asks either for users' passwords or for tokens")

    def write(self, folder: Path, listen: str) -> Path:
        """Write the configuration file of a registry that listens on `listen` and keeps everything in `folder`."""
        path = folder / "config.json"  # JSON is YAML, which the registry reads
        path.write_text(json.dumps(self._settings(folder, listen)))
        return path

    def _settings(self, folder: Path, listen: str) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": listen, "secret": "loopback"}  # which only signs the states of uploads
        if self.tls is not None:
            http["tls"] = {"certificate": str(self.tls.certificate), "key": str(self.tls.key)}
        authentication = self._authentication(folder)
        return {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(folder / "storage")},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": http,
            **({"auth": authentication} if authentication else {}),
            **({"proxy": {"remoteurl": self.upstream}} if self.upstream is not None else {}),
        }

    def _authentication(self, folder: Path) -> dict[str, Any]:
        if self.token is not None:
            return {
                "token": {
                    "realm": self.token.realm,
                    "service": self.token.service,
                    "issuer": self.token.issuer,
                    "rootcertbundle": str(self.token.root_certificates),
                }
            }
        if not self.users:
            return {}
        path = folder / "htpasswd"
        path.write_text("".join(_htpasswd_line(name, password) for name, password in self.users.items()))
        return {"htpasswd": {"realm": "local", "path": str(path)}}


def _htpasswd_line(name: str, password: str) -> str:
    return f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(HASH_ROUNDS)).decode()}\n"
