"""The Python blocks of documentation pages, found and run.

What a page may rely on:

- The blocks of a page run in order and share their names. `client` is there from the start: a client of a containerd
  2.1, in a namespace of the page's own. `connect()` finds the same daemon. Blocks may await.
- A block with `anyio.run(` in it is a program: it runs on an event loop of its own, in another thread.
- A block after the comment `<!-- pytest -->` is a test file, run by pytest.
- A `text` block that follows is what the block before prints; `…` stands for anything.
- Names that exist nowhere stand for what the tests bring, by `substitutions` (conftest.py): Docker Hub's library is a
  local registry.
"""

import ast
import contextlib
import inspect
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any, Final

import attrs
from anyio import to_thread

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
TEST_FILE_MARK: Final = "<!-- pytest -->"
_FENCE: Final = re.compile(
    r"^(?P<mark><!-- pytest -->\n+)?^```python\n(?P<code>.*?)^```\n(?:\n*^```text\n(?P<text>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


@attrs.frozen(kw_only=True)
class Block:
    """A Python block, where it begins, and what it prints, where the page says so."""

    page: Path
    line: int
    code: str
    is_test_file: bool
    printed: str | None

    @property
    def is_program(self) -> bool:
        return "anyio.run(" in self.code

    def compiled(self, substitutions: Mapping[str, str]) -> CodeType:
        """Return the code with the page's own line numbers, so that a traceback points into the page."""
        source = "\n" * (self.line - 1) + substituted(self.code, substitutions)
        return compile(source, str(self.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start("code")) + 1,
            code=found["code"],
            is_test_file=found["mark"] is not None,
            printed=found["text"],
        )
        for found in _FENCE.finditer(text)
    ]


def substituted(text: str, substitutions: Mapping[str, str]) -> str:
    for shown, real in substitutions.items():
        text = text.replace(shown, real)
    return text


async def run_block(block: Block, names: dict[str, Any], substitutions: Mapping[str, str]) -> str:
    """Run a block and return what it printed, in the page's words."""
    code = block.compiled(substitutions)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        if block.is_program:
            await to_thread.run_sync(exec, code, names)
        elif inspect.iscoroutine(result := eval(code, names)):
            await result
    return substituted(printed.getvalue(), {real: shown for shown, real in substitutions.items()})


def matches(printed: str, expected: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("…"))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def links_of(page: Path) -> Iterator[str]:
    """Yield where a page links to within the repository."""
    without_code = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code):
        if "://" not in target:
            yield target
