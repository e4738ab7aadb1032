"""Debian packages for development: install them, or unpack another suite's without touching the system.

Standard library only, so that it runs on a bare machine. Knows apt and dpkg; knows nothing of containerd.

    python3 .ci/debian.py install PACKAGE...             what is missing, from the machine's own suites
    python3 .ci/debian.py unpack SUITE FOLDER PACKAGE... downloaded from SUITE and extracted into FOLDER
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

APT_ENV = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
APT_WAIT = ["-o", "DPkg::Lock::Timeout=600"]  # seconds: a fresh cloud machine often updates itself first
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SERVICE_POLICY = Path("/usr/sbin/policy-rc.d")  # Debian's switch: exit status 101 forbids starting services
SHOWN_PROGRESS = ("Get:", "Err:", "Ign:", "Setting up", "Need to get")


class DebianError(RuntimeError):
    """Something apt or dpkg refused; the message says what and what to do."""


def installed(package: str) -> bool:
    """Tell whether dpkg has the package installed."""
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}", package], capture_output=True, text=True, check=False
    )
    return query.returncode == 0 and query.stdout.startswith("ii")


def install(packages: Iterable[str]) -> list[str]:
    """Install what is missing from the machine's own suites, starting no service; return what was installed.

    Raises: DebianError.
    """
    _require_apt()
    missing = [package for package in packages if not installed(package)]
    if not missing:
        return []
    if os.geteuid() != 0:
        raise DebianError(
            f"these Debian packages are missing and only root may install them: {' '.join(missing)}\n"
            f"run as root: apt-get update && apt-get install -y {' '.join(missing)}"
        )
    _say(f"installing Debian packages: {' '.join(missing)}")
    with _no_service_starts():
        _apt([*APT_WAIT, "update"])
        _apt([*APT_WAIT, "install", "-y", "--no-install-recommends", *missing])
    return missing


@contextmanager
def _no_service_starts() -> Iterator[None]:
    # The packages of daemons start them at once (a registry open to the network, a containerd that nobody asked for).
    if SERVICE_POLICY.exists():
        yield
        return
    SERVICE_POLICY.write_text("#!/bin/sh\nexit 101\n")
    SERVICE_POLICY.chmod(0o755)
    try:
        yield
    finally:
        SERVICE_POLICY.unlink(missing_ok=True)


def mirror() -> str:
    """Return the Debian mirror that this machine's own apt uses, as apt itself tells it.

    Raises: DebianError.
    """
    if (found := _configured_mirror()) is not None:
        return found
    if os.geteuid() == 0:  # whose archive an address is stands in the lists: a fresh machine has none yet
        _apt([*APT_WAIT, "update"])
        if (found := _configured_mirror()) is not None:
            return found
    raise DebianError(
        "apt knows no Debian mirror: see that /etc/apt names the distribution's own archive, "
        "run 'apt-get update' as root and try again"
    )


def _configured_mirror() -> str | None:
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL) $(COMPONENT)"]
    shown = subprocess.run([*query, "Created-By: Packages"], env=APT_ENV, capture_output=True, text=True, check=False)
    for line in shown.stdout.splitlines():
        match line.split():
            case [uri, "Debian", "Debian", "main"]:
                return uri
    return None


def unpack(suite: str, folder: Path, packages: Iterable[str], *, with_dependencies: bool = False) -> dict[str, str]:
    """Extract packages of another suite into `folder`; return the version of each.

    With their dependencies, down to the C library, where the machine's own are too old for them. Uses an apt state of
    its own: neither the machine's sources nor its installed packages change.

    Raises: DebianError.
    """
    _require_apt()
    with tempfile.TemporaryDirectory(prefix="apt-") as temporary:
        state = Path(temporary)
        options = _private_apt(state, suite)
        _apt([*options, "update"])
        downloads = state / "downloads"
        downloads.mkdir()
        downloads.chmod(0o777)  # apt's own unprivileged user writes here
        wanted = [f"{package}/{suite}" for package in packages]
        if with_dependencies:
            nothing = state / "status"
            nothing.touch()  # as on a machine that has nothing yet, so that everything is fetched
            only = ["--download-only", "--no-install-recommends", "-y"]
            places = ["-o", f"Dir::State::status={nothing}", "-o", f"Dir::Cache::archives={downloads}"]
            (downloads / "partial").mkdir()
            _apt([*options, *places, "-o", "Debug::NoLocking=true", "install", *only, *wanted])
        else:
            _apt([*options, "download", *wanted], cwd=downloads)
        folder.mkdir(parents=True, exist_ok=True)
        versions = {}
        for archive in sorted(downloads.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
            shown = _output(["dpkg-deb", "-W", "--showformat=${Package} ${Version}", str(archive)]).split()
            versions[shown[0]] = shown[1]
        return versions


def _private_apt(state: Path, suite: str) -> list[str]:
    state.chmod(0o755)
    parts, lists, cache = state / "sources", state / "lists", state / "cache"
    for folder in (parts, lists / "partial", cache / "archives" / "partial"):
        folder.mkdir(parents=True)
    signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    (parts / "suite.list").write_text(f"deb {signed}{mirror()} {suite} main\n")
    settings = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": str(parts),
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State::Lists": str(lists),
        "Dir::Cache": str(cache),
        "Acquire::Languages": "none",
        "APT::Default-Release": suite,
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _require_apt() -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-query") is None:
        raise DebianError("apt-get is not here: this development set-up is made for Debian 12 or later")


def _apt(arguments: list[str], cwd: Path | None = None) -> None:
    process = subprocess.Popen(
        ["apt-get", "-q", *arguments],
        env=APT_ENV,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith(SHOWN_PROGRESS):
                _say(f"  {line.rstrip()}")
    if process.returncode != 0:
        words = [word for word in arguments if not word.startswith("-") and "::" not in word]
        raise DebianError(f"apt-get {' '.join(words)} failed:\n{''.join(lines[-15:])}")


def _output(command: list[str]) -> str:
    return subprocess.run(command, env=APT_ENV, capture_output=True, text=True, check=True).stdout


def _say(line: str) -> None:
    print(line, flush=True)


def main(arguments: list[str]) -> int:
    """Run the command line in the module's docstring."""
    try:
        match arguments:
            case ["install", *packages] if packages:
                install(packages)
            case ["unpack", suite, folder, *packages] if packages:
                for package, version in unpack(suite, Path(folder), packages).items():
                    _say(f"{package} {version}")
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except DebianError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
