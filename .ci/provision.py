"""Bring what the quick start and the tests need to a bare Debian machine; quick when it is there already.

Standard library only. Knows which packages and containerd lines are wanted; debian.py knows how they come.

    python3 .ci/provision.py quickstart    containerd, runc, a registry and busybox, from the machine's own suites
    python3 .ci/provision.py tests         that, test tools, containerd 1.6, 1.7 and 2.1 in .cache/daemons/LINE/bin, and
                                           a criu for newer kernels than Debian 12 has in .cache/criu/bin
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import debian

QUICKSTART_PACKAGES = ("containerd", "runc", "docker-registry", "busybox-static", "iproute2", "ca-certificates")
TEST_PACKAGES = (
    *QUICKSTART_PACKAGES,
    "apparmor",  # its parser, to check profiles with; the kernel may have none
    "containernetworking-plugins",
    "iptables",
    "skopeo",
    "tini",
    "zstd",
)
CACHE = Path(__file__).resolve().parent.parent / ".cache"
DAEMONS = CACHE / "daemons"
CRIU = CACHE / "criu"
CRIU_SUITES = ("trixie", "sid")  # Debian 12's criu 3.17 cannot read the vDSO of kernels after 6.x
STAMP = "VERSION"  # the Debian version of what was unpacked: written last, so its presence means whole
BINARIES = "usr/bin"


class DaemonLine(NamedTuple):
    """A containerd release line that the tests run against, and the suites that may carry it, best first."""

    name: str
    suites: tuple[str, ...]


DAEMON_LINES = (
    DaemonLine("1.6", ("bookworm",)),
    DaemonLine("1.7", ("trixie",)),
    DaemonLine("2.1", ("sid", "forky")),  # sid moves on; the next release keeps a line for longer
)


def provide_quickstart() -> None:
    """Install what the quick start runs. Raises: DebianError."""
    debian.install(QUICKSTART_PACKAGES)


def provide_tests() -> None:
    """Install the test tools and unpack every daemon line. Raises: DebianError."""
    debian.install(TEST_PACKAGES)
    for line in DAEMON_LINES:
        provide_line(line)
    provide_criu()


def provide_line(line: DaemonLine) -> None:
    """Unpack the line's binaries into .cache/daemons unless they are there. Raises: DebianError."""
    home = DAEMONS / line.name
    if (home / STAMP).exists():
        print(f"containerd {line.name}: {(home / STAMP).read_text().strip()} is there", flush=True)
        return
    DAEMONS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DAEMONS, prefix=f"{line.name}-") as temporary:
        fresh = Path(temporary) / line.name
        version = _unpack_line(line, Path(temporary) / "package", fresh / "bin")
        _check_line(line, fresh / "bin" / "containerd")
        (fresh / STAMP).write_text(f"{version}\n")
        shutil.rmtree(home, ignore_errors=True)  # a half-made one of an interrupted run
        fresh.rename(home)
    print(f"containerd {line.name}: {version} is in {home}", flush=True)


def _unpack_line(line: DaemonLine, package: Path, target: Path) -> str:
    found = []
    for suite in line.suites:
        print(f"containerd {line.name}: looking in Debian's {suite}", flush=True)
        shutil.rmtree(package, ignore_errors=True)
        version = debian.unpack(suite, package, ["containerd"])["containerd"]
        if version.startswith(f"{line.name}."):
            target.mkdir(parents=True)
            # Only these: the package's own runc wants a newer C library than Debian 12 has, so the system's serves.
            for binary in [*(package / BINARIES).glob("containerd*"), package / BINARIES / "ctr"]:
                shutil.copy2(binary, target / binary.name)
            return version
        found.append(f"{suite} has {version}")
    raise debian.DebianError(
        f"no Debian suite tried carries containerd {line.name} any more ({', '.join(found)}): "
        f"name another suite in DAEMON_LINES of {Path(__file__).name}"
    )


def _check_line(line: DaemonLine, binary: Path) -> None:
    try:
        shown = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise debian.DebianError(f"containerd {line.name} does not run here: {error}") from error
    if shown.returncode != 0:
        raise debian.DebianError(f"containerd {line.name} does not run here:\n{shown.stderr.strip()}")


def provide_criu() -> None:
    """Unpack criu and the libraries it needs into .cache/criu unless they are there. Raises: DebianError."""
    if (CRIU / STAMP).exists():
        print(f"criu {(CRIU / STAMP).read_text().strip()} is there", flush=True)
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="criu-") as temporary:
        fresh, package = Path(temporary) / "criu", Path(temporary) / "package"
        for suite in CRIU_SUITES:
            print(f"criu: looking in Debian's {suite}", flush=True)
            shutil.rmtree(package, ignore_errors=True)
            try:
                version = debian.unpack(suite, package, ["criu"], with_dependencies=True)["criu"]
                break
            except debian.DebianError as error:
                failure = error
        else:
            raise failure
        (fresh / "bin").mkdir(parents=True)
        (fresh / "lib").mkdir()
        shutil.copy2(package / "usr" / "sbin" / "criu", fresh / "lib" / "criu")
        for library in (package / "usr" / "lib").glob("*-linux-gnu*/*.so*"):
            shutil.copy2(library, fresh / "lib" / library.name)
        # It comes with a C library of its own, since this machine's may be too old for it.
        start = 'here=${0%/*}/../lib\nexec "$here"/ld-linux-*.so.* --library-path "$here"'
        wrapper = fresh / "bin" / "criu"
        wrapper.write_text(f'#!/bin/sh\n{start} "$here/criu" "$@"\n')
        wrapper.chmod(0o755)
        (fresh / STAMP).write_text(f"{version}\n")
        shutil.rmtree(CRIU, ignore_errors=True)  # a half-made one of an interrupted run
        fresh.rename(CRIU)
    print(f"criu {version} is in {CRIU}", flush=True)


def main(arguments: list[str]) -> int:
    """Run the command line in the module's docstring."""
    try:
        match arguments:
            case ["quickstart"]:
                provide_quickstart()
            case ["tests"]:
                provide_tests()
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except debian.DebianError as error:
        print(f"cannot prepare this machine: {error}", file=sys.stderr)
        return 1
    if os.geteuid() != 0:
        print("note: containerd itself runs as root only", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
