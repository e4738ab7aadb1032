"""Checked by mypy, never run: services, the escape hatch, errors."""

from collections.abc import AsyncIterator
from typing import assert_type

from containerd_py import (
    Client,
    ContainerdError,
    ContentInfo,
    Daemon,
    DaemonConnectError,
    ImageRecord,
    Lease,
    LeaseResource,
    Mount,
    NotFoundError,
    Plugin,
    ProcessExitError,
    RegistryError,
    RegistryNotFoundError,
    RegistryRateLimitedError,
    SnapshotInfo,
    SocketNotFoundError,
    Version,
    open_daemon,
)
from containerd_py._generated.containerd.services.version.v1 import VersionStub
from containerd_py.services.content_writer import ContentWriter


async def services(client: Client) -> None:
    assert_type(await client.version(), Version)
    assert_type(client.supports("transfer"), bool)
    assert_type(await client.images.list(), list[ImageRecord])
    assert_type(await client.content.list(), list[ContentInfo])
    assert_type(await client.leases.list_resources("mine"), list[LeaseResource])
    assert_type(await client.leases.create("mine"), Lease)
    assert_type(await client.introspection.plugins(), list[Plugin])
    assert_type(await client.snapshotter("overlayfs").prepare("mine"), list[Mount])
    async with client.snapshotter("native").open_list() as found:
        assert_type(found, AsyncIterator[SnapshotInfo])
    async with client.content.open_writer("mine", total=3) as writer:
        assert_type(writer, ContentWriter)
        assert_type(await writer.commit(size=3), str)
    assert_type(client.services.stub(VersionStub), VersionStub)


async def daemons() -> None:
    async with open_daemon(snapshotter="native", env={"SSL_CERT_FILE": "ca.pem"}) as daemon:
        assert_type(daemon, Daemon)
        assert_type(daemon.address, str)
        assert_type(daemon.version, str)


async def errors(client: Client) -> None:
    try:
        await client.run("alpine")
    except ProcessExitError as error:
        assert_type(error.exit_code, int)
        assert_type(error.stderr, bytes)
    except RegistryRateLimitedError as error:
        assert_type(error.status, int)
    except RegistryError as error:
        assert_type(error.host, str)
    except ContainerdError:
        raise
    not_found: type[NotFoundError] = RegistryNotFoundError
    unreachable: type[DaemonConnectError] = SocketNotFoundError
    system: type[ConnectionError] = SocketNotFoundError
    lookup: type[LookupError] = NotFoundError
    del not_found, unreachable, system, lookup
