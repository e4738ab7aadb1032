"""How registries are talked to: one frozen configuration, and repositories opened with it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, TypeAlias

import attrs
from anyio import to_thread

from containerd_py.errors import ContainerdError, InvalidArgumentError
from containerd_py.references import PATH_RE, Reference
from containerd_py.remotes.answers import most_telling
from containerd_py.remotes.auth import Authorizer
from containerd_py.remotes.credentials import CredentialSource, sealed
from containerd_py.remotes.host_client import HostClient
from containerd_py.remotes.host_config import HostConfig
from containerd_py.remotes.hosts import load_hosts
from containerd_py.remotes.limits import RegistryLimits
from containerd_py.remotes.listing import list_names, page_query
from containerd_py.remotes.proxies import Proxies
from containerd_py.remotes.repository import Repository
from containerd_py.remotes.session import Session, Surroundings
from containerd_py.remotes.tls import NO_FILES, TLSContexts, TLSFiles

StrPath: TypeAlias = str | os.PathLike[str]

_CATALOG_SCOPES: Final = ("registry:catalog:*",)


def _path(value: StrPath) -> Path:
    return Path(value)


def _hosts(value: Iterable[str]) -> frozenset[str]:
    return frozenset(value)


def _paths(value: StrPath | Iterable[StrPath] | None) -> tuple[Path, ...]:
    if value is None:
        return ()
    return (Path(value),) if isinstance(value, str | os.PathLike) else tuple(map(Path, value))


def _certificate(value: StrPath | tuple[StrPath, StrPath] | None) -> tuple[Path, Path | None] | None:
    if value is None:
        return None
    return (Path(value[0]), Path(value[1])) if isinstance(value, tuple) else (Path(value), None)


@cache
def default_user_agent() -> str:
    """Tell the name this package gives itself towards registries. Reads the installed version, once."""
    try:
        return f"containerd-py/{version('containerd-py')}"
    except PackageNotFoundError:
        return "containerd-py"


@attrs.frozen(kw_only=True)
class Registry:
    """How to talk to registries; whichever registry a reference names.

    `pull`, `push` and the like take one as `registry=`. By itself it lists repositories, and `open_repository` lends
    what lists tags and referrers, deletes manifests, and moves single blobs and manifests.

    `hosts_dir` holds hosts.toml directories, read as containerd reads them (`/etc/containerd/certs.d`, usually).
    `credentials` is a mapping from host (or host:port) to user name and secret, a callable (plain or asynchronous) that
    is given the host and answers such a pair or None, or a `DockerConfig`; without it nothing is shown to anybody.
    `plain_http` None means plain HTTP on loopback only, and there not on port 443 nor where TLS is configured.
    `ca` and `client_cert` are PEM files: authorities trusted besides the system's, and our own certificate (with its
    key, or a pair of files). `token_servers` (host or host:port) narrows down which token services a registry may name;
    None permits every one over https. Proxies come from the environment, passwords never from .netrc.
    """

    hosts_dir: Path | None = attrs.field(default=None, converter=attrs.converters.optional(_path))
    credentials: CredentialSource | None = attrs.field(default=None, converter=sealed, repr=False)
    plain_http: bool | None = None
    skip_verify: bool = False
    ca: tuple[Path, ...] = attrs.field(default=None, converter=_paths)
    client_cert: tuple[Path, Path | None] | None = attrs.field(default=None, converter=_certificate)
    user_agent: str | None = None
    token_servers: frozenset[str] | None = attrs.field(default=None, converter=attrs.converters.optional(_hosts))
    limits: RegistryLimits = attrs.field(factory=RegistryLimits)

    @asynccontextmanager
    async def open_repository(self, reference: Reference | str) -> AsyncIterator[Repository]:
        """Open the repository of a reference; its connections are closed on the way out.

        A text is completed as in a pull; the tag is what `Repository.resolve` asks for, and matters to nothing else.

        Raises:
            InvalidArgumentError: The text is no reference, or a configured file cannot be used.
        """
        parsed = Reference.parse(reference) if isinstance(reference, str) else reference
        async with self._open_hosts(parsed) as clients:
            yield Repository(parsed, clients, self.limits)

    async def list_repositories(self, domain: str) -> list[str]:
        """Return the names of all repositories of a registry, given by its address: "registry.example:5000".

        Many registries tell nobody, or only what the credentials may see.

        Raises:
            InvalidArgumentError: This is no registry's address, or a configured file cannot be used.
            RegistryError: The registry refused or failed; or it lists more than `limits` allow.
        """
        errors: list[ContainerdError] = []
        async with self._open_hosts(Reference(domain=domain, path="any/any", tag="any")) as clients:
            for client in clients:
                url = client.registry_url("_catalog", page_query())
                try:
                    return await list_names(
                        client, url, "repositories", PATH_RE, "the list of repositories", _CATALOG_SCOPES
                    )
                except ContainerdError as error:
                    errors.append(error)
        raise most_telling(errors) from None

    @asynccontextmanager
    async def _open_hosts(self, reference: Reference) -> AsyncIterator[list[HostClient]]:
        hosts = await to_thread.run_sync(partial(self.hosts_for, reference))
        own_agent = await to_thread.run_sync(default_user_agent)
        surroundings = Surroundings(
            limits=self.limits,
            proxies=Proxies.from_environment(os.environ),
            contexts=TLSContexts(),
            user_agent=self.user_agent or own_agent,
            skip_verify=self.skip_verify,
        )
        async with AsyncExitStack() as stack:
            clients = []
            for host in hosts:
                session = await stack.enter_async_context(Session(host, surroundings))
                authorizer = Authorizer(session, self.credentials, token_servers=self.token_servers)
                clients.append(HostClient(session, authorizer, reference))
            yield clients

    def hosts_for(self, reference: Reference) -> list[HostConfig]:
        """List the hosts that are asked for a reference, in order. Reads `hosts_dir`, and so blocks.

        Raises:
            InvalidArgumentError: A configured file cannot be used.
        """
        files = TLSFiles(ca=self.ca, client=(self.client_cert,) if self.client_cert else ())
        hosts = load_hosts(
            reference,
            hosts_dir=self.hosts_dir,
            plain_http=self.plain_http,
            expects_tls=files != NO_FILES or self.skip_verify,
        )
        return [attrs.evolve(host, tls=host.tls.with_defaults(files)) for host in hosts]


DEFAULT_REGISTRY: Final = Registry()


def chosen_registry(registry: Registry | None) -> Registry:
    """Return the settings that were given, or else the default ones.

    Raises:
        InvalidArgumentError: These are no settings, such as a registry's name.
    """
    if registry is None:
        return DEFAULT_REGISTRY
    if not isinstance(registry, Registry):
        raise InvalidArgumentError(
            f"registry must be a Registry(…), not {registry!r}: which registry it is says the reference"
        )
    return registry
