"""Which registries a daemon can be sent to, and how it is told about them."""

from __future__ import annotations

from typing import Final, Protocol

from containerd_py.errors import ContainerdError, InvalidArgumentError, NotSupportedError, UnimplementedError
from containerd_py.references import Reference
from containerd_py.remotes.hosts import default_origin
from containerd_py.remotes.registry import DEFAULT_REGISTRY, Registry
from containerd_py.services.bundle import Services
from containerd_py.services.transfer import RegistryEndpoint
from containerd_py.support import first_line, first_line_of_field

_PLUGIN_TYPE: Final = "io.containerd.transfer.v1"
_TRANSFER: Final = "/containerd.services.transfer.v1.Transfer/Transfer"
_RESOLVER: Final = "containerd.types.transfer.RegistryResolver"
# What only this program can honour: the daemon has its own certificates, patience and opinion of token servers.
_OURS_ALONE: Final = ("ca", "client_cert", "skip_verify", "token_servers", "limits")


class RegistryRequest(Protocol):
    """A pull or a push: of which reference, and how its registry is talked to."""

    @property
    def reference(self) -> Reference:
        """What is pulled or pushed."""
        ...

    @property
    def registry(self) -> Registry:
        """How to talk to the registry."""
        ...


def scheme_of(request: RegistryRequest) -> str:
    """Say how the registry is spoken to where no hosts directory says otherwise: "https" or "http"."""
    return default_origin(request.reference, plain_http=request.registry.plain_http).scheme


def registry_endpoint(request: RegistryRequest, auth_stream: str) -> RegistryEndpoint:
    """Return the registry as the daemon is told about it."""
    registry = request.registry
    return RegistryEndpoint(
        reference=str(request.reference),
        auth_stream=auth_stream,
        headers={} if registry.user_agent is None else {"User-Agent": registry.user_agent},
        host_dir="" if registry.hosts_dir is None else str(registry.hosts_dir),
        default_scheme=scheme_of(request),
    )


async def transfer_obstacle(services: Services, request: RegistryRequest, verb: str) -> ContainerdError | None:
    """Return why this daemon cannot do what is asked the way it is asked; None if it can. `verb`: "pull" or "push"."""
    registry = request.registry
    ours = [name for name in _OURS_ALONE if getattr(registry, name) != getattr(DEFAULT_REGISTRY, name)]
    if ours:
        return InvalidArgumentError(
            f'the daemon itself cannot use the registry\'s {", ".join(ours)}: {verb} via="client"'
        )
    plugins = await services.introspection.plugins([f"type=={_PLUGIN_TYPE}"])
    working = [plugin for plugin in plugins if plugin.is_working]
    if not working:
        return NotSupportedError(
            "this daemon has no transfer service, "
            f'containerd {first_line(_TRANSFER)} or later does: {verb} via="client"'
        )
    if registry.hosts_dir is None and scheme_of(request) == "https":
        return None
    # A daemon ignores what it does not know. It says what its plugins can do since it honours hosts directories and
    # schemes (containerd 2.0), and no question leads there more directly.
    try:
        await services.introspection.plugin_info(working[0].type, working[0].id)
    except UnimplementedError:
        line = first_line_of_field(_RESOLVER, "default_scheme")
        return NotSupportedError(
            "this daemon talks to registries over https alone and without hosts directories, "
            f'containerd {line} or later does not: {verb} via="client"'
        )
    return None
