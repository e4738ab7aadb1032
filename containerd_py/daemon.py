"""A private containerd as a child process: own root, state and socket, and nothing left of it afterwards.

Knows processes, folders and what containerd leaves on a host; asks the daemon nothing but its version.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from containerd_py._completion import run_to_completion
from containerd_py._daemon.configuration import CRI_PLUGIN, DEFAULT_SNAPSHOTTER, DaemonConfiguration, Setting
from containerd_py._daemon.leftovers import clear_state, unmount_under
from containerd_py._daemon.process import DaemonProcess
from containerd_py._daemon.workspace import Workspace
from containerd_py._transport.connection import Rpc, open_connection
from containerd_py._transport.scope import Scope
from containerd_py.errors import ContainerdError, DaemonStartError, UnavailableError
from containerd_py.services.version import VersionService

START_LIMIT: Final = 60.0  # seconds from start to the first answer; a slow disk takes a few
STOP_LIMIT: Final = 10.0  # seconds for a graceful stop, then SIGKILL
PROBE_PAUSE: Final = 0.02  # seconds between two attempts to reach a starting daemon
# What a service manager may have set for this program, and would confuse the child.
FOREIGN_VARIABLES: Final = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "TTRPC_ADDRESS", "GRPC_ADDRESS")


class Daemon:
    """A private containerd that runs. Made by `open_daemon`."""

    def __init__(
        self,
        *,
        binary: Path,
        env: Mapping[str, str],
        configuration: DaemonConfiguration,
        configuration_path: Path,
        log_path: Path,
        process: DaemonProcess,
    ) -> None:
        self._binary = binary
        self._env = env
        self._configuration = configuration
        self._configuration_path = configuration_path
        self._log_path = log_path
        self._process = process
        self._version = ""

    @property
    def address(self) -> str:
        """The path of its socket, for `connect`."""
        return self._configuration.address

    @property
    def debug_address(self) -> str:
        """The path of the socket with Go's profiles (`/debug/pprof/`)."""
        return self._configuration.debug_address

    @property
    def version(self) -> str:
        """Its version, such as "2.1.9", without a distribution's additions."""
        return self._version

    @property
    def pid(self) -> int:
        """Its process id; another one after `restart`."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, as `subprocess` tells it; None while it runs."""
        return self._process.returncode

    @property
    def root(self) -> Path:
        """The folder with images, snapshots and metadata."""
        return self._configuration.root

    @property
    def state(self) -> Path:
        """The folder with running tasks; always temporary."""
        return self._configuration.state

    @property
    def snapshotter(self) -> str:
        """The snapshotter it was set up for."""
        return self._configuration.snapshotter

    @property
    def log_path(self) -> Path:
        """The file with everything it logged."""
        return self._log_path

    async def kill(self) -> None:
        """End the daemon with SIGKILL, as a crash would; its tasks run on. `restart` brings it back."""
        await to_thread.run_sync(partial(self._process.end, signal.SIGKILL, limit=STOP_LIMIT))

    async def terminate(self) -> None:
        """End the daemon with SIGTERM, as an upgrade would; its tasks run on. `restart` brings it back."""
        await to_thread.run_sync(partial(self._process.end, signal.SIGTERM, limit=STOP_LIMIT))

    async def restart(self, *, containerd: str | os.PathLike[str] | None = None) -> None:
        """Start the daemon again on the same folders and address, ending it first where it runs.

        `containerd` names another binary to go on with, such as a later release's.

        Raises:
            DaemonStartError: It did not come up.
        """
        await self.terminate()
        if containerd is not None:
            self._binary = await to_thread.run_sync(_find_binary, containerd)
        await to_thread.run_sync(
            partial(
                self._process.spawn,
                [str(self._binary), "--config", str(self._configuration_path)],
                environment=_environment(self._binary, self._env),
                log_path=self._log_path,
            )
        )
        with anyio.move_on_after(START_LIMIT):
            self._version = await self._first_answer()
            return
        raise DaemonStartError(
            f"{self._binary} did not answer within {START_LIMIT:.0f} s (does another daemon use {self.root}?)"
            f"{self._process.log_excerpt()}"
        )

    async def _first_answer(self) -> str:
        while True:
            if self.returncode is not None:
                raise DaemonStartError(await to_thread.run_sync(self._process.describe_end))
            try:
                return await _ask_version(self.address)
            except UnavailableError:
                await anyio.sleep(PROBE_PAUSE)

    def __repr__(self) -> str:
        return f"<Daemon {self.version} pid={self.pid} address={self.address}>"


@asynccontextmanager
async def open_daemon(
    *,
    containerd: str | os.PathLike[str] = "containerd",
    root: str | os.PathLike[str] | None = None,
    snapshotter: str | None = None,
    disabled_plugins: Iterable[str] = (CRI_PLUGIN,),
    plugins: Mapping[str, Mapping[str, Setting]] | None = None,
    env: Mapping[str, str] | None = None,
    log_path: str | os.PathLike[str] | None = None,
    log_level: str = "info",
) -> AsyncIterator[Daemon]:
    """Run a private containerd for as long as the block lasts.

    It shares nothing with other daemons, so that any number may run. On the way out, whatever happened, its tasks are
    killed, its shims ended, its mounts undone and its folders removed; this is shielded from cancellation and takes
    seconds at most.

    Args:
        containerd: The binary, as a path or looked up in PATH. The folder it is in comes first in the daemon's own
            PATH, so that it finds the shims that belong to it.
        root: Where images, snapshots and metadata are kept; made if missing, and left in place. None: a temporary
            folder that is removed.
        snapshotter: The snapshotter that the daemon itself unpacks into, besides "native". None: "overlayfs".
        disabled_plugins: URIs of plugins not to load.
        plugins: Settings by plugin URI, as the `plugins` tables of containerd's configuration file.
        env: Additions to the daemon's environment, such as `SSL_CERT_FILE`.
        log_path: Where the daemon's log goes, to be kept. None: into the temporary state folder.
        log_level: trace, debug, info, warn or error.

    Raises:
        DaemonStartError: There is no such binary, it does not run, did not come up, or died while it was in use. The
            message has the end of its log.
        ContainerdError: Something could not be cleared away; the message says what.
    """
    workspace = Workspace(None if root is None else Path(root))
    process = DaemonProcess()
    settings = partial(
        DaemonConfiguration,
        snapshotter=snapshotter or DEFAULT_SNAPSHOTTER,
        disabled_plugins=tuple(disabled_plugins),
        plugins=plugins or {},
        log_level=log_level,
    )
    try:
        daemon = await to_thread.run_sync(_prepare, containerd, env or {}, log_path, workspace, process, settings)
        await daemon.restart()
        yield daemon
    except BaseException as error:
        for problem in await run_to_completion(partial(_clear, workspace, process)):
            if problem not in str(error):
                error.add_note(problem)
        raise
    died = process.died
    if problems := await run_to_completion(partial(_clear, workspace, process)):
        raise (DaemonStartError if died else ContainerdError)("\n".join(problems))


def _prepare(
    containerd: str | os.PathLike[str],
    env: Mapping[str, str],
    log_path: str | os.PathLike[str] | None,
    workspace: Workspace,
    process: DaemonProcess,
    settings: partial[DaemonConfiguration],
) -> Daemon:
    binary = _find_binary(containerd)
    if os.geteuid() != 0:
        raise DaemonStartError("containerd needs root: run as root, or inside a user namespace (rootlesskit)")
    workspace.make()
    configuration = settings(
        root=workspace.root,
        state=workspace.state,
        address=workspace.address,
        debug_address=str(workspace.home / "debug.sock"),
    )
    temporary = workspace.home / "tmp"  # containerd never removes the checkpoints it unpacks there
    temporary.mkdir(mode=0o700)
    configuration_path = workspace.home / "config.toml"
    configuration_path.write_text(configuration.text())
    return Daemon(
        binary=binary,
        env={"TMPDIR": str(temporary), **env},
        configuration=configuration,
        configuration_path=configuration_path,
        log_path=workspace.home / "containerd.log" if log_path is None else Path(log_path).absolute(),
        process=process,
    )


def _clear(workspace: Workspace, process: DaemonProcess) -> list[str]:
    problems = [process.describe_end()] if process.died else []
    try:
        process.close(limit=STOP_LIMIT)
    except ContainerdError as error:
        problems.append(str(error))
    if workspace.is_made:
        problems += clear_state(workspace.state, address=workspace.address, environment=process.environment)
        problems += unmount_under(workspace.root)
    return problems + workspace.remove()


def _find_binary(containerd: str | os.PathLike[str]) -> Path:
    found = shutil.which(containerd)
    if found is None:
        raise DaemonStartError(
            f"there is no executable {os.fspath(containerd)!r}: install containerd (Debian, Ubuntu: apt-get install "
            "containerd) or name its binary with containerd=…"
        )
    return Path(found).absolute()


def _environment(binary: Path, additions: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
    # The system folders too: runc is in one on Debian, and users' PATHs often lack it.
    folders = [str(binary.parent), *os.get_exec_path(), "/usr/local/sbin", "/usr/sbin", "/sbin"]
    return {**inherited, "PATH": os.pathsep.join(dict.fromkeys(folders)), **additions}


async def _ask_version(address: str) -> str:
    async with open_connection(address) as connection:
        found = await VersionService(Rpc(connection, Scope(namespace="default"))).version()
    match = re.match(r"v?(\d+\.\d+\.\d+(?:-(?:alpha|beta|rc)\.\d+)?)", found.version)
    return match[1] if match else found.version
