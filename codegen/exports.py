"""Where each public name is, for `containerd_py` to fetch it from when it is asked for.

Knows how the package's `__init__.py` lists its names for type checkers; imports nothing of the package.
"""

from __future__ import annotations

import ast
from typing import Final

HEAD: Final = '''\
"""The module that each public name is in. A name, and what it needs, is imported when it is asked for."""

from collections.abc import Mapping
from typing import Final

HOMES: Final[Mapping[str, str]] = {
'''


def homes(source: str) -> dict[str, str]:
    """Read the names and their modules out of the text of `containerd_py/__init__.py`."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            imports = [line for line in node.body if isinstance(line, ast.ImportFrom)]
            return {name.asname or name.name: line.module or "" for line in imports for name in line.names}
    return {}


def render(source: str) -> str:
    """Return the text of the module that tells where names are."""
    entries = "".join(f'    "{name}": "{module}",\n' for name, module in sorted(homes(source).items()))
    return f"{HEAD}{entries}}}\n"
