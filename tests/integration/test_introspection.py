"""What daemons of all lines tell of themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from containerd_py._transport.connection import Rpc, open_connection
from containerd_py._transport.scope import Scope
from containerd_py.daemon import Daemon
from containerd_py.errors import ContainerdError, InvalidArgumentError, NotFoundError, NotSupportedError
from containerd_py.services.introspection import IntrospectionService
from containerd_py.typeurl import TypedValue


@pytest.fixture
async def introspection(daemon: Daemon, namespace: str) -> AsyncIterator[IntrospectionService]:
    """Lend the service of the line's daemon."""
    async with open_connection(daemon.address) as connection:
        yield IntrospectionService(Rpc(connection, Scope(namespace=namespace)))


async def test_plugins_are_told_as_ctr_tells_them(introspection: IntrospectionService, ctr) -> None:
    """The list has the same types, IDs and states as the daemon's own client shows."""
    ours = sorted((plugin.type, plugin.id, plugin.is_working) for plugin in await introspection.plugins())
    rows = [line.split() for line in (await ctr("plugins", "list")).splitlines()[1:] if line]
    assert ours == sorted((row[0], row[1], row[-1] == "ok") for row in rows)


async def test_plugins_are_found_by_filter(introspection: IntrospectionService) -> None:
    """A filter's parts must all match, one of several filters suffices."""
    filters = ['type=="io.containerd.snapshotter.v1",id==overlayfs', "id==walking"]
    found = await introspection.plugins(filters)
    assert {plugin.id for plugin in found} == {"overlayfs", "walking"}
    overlayfs = next(plugin for plugin in found if plugin.id == "overlayfs")
    assert overlayfs.is_working
    assert overlayfs.init_error is None
    assert overlayfs.platforms[0].os == "linux"
    assert overlayfs.exports["root"].endswith("io.containerd.snapshotter.v1.overlayfs")


async def test_a_plugin_that_does_not_run_says_why(introspection: IntrospectionService) -> None:
    """`init_error` is the daemon's own reason."""
    (devmapper,) = await introspection.plugins(["id==devmapper"])
    assert not devmapper.is_working
    assert devmapper.init_error is not None
    assert "not configured" in devmapper.init_error


async def test_a_bad_filter_is_an_invalid_argument(introspection: IntrospectionService) -> None:
    """A filter the daemon cannot parse is the caller's error."""
    with pytest.raises(InvalidArgumentError, match="filter"):
        await introspection.plugins(['type=="unfinished'])


async def test_the_server_says_who_it_is(introspection: IntrospectionService, daemon: Daemon, daemon_line: str) -> None:
    """The UUID stays the same; the process is the one we started, where the line tells."""
    server = await introspection.server()
    assert str(UUID(server.uuid)) == server.uuid
    assert (await introspection.server()).uuid == server.uuid
    if daemon_line == "1.6":
        assert (server.pid, server.pidns) == (None, None)
    else:
        assert server.pid == daemon.pid
        assert server.pidns is not None


@pytest.mark.lines("2.1")
async def test_a_plugin_is_told_alone(introspection: IntrospectionService) -> None:
    """One plugin by type and ID, or none of that name."""
    info = await introspection.plugin_info("io.containerd.runtime.v2", "task")
    assert (info.plugin.id, info.extra) == ("task", None)
    with pytest.raises(NotFoundError):
        await introspection.plugin_info("io.containerd.runtime.v2", "nothing")


@pytest.mark.lines("2.1")
async def test_a_runtime_tells_its_features(introspection: IntrospectionService) -> None:
    """Options ask a plugin a question of its own; the answer comes typed."""
    question = TypedValue(type_url="containerd.types.RuntimeRequest", value=b"\x0a\x15io.containerd.runc.v2")
    info = await introspection.plugin_info("io.containerd.runtime.v2", "task", options=question)
    assert info.extra is not None
    assert info.extra.name == "containerd.types.RuntimeInfo"


@pytest.mark.lines("1.6", "1.7")
async def test_older_daemons_tell_no_single_plugin(introspection: IntrospectionService) -> None:
    """What a line does not serve says which line does."""
    with pytest.raises(NotSupportedError, match="2\\.1"):
        await introspection.plugin_info("io.containerd.runtime.v2", "task")


async def test_the_emptiest_requests_harm_no_daemon(introspection: IntrospectionService, daemon: Daemon) -> None:
    """Requests with nothing in them are answered or refused."""
    await introspection.plugins([""])
    for options in (None, TypedValue(type_url="")):
        with pytest.raises(ContainerdError):
            await introspection.plugin_info("", "", options=options)
    await introspection.server()
    assert daemon.returncode is None
