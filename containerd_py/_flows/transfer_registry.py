"""Which registries a daemon can be sent to, and how it is told about them."""

from __future__ import annotations

from typing import Final

from containerd_py._flows.pull_request import PullRequest
from containerd_py.errors import ContainerdError, InvalidArgumentError, NotSupportedError, UnimplementedError
from containerd_py.remotes.hosts import default_origin
from containerd_py.remotes.registry import DEFAULT_REGISTRY
from containerd_py.services.bundle import Services
from containerd_py.services.transfer import RegistryEndpoint
from containerd_py.support import first_line, first_line_of_field

_PLUGIN_TYPE: Final = "io.containerd.transfer.v1"
_TRANSFER: Final = "/containerd.services.transfer.v1.Transfer/Transfer"
_RESOLVER: Final = "containerd.types.transfer.RegistryResolver"
# What only this program can honour: the daemon has its own certificates, patience and opinion of token servers.
_OURS_ALONE: Final = ("ca", "client_cert", "skip_verify", "token_servers", "limits")


def scheme_of(request: PullRequest) -> str:
    """Say how the registry is spoken to where no hosts directory says otherwise: "https" or "http"."""
    return default_origin(request.reference, plain_http=request.registry.plain_http).scheme


def registry_endpoint(request: PullRequest, auth_stream: str) -> RegistryEndpoint:
    """Return the registry as the daemon is told about it."""
    registry = request.registry
    return RegistryEndpoint(
        reference=request.name,
        auth_stream=auth_stream,
        headers={} if registry.user_agent is None else {"User-Agent": registry.user_agent},
        host_dir="" if registry.hosts_dir is None else str(registry.hosts_dir),
        default_scheme=scheme_of(request),
    )


async def transfer_obstacle(services: Services, request: PullRequest) -> ContainerdError | None:
    """Return why this daemon cannot pull what is asked the way it is asked; None if it can."""
    registry = request.registry
    ours = [name for name in _OURS_ALONE if getattr(registry, name) != getattr(DEFAULT_REGISTRY, name)]
    if ours:
        return InvalidArgumentError(
            f'a daemon that pulls itself cannot use the registry\'s {", ".join(ours)}: pull via="client"'
        )
    plugins = await services.introspection.plugins([f"type=={_PLUGIN_TYPE}"])
    working = [plugin for plugin in plugins if plugin.is_working]
    if not working:
        return NotSupportedError(
            f'this daemon has no transfer service, containerd {first_line(_TRANSFER)} or later does: pull via="client"'
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
            "this daemon pulls over https alone and without hosts directories, "
            f'containerd {line} or later does not: pull via="client"'
        )
    return None
