"""The project's tasks. `sh .ci/nox --list` shows them on a machine with nothing prepared; `nox --list` elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = True

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
TIDY = ("containerd_py", "codegen", "tests", "examples", "docs", ".ci", "noxfile.py")


def provision(session: nox.Session, what: str) -> None:
    """Bring the system packages and daemons that a session needs; nothing to do when they are there."""
    session.run(sys.executable, ".ci/provision.py", what, external=True)


def install(session: nox.Session, *groups: str, extras: str = "console,testing") -> None:
    """Install the project, in place, and dependency groups of pyproject.toml."""
    wanted = nox.project.dependency_groups(PYPROJECT, *groups) if groups else ()
    session.install("--quiet", "-e", f".[{extras}]", *wanted)


def present(*paths: str) -> list[str]:
    """Return those of the paths that this checkout has."""
    return [path for path in paths if (ROOT / path).exists()]


def run_pytest(session: nox.Session, *paths: str, options: Iterable[str] = ()) -> None:
    """Run pytest on the paths, or on those given after `--` together with further options."""
    chosen = present(*(argument.partition("::")[0] for argument in session.posargs))
    session.run("python", "-m", "pytest", *options, *session.posargs, *(() if chosen else present(*paths)))


def run_on_all_cores(session: nox.Session, *paths: str) -> None:
    """Run pytest with a worker for each core, each with daemons of its own: tests wait more than they compute.

    What fails there is run once more by itself, and must pass then: on a machine that is busy with something else a
    daemon may answer later than a test waits. Both runs are shown.
    """
    chosen = present(*(argument.partition("::")[0] for argument in session.posargs))
    command = ["python", "-m", "pytest", *session.posargs, *(() if chosen else present(*paths))]
    failed = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
    failed.unlink(missing_ok=True)
    session.run(*command, "--numprocesses", "auto", "--dist", "worksteal", success_codes=[0, 1])
    if failed.exists() and json.loads(failed.read_text()):
        session.log("once more, by themselves: the tests that failed")
        session.run(*command, "--last-failed")


def check_style(session: nox.Session) -> None:
    """Run the linters."""
    session.run("ruff", "check", *present(*TIDY))
    session.run("ruff", "format", "--check", *present(*TIDY))
    session.run("lint-imports", "--no-cache")


def check_types(session: nox.Session) -> None:
    """Run the type checker."""
    session.run("mypy")


def check_generated(session: nox.Session) -> None:
    """Prove that generated code is what its inputs give."""
    session.run("python", "-m", "codegen", "--check")


@nox.session
def quickstart(session: nox.Session) -> None:
    """Show the main job on a private daemon and a local registry; `-- --help` tells how to use real ones."""
    if not any(argument in {"-h", "--help"} for argument in session.posargs):
        provision(session, "quickstart")
    session.install("--quiet", ".[console,testing]")
    session.run("python", "examples/quickstart.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Check and test everything that a change must pass, on all three containerd lines; at most 20 minutes."""
    provision(session, "tests")
    install(session, "test", "lint", "typing", "codegen")
    check_style(session)
    check_types(session)
    check_generated(session)
    folders = ("tests/unit", "tests/typing", "tests/integration", "tests/conformance", "tests/faults", "tests/docs")
    run_on_all_cores(session, *folders)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and the layers of the architecture."""
    install(session, "lint")
    check_style(session)


@nox.session
def typing(session: nox.Session) -> None:
    """Check types."""
    install(session, "test", "typing")
    check_types(session)


@nox.session
def codegen(session: nox.Session) -> None:
    """Check the generated code, or generate: `-- --protos`, `-- --daemons .cache/daemons` (see codegen --help)."""
    install(session, "codegen")
    session.run("python", "-m", "codegen", *(session.posargs or ["--check"]))


@nox.session
def unit(session: nox.Session) -> None:
    """Test the parts that need no daemon."""
    install(session, "test", "codegen")
    run_pytest(session, "tests/unit")


@nox.session
def integration(session: nox.Session) -> None:
    """Test on real daemons; `-- --line 2.1` restricts to one line."""
    provision(session, "tests")
    install(session, "test", "codegen")
    run_pytest(session, "tests/integration", "tests/conformance")


@nox.session
def faults(session: nox.Session) -> None:
    """Test with injected faults on real daemons; `-- --line 2.1` restricts to one line."""
    provision(session, "tests")
    install(session, "test")
    run_pytest(session, "tests/faults")


@nox.session
def storm(session: nox.Session) -> None:
    """Run the long repetitions of fault tests; not part of `tests`."""
    provision(session, "tests")
    install(session, "test", "codegen")
    run_pytest(session, "tests/faults", "tests/storm", options=["--storm"])


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against ctr and other Python stacks, side by side in one run."""
    provision(session, "tests")
    install(session, "test", "codegen", "bench")
    session.run("python", "-m", "tests.bench.bench", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Run the code that the documentation shows."""
    provision(session, "tests")
    install(session, "test")
    run_pytest(session, "tests/docs")
