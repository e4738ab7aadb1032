"""What type checkers make of the public surface, and of the examples."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKED = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith(("test_", "__")))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run_mypy(*paths: Path) -> str:
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_results_have_their_types():
    """Every assert_type in this folder holds under mypy --strict, and each ignored error there is one."""
    assert run_mypy(*CHECKED) == ""


@pytest.mark.timeout(300)
def test_examples_are_typed():
    """What users copy passes mypy --strict."""
    assert run_mypy(*EXAMPLES) == ""
