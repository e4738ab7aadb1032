"""Credentials out of Docker's config.json: its own, or those of the helpers it names. Knows no registry protocol."""

from __future__ import annotations

import base64
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs
from anyio import to_thread

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.strict_json import load_object
from containerd_py.remotes.credential_helper import ask_helper
from containerd_py.remotes.credentials import HUB, HUB_NAMES, Credential
from containerd_py.remotes.secret import Secret

MAX_CONFIG_SIZE: Final = 1024 * 1024  # bytes

_HUB_SERVER: Final = "https://index.docker.io/v1/"  # the name `docker login` keeps Docker Hub under
_VERSIONS: Final = frozenset({"", "/", "/v1", "/v1/", "/v2", "/v2/"})  # paths that old logins put after the host

_log = logging.getLogger(__name__)


def _path(value: str | os.PathLike[str]) -> Path:
    return Path(value)


@attrs.frozen
class DockerConfig:
    """Credentials as `docker login` left them; given to `Registry(credentials=DockerConfig())`.

    `path` None is $DOCKER_CONFIG/config.json, else ~/.docker/config.json, and there being none is fine. Helpers get a
    small environment, with `helper_environment` added (the AWS helper's AWS_PROFILE, for instance).
    """

    path: Path | None = attrs.field(default=None, converter=attrs.converters.optional(_path))
    helper_environment: Mapping[str, str] = attrs.field(factory=dict, kw_only=True, repr=False)

    async def __call__(self, registry: str) -> Credential | None:
        """Look up a registry: its own helper first, then the general one, then the file itself.

        Raises:
            InvalidArgumentError: The file is malformed, or names an impossible helper.
            RegistryAuthenticationError: The helper failed.
        """
        config = await to_thread.run_sync(self._load)
        helper = _helper_for(config, registry)
        if helper:
            server = _HUB_SERVER if registry == HUB else registry
            found = await ask_helper(helper, server, os.environ, self.helper_environment)
            if found is not None:
                return found
        return _stored(config, registry)

    def _load(self) -> dict[str, object]:
        path = self.path or default_path(os.environ)
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(MAX_CONFIG_SIZE + 1)
        except FileNotFoundError:
            if self.path is None:
                return {}
            raise InvalidArgumentError(f"{path} does not exist") from None
        except OSError as error:
            raise InvalidArgumentError(f"{path} cannot be read: {error.strerror}") from None
        if mode & (stat.S_IRGRP | stat.S_IROTH) and b'"auth"' in data:
            _log.warning("%s holds passwords and others can read it: chmod 600 it", path)
        try:
            return load_object(data, what=str(path), max_size=MAX_CONFIG_SIZE, maps=("auths", "credHelpers"))
        except InvalidArgumentError as error:
            reason = str(error)
        del data  # it holds passwords, and tracebacks may show it
        raise InvalidArgumentError(reason)


def default_path(environment: Mapping[str, str]) -> Path:
    """Tell where Docker keeps its configuration."""
    folder = environment.get("DOCKER_CONFIG")
    home = environment.get("HOME")
    return (Path(folder) if folder else (Path(home) if home else Path.home()) / ".docker") / "config.json"


def _helper_for(config: Mapping[str, object], registry: str) -> str:
    helpers = config.get("credHelpers")
    names = _names(registry)
    for key, name in helpers.items() if isinstance(helpers, dict) else ():
        if _host_of(key) in names:
            return _string(name, f"credHelpers of {key!r}")
    return _string(config.get("credsStore") or "", "credsStore")


def _stored(config: Mapping[str, object], registry: str) -> Credential | None:
    auths = config.get("auths")
    names = _names(registry)
    entries = auths.items() if isinstance(auths, dict) else ()
    # The exact key wins over one that only means the same host, as in Docker.
    for _, entry in sorted(
        ((key, entry) for key, entry in entries if _host_of(key) in names), key=lambda item: item[0] not in names
    ):
        if isinstance(entry, dict) and (found := _read_entry(entry, registry)):
            return found
    return None


def _read_entry(entry: Mapping[str, object], registry: str) -> Credential | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credential(secret=Secret(token))
    encoded = entry.get("auth")
    if isinstance(encoded, str) and encoded:
        try:
            username, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            colon = ""
        if not colon:
            raise InvalidArgumentError(f"Docker's configuration for {registry} has an auth that is no user:password")
        return Credential(username=username, secret=Secret(password.rstrip("\0")))
    username_, password_ = entry.get("username"), entry.get("password")
    if isinstance(username_, str) and isinstance(password_, str) and username_:
        return Credential(username=username_, secret=Secret(password_))
    return None


def _names(registry: str) -> frozenset[str]:
    return HUB_NAMES if registry == HUB else frozenset({registry})


def _host_of(key: str) -> str:
    """Reduce a key to host and port: the scheme and an API version go, any other path means something narrower."""
    bare = key.lower().removeprefix("https://").removeprefix("http://")
    host, slash, path = bare.partition("/")
    return host if slash + path in _VERSIONS else ""


def _string(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{what} in Docker's configuration is no string")
    return value
