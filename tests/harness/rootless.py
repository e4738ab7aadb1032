"""A rootless containerd: run by an ordinary user as the root of a user namespace, with a mount namespace of its own.

What rootlesskit does for a user, root does here: it writes the maps of IDs, for which a user needs newuidmap.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

USER: Final = 1000
_MAP: Final = f"0 {USER} 1\n1 100000 65535\n"
_NAMESPACES: Final = ("--user", "--mount", "--setuid", "0", "--setgid", "0")
_CONFIGURATION: Final = """\
version = 2
root = "{folder}/root"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{folder}/api.sock"
[plugins."io.containerd.nri.v1.nri"]
disable = true
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
"""
_INSIDE: Final = 'mount -t tmpfs tmpfs /run && mkdir /run/containerd && exec "$1/containerd" -c "$1/config.toml"'


@contextmanager
def rootless_daemon(daemon_bin: Path) -> Iterator[str]:
    """Run a rootless containerd and lend the address of its socket, which may not be there yet."""
    folder = Path(tempfile.mkdtemp(prefix="rootless-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        os.chown(folder, USER, USER)
        for program in ("containerd", "containerd-shim-runc-v2"):  # where the user may run them
            shutil.copy(daemon_bin / program, folder)
        (folder / "config.toml").write_text(_CONFIGURATION.format(folder=folder))
        with _namespace_holder() as holder, (folder / "log").open("wb") as log:
            environment = {"PATH": f"{folder}:{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": str(folder)}
            command = ["nsenter", "--target", str(holder), *_NAMESPACES, "sh", "-c", _INSIDE, "sh", folder]
            with _running(command, env=environment, stdout=log, stderr=log):
                yield str(folder / "api.sock")
    finally:
        shutil.rmtree(folder)


@contextmanager
def _namespace_holder() -> Iterator[int]:
    user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    command = [*user, "unshare", "--user", "--mount", "sh", "-c", "echo ready; exec sleep 1000000"]
    with _running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{kind}").write_text(_MAP)
        yield process.pid


@contextmanager
def _running(command: list[str | Path], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, **options) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
