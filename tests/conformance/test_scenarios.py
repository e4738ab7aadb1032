"""The table of the Go client's scenarios is whole and says the truth."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.conformance.scenarios import SCENARIOS, Scenario
from tests.conftest import LINES

TESTS = Path(__file__).parents[1]


@cache
def lines_of_tests(path: Path) -> dict[str, set[str]]:
    """Return the names of the tests in a file, each with the lines it covers."""
    body = ast.parse(path.read_text()).body
    tests = [node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    everywhere = [node.value for node in body if isinstance(node, ast.Assign) and _assigns_marks(node)]
    return {test.name: _lines([*test.decorator_list, *everywhere]) for test in tests if test.name.startswith("test_")}


def _assigns_marks(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)


def _lines(marks: list[ast.expr]) -> set[str]:
    chosen = set(LINES)
    for mark in marks:
        for call in ast.walk(mark):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.lines":
                chosen &= {ast.literal_eval(argument) for argument in call.args}
    return chosen


def lines_of(test: str) -> set[str]:
    """Return the lines that a named test covers, none where there is no such test."""
    path, _, name = test.partition("::")
    file = TESTS / path
    return lines_of_tests(file).get(name, set()) if file.is_file() else set()


def test_every_scenario_has_its_number():
    """All numbers from 1 to 107 are there, once, in order, each with a name of its own."""
    assert [scenario.number for scenario in SCENARIOS] == list(range(1, 108))
    assert len({scenario.name for scenario in SCENARIOS}) == 107


def complaint(scenario: Scenario) -> str | None:
    """Say what is wrong with a scenario's entry, if anything is."""
    covered: set[str] = set()
    for test in scenario.tests:
        if not (lines := lines_of(test)):
            return f"{scenario.number} {scenario.name}: there is no test {test}"
        covered |= lines
    if covered != set(LINES) and not scenario.reason:
        return f"{scenario.number} {scenario.name}: shown on {sorted(covered)} only, and no reason says why"
    return None


def test_every_scenario_is_restated_or_has_a_reason():
    """A number has tests that exist and cover all containerd lines among them, or says in words why not."""
    assert [found for scenario in SCENARIOS if (found := complaint(scenario))] == []
