"""The shape of the package: what an import-linter contract cannot say."""

import ast
import re
from pathlib import Path

import pytest

import containerd_py

ROOT = Path(containerd_py.__file__).parent
MODULES = {
    ".".join(("containerd_py", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
    if "_generated" not in path.parts
}
NAMES_WITHOUT_MEANING = {"utils", "util", "helpers", "helper", "common", "base", "misc", "core"}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found & set(MODULES)


def test_no_module_imports_itself_however_far_around():
    """The modules form no cycle."""
    graph = {name: imports_of(path) - {"containerd_py"} for name, path in MODULES.items() if name != "containerd_py"}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        if name in way:
            pytest.fail("a cycle: " + " -> ".join((*way[way.index(name) :], name)))
        if name not in done:
            for other in graph[name]:
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_folders_have_empty_inits():
    """Only the root's __init__ has anything in it."""
    filled = [str(path) for path in ROOT.rglob("__init__.py") if "_generated" not in path.parts and path.read_text()]
    assert filled == [str(ROOT / "__init__.py")]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_modules_are_named_after_what_they_know(name: str):
    """No module is a place for anything, and each says in its docstring what it knows."""
    assert name.rsplit(".", 1)[-1] not in NAMES_WITHOUT_MEANING
    source = MODULES[name].read_text()
    assert not source or ast.get_docstring(ast.parse(source)), "a module says first what it knows"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_tasks_are_born_in_groups_only(name: str):
    """No task is started outside of a task group, and nothing is left for later."""
    source = MODULES[name].read_text()
    assert not re.search(r"asyncio\.(create_task|ensure_future|gather)|loop\.create_task", source)
    assert not re.search(r"raise NotImplementedError|TODO|FIXME|XXX", source)


def test_every_public_name_is_exported_once_and_documented():
    """`__all__` is sorted, whole and without duplicates, and each thing in it has a docstring."""
    names = containerd_py.__all__
    assert names == sorted(set(names), key=names.index)
    for name in names:
        thing = getattr(containerd_py, name)
        if isinstance(thing, type) or callable(thing):
            assert thing.__doc__, name
