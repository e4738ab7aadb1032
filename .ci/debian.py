"""Debian packages for development: install them, or unpack another suite's without touching the system.

Standard library only, so that it runs on a bare machine. Knows apt and dpkg; knows nothing of containerd.

    python3 .ci/debian.py install PACKAGE...             what is missing, from the machine's own suites
    python3 .ci/debian.py unpack SUITE FOLDER PACKAGE... downloaded from SUITE and extracted into FOLDER
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

APT_ENV = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
THIRD_PARTY = re.compile(r"nodesource|docker|google|cloud|launchpad|microsoft|postgresql|security")


class DebianError(RuntimeError):
    """Something apt or dpkg refused; the message says what and what to do."""


def installed(package: str) -> bool:
    """Tell whether dpkg has the package installed."""
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}", package], capture_output=True, text=True, check=False
    )
    return query.returncode == 0 and query.stdout.startswith("ii")


def install(packages: Iterable[str]) -> list[str]:
    """Install what is missing from the machine's own suites; return what was installed, saying so on the way."""
    missing = [package for package in packages if not installed(package)]
    if not missing:
        return []
    if os.geteuid() != 0:
        raise DebianError(f"these Debian packages are missing and only root may install them: {' '.join(missing)}")
    print(f"installing Debian packages: {' '.join(missing)}", flush=True)
    _apt(["update"])
    _apt(["install", "-y", "--no-install-recommends", *missing])
    return missing


def mirror() -> str:
    """Return the Debian mirror this machine's own apt configuration names."""
    for uri, suites in _sources():
        if not THIRD_PARTY.search(uri) and any(re.match(r"(bookworm|trixie|forky|sid|stable|testing)$", s) for s in suites):
            return uri
    raise DebianError("no Debian mirror found in /etc/apt: add the distribution's own sources first")


def _sources() -> Iterator[tuple[str, list[str]]]:
    apt = Path("/etc/apt")
    for path in sorted(apt.glob("sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            fields = dict(re.findall(r"^(\w[\w-]*):[ \t]*(.+)$", stanza, re.MULTILINE))
            for uri in fields.get("URIs", "").split():
                yield uri, fields.get("Suites", "").split()
    for path in [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]:
        for line in path.read_text().splitlines() if path.exists() else ():
            match = re.match(r"deb\s+(?:\[[^\]]*\]\s*)?(\S+)\s+(\S+)", line.strip())
            if match:
                yield match[1], [match[2]]


def unpack(suite: str, folder: Path, packages: Iterable[str]) -> dict[str, str]:
    """Extract packages of another suite into `folder`; return the version of each.

    Uses an apt state of its own: neither the machine's sources nor its installed packages change.
    """
    with tempfile.TemporaryDirectory(prefix="apt-") as temporary:
        state = Path(temporary)
        options = _private_apt(state, suite)
        _apt([*options, "update"])
        downloads = state / "downloads"
        downloads.mkdir()
        downloads.chmod(0o777)  # apt's own unprivileged user writes here
        _apt([*options, "download", *(f"{package}/{suite}" for package in packages)], cwd=downloads)
        folder.mkdir(parents=True, exist_ok=True)
        versions = {}
        for archive in sorted(downloads.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
            shown = subprocess.run(
                ["dpkg-deb", "-W", "--showformat=${Package} ${Version}", archive],
                capture_output=True, text=True, check=True,
            ).stdout.split()
            versions[shown[0]] = shown[1]
        return versions


def _private_apt(state: Path, suite: str) -> list[str]:
    state.chmod(0o755)
    parts, lists, cache = state / "sources", state / "lists", state / "cache"
    for folder in (parts, lists / "partial", cache / "archives" / "partial"):
        folder.mkdir(parents=True)
    signed = f"[signed-by={KEYRING}] " if Path(KEYRING).exists() else ""
    (parts / "suite.list").write_text(f"deb {signed}{mirror()} {suite} main\n")
    settings = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": str(parts),
        "Dir::State::Lists": str(lists),
        "Dir::Cache": str(cache),
        "Acquire::Languages": "none",
        "APT::Default-Release": suite,
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _apt(arguments: list[str], cwd: Path | None = None) -> None:
    if shutil.which("apt-get") is None:
        raise DebianError("apt-get is not here: this development set-up is made for Debian 12 or later")
    result = subprocess.run(
        ["apt-get", "-q", *arguments], env=APT_ENV, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )
    if result.returncode != 0:
        tail = "\n".join(result.stdout.splitlines()[-15:])
        raise DebianError(f"apt-get {' '.join(a for a in arguments if '/' not in a)} failed:\n{tail}")


def main(arguments: list[str]) -> int:
    """Run the command line in the module's docstring."""
    try:
        match arguments:
            case ["install", *packages]:
                install(packages)
            case ["unpack", suite, folder, *packages] if packages:
                for package, version in unpack(suite, Path(folder), packages).items():
                    print(package, version)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except DebianError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
