"""Nothing containerd serves is out of reach of a typed call, and no typed call shows a protobuf message."""

from __future__ import annotations

import inspect
import json
import re
import sys
import typing
from collections.abc import Iterator
from typing import Final

import attrs

from codegen import model, outputs
from containerd_py.support import LINES, first_line
from tests.docs.pages import ROOT
from tests.docs.rpc_coverage import NOT_FOR_CLIENTS, PAGE, RECORDED, methods_by_route, render
from tests.integration.test_every_rpc import UNANSWERABLE
from tests.unit.test_public_api import PUBLIC

HATCHES: Final = {"containerd_py.services.bundle.Services.stub"}


def api() -> list[str]:
    return list(model.rpcs(model.load(outputs.DESCRIPTOR_SET)))


async def test_every_rpc_has_a_typed_method() -> None:
    """Of all RPCs in the API's description, each is what some method asks for, or it is said why none does."""
    methods = await methods_by_route()
    services = {route.removeprefix("/").partition("/")[0] for route in api()}
    assert services > NOT_FOR_CLIENTS.keys()
    assert [route for route in api() if route not in methods and _service_of(route) not in NOT_FOR_CLIENTS] == []
    assert [route for route in methods if _service_of(route) in NOT_FOR_CLIENTS] == []


async def test_no_method_is_without_an_rpc() -> None:
    """Each public method of a service leads to a call of the daemon's API."""
    methods = await methods_by_route()
    named = {name for names in methods.values() for name in names}
    assert len(named) > 85


def _service_of(route: str) -> str:
    return route.removeprefix("/").partition("/")[0]


def _named(thing: typing.Any) -> Iterator[object]:
    """Yield what the annotations name that somebody who uses it sees.

    Values are made by everybody; what makes an object that is lent is our own business.
    """
    if inspect.isclass(thing) and not attrs.has(thing):
        return
    names = vars(sys.modules[thing.__module__])
    for text in inspect.get_annotations(inspect.unwrap(thing)).values():
        yield from (names[name] for name in re.findall(r"[A-Za-z_]\w*", str(text)) if name in names)


def _is_protobuf(thing: object) -> bool:
    module = str(getattr(thing, "__module__", ""))
    return re.match(r"betterproto2|grpclib|containerd_py\._generated", module) is not None


def test_no_signature_shows_protobuf() -> None:
    """Generated messages, and what betterproto and grpclib have, end in the services: no parameter or result is one.

    The escape hatch to generated stubs takes them, which is its purpose; the wire modules and the transport are the
    inside of the services.
    """
    shown = [
        f"{path}: {named}"
        for path, thing in PUBLIC.items()
        if path not in HATCHES and not any(name.startswith("_") or name.endswith("wire") for name in path.split("."))
        for named in _named(thing)
        if _is_protobuf(named)
    ]
    assert shown == []


def test_the_walk_sees_protobuf() -> None:
    """The test above would notice."""
    assert any(_is_protobuf(named) for named in _named(PUBLIC["containerd_py.services.wire.descriptor_from_wire"]))


def test_what_was_recorded_covers_every_line() -> None:
    """Each RPC was answered well in some test on each line that serves it, or it is known that none can be."""
    for route, first in {route: first_line(route) for route in api()}.items():
        for line in LINES[LINES.index(first) :] if first else ():
            modules = json.loads(RECORDED.read_text()).get(route, {}).get(line, [])
            assert modules or UNANSWERABLE.keys() & {(route, ""), (route, line)}, f"{route} on {line}: record anew"
            assert [module for module in modules if not (ROOT / module).is_file()] == [], "these are gone: record anew"


async def test_the_page_is_current() -> None:
    """`docs/reference/rpc-coverage.md` is what `python -m tests.docs.rpc_coverage` writes."""
    assert PAGE.read_text() == render(await methods_by_route(), json.loads(RECORDED.read_text()))
