"""What it means that no answer came: the HTTP client's exceptions become typed errors. Knows those; decides nothing."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from containerd_py.errors import (
    RegistryConnectError,
    RegistryDisconnectedError,
    RegistryError,
    RegistryStalledError,
    RegistryTLSError,
)
from containerd_py.remotes.origins import Origin, shown
from containerd_py.remotes.resolving import TooNearError

if TYPE_CHECKING:
    import aiohttp  # a tenth of a second: imported when a registry is talked to

_UNREACHABLE: Final = (ConnectionRefusedError, TimeoutError)


def failure_of(error: Exception, *, host: str, asked: Origin) -> RegistryError:
    """Make the typed error for a request that got no (whole) answer.

    Only the client's reason goes in, never its request: that one holds our credentials. For the same sake the caller
    raises it `from None`.
    """
    import aiohttp

    where = _where(host, asked)
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
            return RegistryTLSError(f"the certificate of {where} is not trusted: {reason}", host=host)
        case aiohttp.ClientConnectorDNSError():
            return _name_failure(error, where, host)
        case aiohttp.ClientProxyConnectionError():
            return RegistryConnectError(f"the proxy to {where} cannot be reached: {_reason(error.os_error)}", host=host)
        case aiohttp.ClientHttpProxyError():
            return RegistryConnectError(f"the proxy refuses {where} with status {error.status}", host=host)
        case aiohttp.ConnectionTimeoutError():
            return RegistryConnectError(f"no connection to {where} in time", host=host)
        case aiohttp.ClientConnectorError():
            return _connect_failure(error, where, asked, host)
        case aiohttp.ClientResponseError():
            return RegistryError(f"{where} sent something that is not HTTP, or headers beyond all bounds", host=host)
        case _ if _is_tls(error):
            return RegistryTLSError(f"TLS with {where} failed: {_tls_reason(error)}", host=host)
        case _:
            return RegistryDisconnectedError(f"{where} broke the connection ({type(error).__name__})", host=host)


def stalled(reason: str, *, host: str, asked: Origin) -> RegistryStalledError:
    """Make the error for a registry that sends nothing, or next to nothing."""
    return RegistryStalledError(f"{_where(host, asked)} stalled: {reason}", host=host)


def refused_target(host: str, url: str, reason: str) -> RegistryError:
    """Make the error for a place that a registry leads to and we do not go."""
    return RegistryError(f"{host} leads to {shown(url)}, which is not followed: {reason}", host=host)


def _where(host: str, asked: Origin) -> str:
    return host if asked.authority == host else f"{asked.authority} (led there by {host})"


def _name_failure(error: aiohttp.ClientConnectorDNSError, where: str, host: str) -> RegistryError:
    if isinstance(error.os_error, TooNearError):
        return RegistryError(f"{where} is not asked: {error.os_error}", host=host)
    return RegistryConnectError(f"the name of {where} does not resolve: {_reason(error.os_error)}", host=host)


def _connect_failure(error: aiohttp.ClientConnectorError, where: str, asked: Origin, host: str) -> RegistryError:
    cause = error.os_error
    if _is_tls(error) or _is_tls(cause):
        return RegistryTLSError(f"TLS with {where} failed: {_tls_reason(cause)}", host=host)
    if asked.scheme == "https" and isinstance(cause, ConnectionError) and not isinstance(cause, _UNREACHABLE):
        return RegistryTLSError(f"{where} broke the connection during the TLS handshake", host=host)
    return RegistryConnectError(f"{where} cannot be reached: {_reason(cause)}", host=host)


def _is_tls(error: BaseException) -> bool:
    import aiohttp

    return isinstance(error, ssl.SSLError | aiohttp.ClientSSLError) or isinstance(error.__cause__, ssl.SSLError)


def _tls_reason(error: BaseException) -> str:
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    reason = getattr(cause, "reason", None) or type(cause or error).__name__
    return str(reason).replace("_", " ").lower()


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
