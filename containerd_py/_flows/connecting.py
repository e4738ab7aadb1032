"""Opening a connection and making sure that a containerd answers on it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from containerd_py._flows.capabilities import keep_learning, learn_features
from containerd_py._flows.undoing import settle_debts
from containerd_py._transport.address import resolve_address
from containerd_py._transport.connection import Connection, Rpc, open_connection
from containerd_py._transport.scope import Scope
from containerd_py.cni.settings import NetworkSettings
from containerd_py.errors import (
    ConnectionLostError,
    DaemonNotRespondingError,
    ProtocolError,
    UnavailableError,
    UnimplementedError,
    UnknownError,
)
from containerd_py.services.bundle import Services

ANSWER_BOUND: Final = 10.0  # seconds the daemon may take for its first answer (Go client: 10 s)
_CLOSING_BOUND: Final = 2.0  # seconds for undoing, at the end, what could not be undone before
DEFAULT_NAMESPACE: Final = "default"


def resolve_namespace(namespace: str | None) -> str:
    """Return the namespace: the argument, `$CONTAINERD_NAMESPACE`, else "default"."""
    return namespace if namespace is not None else os.environ.get("CONTAINERD_NAMESPACE") or DEFAULT_NAMESPACE


@asynccontextmanager
async def open_services(
    address: str | os.PathLike[str] | None,
    *,
    namespace: str | None = None,
    data_root: str | os.PathLike[str] | None = None,
    networks: NetworkSettings | None = None,
) -> AsyncIterator[Services]:
    """Lend the services of a daemon that has answered."""
    scope = Scope(namespace=resolve_namespace(namespace))
    async with open_connection(resolve_address(address)) as connection:
        connection.data_root = None if data_root is None else os.fspath(data_root)
        connection.network_settings = networks
        services = Services(Rpc(connection, scope))
        await _greet(services)
        keep_learning(services)
        try:
            yield services
        finally:
            await _settle_finally(connection)


async def _greet(services: Services) -> None:
    address = services.connection.address
    try:
        with anyio.fail_after(ANSWER_BOUND):
            await services.version.version()
            await learn_features(services)
    except TimeoutError as error:
        raise DaemonNotRespondingError(
            f"what listens on {address} did not answer within {ANSWER_BOUND:g} s{_not_ours(address)}: "
            "is the daemon stuck? See its log",
            address=address,
        ) from error
    except (ProtocolError, ConnectionLostError, UnimplementedError, UnknownError) as error:
        raise DaemonNotRespondingError(
            f"what listens on {address} does not speak containerd's API{_not_ours(address)}: {error}", address=address
        ) from error


def _not_ours(address: str) -> str:
    if address.endswith("docker.sock"):
        return " (this is Docker's own socket; containerd's is usually /run/containerd/containerd.sock)"
    if address.endswith(".ttrpc"):
        return f" (this is its ttrpc socket; use {address.removesuffix('.ttrpc')})"
    return ""


async def _settle_finally(connection: Connection) -> None:
    if connection.debts:
        with anyio.move_on_after(_CLOSING_BOUND, shield=True):
            try:
                await settle_debts(connection)
            except UnavailableError:
                return
