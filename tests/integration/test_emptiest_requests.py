"""No request this package can build kills a daemon, however little it says.

Daemons of 1.7 and 2.1 crash on a request that lacks a submessage they take for granted; the services fill them all.
"""

from __future__ import annotations

import collections.abc
import enum
import inspect
import itertools
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from pathlib import Path

import anyio
import attrs
import pytest

from containerd_py import Client, connect, open_daemon
from containerd_py._generated.containerd.services.images.v1 import CreateImageRequest, ImagesStub
from containerd_py._transport.channel import Channel
from containerd_py.daemon import Daemon
from containerd_py.errors import ConnectionLostError, ContainerdError, DaemonStartError
from containerd_py.services.bundle import Services
from containerd_py.types import Timestamp
from tests.harness.leaks import wipe_namespace

# The calls in which an absent submessage was found to crash a daemon.
DEADLY = {
    "containers.v1.Containers/Create",
    "containers.v1.Containers/Update",
    "content.v1.Content/Update",
    "diff.v1.Diff/Apply",
    "events.v1.Events/Forward",
    "images.v1.Images/Create",
    "images.v1.Images/Update",
    "leases.v1.Leases/AddResource",
    "leases.v1.Leases/DeleteResource",
    "namespaces.v1.Namespaces/Create",
    "namespaces.v1.Namespaces/Update",
    "sandbox.v1.Store/Create",
    "sandbox.v1.Store/Update",
    "snapshots.v1.Snapshots/Update",
}
PREFIX = "/containerd.services."
Method = Callable[..., typing.Any]


@attrs.frozen(kw_only=True)
class Emptiness:
    """How little is said."""

    text: str  # for every string
    gives_optional: bool  # arguments and fields that have a default are given, emptily, and not left out
    gives_none: bool  # where None may stand for a value it does

    def arguments(self, function: Method) -> dict[str, object]:
        """Return keyword arguments for a call."""
        hints = typing.get_type_hints(function)
        return {
            name: self.value(hints[name])
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is not parameter.VAR_POSITIONAL
            and (self.gives_optional or parameter.default is parameter.empty)
        }

    def value(self, hint: typing.Any) -> object:
        """Return the emptiest value of a type."""
        origin, options = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            is_left_out = self.gives_none and types.NoneType in options
            return None if is_left_out else self.value([each for each in options if each is not types.NoneType][-1])
        if origin is typing.Literal:
            return options[0]
        plain = origin or hint
        if issubclass(plain, collections.abc.Mapping):
            return {}
        if issubclass(plain, str) and not issubclass(plain, enum.Enum):
            return self.text
        if issubclass(plain, enum.Enum):
            return next(iter(plain))
        if attrs.has(plain):
            return self.record(plain)
        if plain is Timestamp:
            return Timestamp.from_parts(0, 0)
        if issubclass(plain, collections.abc.Iterable) and plain is not bytes:
            return ()
        return plain()

    def record(self, plain: type) -> object:
        """Return the emptiest value object."""
        hints = typing.get_type_hints(plain)
        wanted = [
            field
            for field in attrs.fields(plain)
            if field.init and (field.default is attrs.NOTHING or self.gives_optional)
        ]
        return plain(**{field.alias: self.value(hints[field.name]) for field in wanted})


EMPTINESSES = [
    Emptiness(text=text, gives_optional=gives_optional, gives_none=gives_none)
    for text, gives_optional, gives_none in itertools.product(("", "x"), (False, True), (True, False))
]


def services_of(services: Services) -> Iterator[object]:
    """Yield every typed service of the bundle, with the parts of those that have parts."""
    for name, member in vars(Services).items():
        if isinstance(member, cached_property):
            service = getattr(services, name)
            parts = [part for part, kind in vars(type(service)).items() if isinstance(kind, cached_property)]
            yield from (getattr(service, part) for part in parts if part != "_stub")
            yield service
    yield services.snapshotter("overlayfs")


def methods_of(service: object) -> Iterator[Method]:
    """Yield the public calls of a service, bound."""
    for name, member in vars(type(service)).items():
        if inspect.isfunction(member) and not name.startswith("_"):
            yield getattr(service, name)


async def call(method: Method, arguments: dict[str, object]) -> str:
    """Make a call, take the first item where it lends an iterator, and name its outcome."""
    try:
        with anyio.fail_after(10):
            made = method(**arguments)
            if not isinstance(made, AbstractAsyncContextManager):
                await made
                return "done"
            async with made as lent:
                with anyio.move_on_after(0.05):
                    if isinstance(lent, collections.abc.AsyncIterator):
                        await anext(lent, None)
            return "lent"
    except ContainerdError as error:
        return type(error).__name__


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Lend the set of routes that requests were made for."""
    called: set[str] = set()
    request = Channel.request

    def noted(self: Channel, name: str, *arguments: typing.Any, **options: typing.Any) -> typing.Any:
        called.add(name.removeprefix(PREFIX))
        return request(self, name, *arguments, **options)

    monkeypatch.setattr(Channel, "request", noted)
    return called


async def test_the_emptiest_requests_leave_the_daemon_alive(own_daemon: Daemon, namespace: str, routes: set[str]):
    """Every service method, called with as little as its signature allows, succeeds or fails in a typed way."""
    pid = own_daemon.pid
    count = 0
    async with connect(own_daemon.address, namespace=namespace) as client:
        for emptiness in EMPTINESSES:
            for service in services_of(client.services):
                for method in methods_of(service):
                    arguments = emptiness.arguments(method)
                    outcome = await call(method, arguments)
                    title = f"{type(service).__name__}.{method.__name__}({arguments}): {outcome}"
                    assert outcome != "ConnectionLostError", title
                    assert await is_alive(client, own_daemon), title
                    count += 1
    assert own_daemon.pid == pid
    assert count > len(EMPTINESSES) * 70
    assert routes >= DEADLY
    await wipe_namespace(own_daemon, namespace)
    await wipe_namespace(own_daemon, "x")


async def is_alive(client: Client, daemon: Daemon) -> bool:
    try:
        return bool(await client.version()) and daemon.returncode is None
    except ContainerdError:
        return False


@pytest.mark.lines("2.1")
async def test_an_absent_submessage_is_deadly(daemon_bin: Path, tmp_path: Path):
    """The danger is real: one request of a generated stub, without its image, ends the daemon that gets it."""
    log_path = tmp_path / "log"
    with pytest.raises(DaemonStartError, match="ended with exit code 2"):
        async with (
            open_daemon(containerd=daemon_bin / "containerd", log_path=log_path) as victim,
            connect(victim.address, namespace="victim") as client,
        ):
            with pytest.raises(ConnectionLostError):
                await client.services.stub(ImagesStub).create(CreateImageRequest())
            with anyio.fail_after(10):
                while victim.returncode is None:
                    await anyio.sleep(0.02)
    assert "nil pointer dereference" in log_path.read_text()
