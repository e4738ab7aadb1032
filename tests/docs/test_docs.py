"""The documentation is true: its code runs, prints what it says, and its links lead somewhere."""

import inspect
from collections.abc import Mapping
from pathlib import Path

import pytest

from containerd_py import Client, Daemon
from tests.docs import public_names
from tests.docs.pages import PAGES, ROOT, blocks_of, links_of, matches, run_block, substituted

pytest_plugins = ["pytester"]
RUNNABLE = [page for page in PAGES if any(not block.is_test_file for block in blocks_of(page))]
TEST_FILES = [block for page in PAGES for block in blocks_of(page) if block.is_test_file]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.lines("2.1")
@pytest.mark.parametrize("page", RUNNABLE, ids=_name)
async def test_pages_run(page: Path, page_client: Client, substitutions: Mapping[str, str]):
    """Every Python block runs, in order, prints what the page says, and leaves nothing but images."""
    names: dict[str, object] = {"__name__": "docs", "client": page_client}
    for block in blocks_of(page):
        if not block.is_test_file:
            printed = await run_block(block, names, substitutions)
            if block.printed is not None:
                assert matches(printed, block.printed), f"{page}:{block.line} printed:\n{printed}"


@pytest.mark.lines("2.1")
@pytest.mark.parametrize("block", TEST_FILES, ids=lambda block: f"{_name(block.page)}:{block.line}")
def test_test_files_pass(block, daemon: Daemon, daemon_bin: Path, substitutions: Mapping[str, str], pytester):
    """A page's test files pass, with the fixtures they are told to have."""
    pytester.makeini("[pytest]\nanyio_mode = auto\n")
    pytester.makepyfile(substituted(block.code, substitutions))
    outcome = pytester.runpytest_subprocess(f"--containerd={daemon_bin / 'containerd'}", "-W", "error")
    assert outcome.ret == 0
    outcome.assert_outcomes(passed=block.code.count("def test_"))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path):
    """Links within the repository name files that are there."""
    assert [target for target in links_of(page) if not (page.parent / target.partition("#")[0]).exists()] == []


def test_pages_are_reachable():
    """Every page is linked from the index of the documentation; decisions may wait to be listed there."""
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target).resolve() for target in links_of(index)}
    pages = {page for page in PAGES if page not in (index, ROOT / "README.md") and page.parent.name != "adr"}
    assert sorted(map(_name, pages - linked)) == []


def test_every_public_name_is_in_the_reference():
    """What is exported stands in the list of public names, in its area, with what it says of itself today."""
    assert public_names.unlisted() == [], "give them an area in tests/docs/public_names.py"
    is_current = public_names.PAGE.read_text() == public_names.render()
    assert is_current, "write the page anew: python -m tests.docs.public_names"


def test_outputs_are_compared():
    """Dots stand for anything, everything else for itself."""
    assert matches("pid 12 of a.b\n", "pid … of a.b")
    assert not matches("pid 12 of aXb\n", "pid … of a.b")
    assert not matches("more", "mor")


def test_blocks_keep_their_lines(tmp_path: Path):
    """A failing block's traceback names the page and the line in it."""
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nx = 1\nraise ValueError(x)\n```\n\n```text\nnothing\n```\n")
    (block,) = blocks_of(page)
    assert (block.line, block.printed, block.is_program) == (4, "nothing\n", False)
    with pytest.raises(ValueError) as caught:
        eval(block.compiled({}), {})
    frame = inspect.getinnerframes(caught.tb)[-1]
    assert (frame.filename, frame.lineno) == (str(page), 5)
