"""The leak fixture fails the test that leaks, and only that one."""

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
TESTS = """
import socket
import pytest
from tests.harness.fixtures import leak_targets, no_leaks

kept = []

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"

async def test_clean():
    pass

async def test_leaking():
    kept.append(socket.socket())

def test_leaking_without_a_loop():
    kept.append(socket.socket())

async def test_expected(no_leaks):
    no_leaks.expect("fd socket")
    kept.append(socket.socket())
"""


def test_the_test_that_leaks_is_the_one_that_fails(tmp_path: Path) -> None:
    """Tests leak one by one; what one left is not held against the next."""
    path = tmp_path / "test_example.py"
    path.write_text(TESTS)
    options = ["-c", "/dev/null", "--rootdir", str(tmp_path), "-p", "no:cacheprovider", "-o", "anyio_mode=auto", "-rA"]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(path)], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )

    errors = [line.split()[1].rpartition("::")[2] for line in done.stdout.splitlines() if line.startswith("ERROR ")]
    assert errors == ["test_leaking", "test_leaking_without_a_loop"], done.stdout
    assert "LeakError: left behind:" in done.stdout
    assert "4 passed, 2 errors" in done.stdout
