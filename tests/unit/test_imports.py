"""What importing the package brings in, and what it leaves for when it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import containerd_py
from codegen import exports

ROOT = Path(containerd_py.__file__).parent
HEAVY = ("aiohttp", "anyio", "asyncio", "attr", "attrs", "betterproto2", "grpclib", "h2", "rich", "ssl", "yarl")


def modules_after(code: str) -> set[str]:
    """Run code in a new interpreter and return the modules it has imported."""
    printing = "import sys; print(*sys.modules)"
    command = [sys.executable, "-I", "-c", f"{code}\n{printing}"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.startswith("containerd_py")}


def test_importing_the_package_imports_nothing_else():
    """Not one of its modules, nor anything it depends on: those come with the names that are asked for."""
    found = modules_after("import containerd_py")
    assert ours(found) == {"containerd_py", "containerd_py._exports"}
    assert found.isdisjoint(HEAVY)


def test_an_error_to_catch_is_cheap():
    """A name brings in what its own module needs: an error needs nothing."""
    found = modules_after("from containerd_py import NotFoundError")
    assert ours(found) == {"containerd_py", "containerd_py._exports", "containerd_py.errors"}
    assert found.isdisjoint(HEAVY)


def test_values_need_no_daemon_and_no_protobuf():
    """Records and references are of use where nobody connects."""
    found = modules_after("from containerd_py import Descriptor, Mount, Platform, Timestamp, TypedValue, Reference")
    assert found.isdisjoint({"aiohttp", "betterproto2", "grpclib", "h2", "rich", "yarl"})


def test_the_client_waits_with_what_is_for_registries_and_consoles():
    """The HTTP client and progress bars cost more time than anything else; encoders come with their first message."""
    found = modules_after("from containerd_py import connect, Client, Registry")
    assert found.isdisjoint({"aiohttp", "rich", "yarl"})
    assert [name for name in found if "_generated" in name and name.endswith(".codec")] == []


def test_events_are_fetched_when_somebody_asks_for_them():
    """Their fifty classes are not needed by who asks for none."""
    code = """
import sys
from containerd_py import Client, connect
assert "containerd_py.services.event_types" not in sys.modules
from containerd_py import TaskExit
assert "containerd_py.services.event_types" in sys.modules
"""
    modules_after(code)


def test_messages_are_no_dataclasses_yet():
    """Making one of a message's class costs as much as importing ten: it waits for the first message."""
    code = """
from containerd_py._generated.containerd.services.tasks import v1
made = [name for name in v1.__all__ if "__dataclass_fields__" in vars(getattr(v1, name))]
assert made == [], made
v1.KillRequest(signal=9)
made = [name for name in v1.__all__ if "__dataclass_fields__" in vars(getattr(v1, name))]
assert made == ["KillRequest"], made
"""
    modules_after(code)


def test_every_public_name_is_where_type_checkers_find_it():
    """The list for type checkers, the list of exports and what the interpreter finds are the same names and things."""
    listed = exports.homes((ROOT / "__init__.py").read_text())
    assert sorted(listed) == sorted(containerd_py.__all__)
    for name in containerd_py.__all__:
        assert getattr(containerd_py, name) is getattr(sys.modules[listed[name]], name)
    assert set(containerd_py.__all__) <= set(dir(containerd_py))


def test_a_name_that_is_none_is_an_attribute_error():
    """As of any module; type checkers say so too, for they do not see the hook."""
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = containerd_py.Nonsense
    tree = ast.parse((ROOT / "__init__.py").read_text())
    hidden = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "not TYPE_CHECKING"]
    assert "__getattr__" in {inner.name for node in hidden for inner in node.body if isinstance(inner, ast.FunctionDef)}
    assert "__getattr__" not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_a_name_missing_in_the_written_list_says_what_to_do(monkeypatch):
    """Whoever adds a public name and forgets the generator is told."""
    monkeypatch.setattr(containerd_py, "__all__", [*containerd_py.__all__, "Forgotten"])
    with pytest.raises(AttributeError, match="python -m codegen"):
        _ = containerd_py.Forgotten
