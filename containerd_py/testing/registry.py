"""A registry of one's own on the loopback interface: the `docker-registry` of the machine as a child process.

Knows that program's configuration file; pushing is `pusher`'s business.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from containerd_py._completion import run_to_completion
from containerd_py._daemon.process import DaemonProcess
from containerd_py._daemon.workspace import TemporaryFolders
from containerd_py.errors import DaemonStartError
from containerd_py.testing.images import ImageLayout
from containerd_py.testing.pusher import PushTarget, answers, push_layout
from containerd_py.testing.registry_options import RegistryOptions, TLSFiles, TokenAuth
from containerd_py.types import Descriptor

LOOPBACK: Final = "127.0.0.1"
BINARIES: Final = ("docker-registry", "registry")  # Debian's name, and that of the upstream releases
START_LIMIT: Final = 30.0  # seconds
STOP_LIMIT: Final = 5.0  # seconds for a graceful stop, then SIGKILL
PROBE_PAUSE: Final = 0.02  # seconds
PORT_TRIES: Final = 5  # a free port may be taken by somebody else before the registry has it


class LocalRegistry:
    """A registry that runs. Made by `open_registry`."""

    def __init__(self, *, port: int, options: RegistryOptions, folder: Path, process: DaemonProcess) -> None:
        self._port = port
        self._options = options
        self._folder = folder
        self._process = process

    @property
    def address(self) -> str:
        """Host and port, as they stand in an image reference."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def url(self) -> str:
        """The address with its scheme."""
        return f"{'http' if self.tls is None else 'https'}://{self.address}"

    @property
    def tls(self) -> TLSFiles | None:
        """Its certificate; None where it speaks plain HTTP."""
        return self._options.tls

    @property
    def users(self) -> dict[str, str]:
        """Passwords by user name; empty where none are wanted."""
        return dict(self._options.users)

    @property
    def storage(self) -> Path:
        """The folder with all it holds."""
        return self._folder / "storage"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def log_path(self) -> Path:
        """The file with everything it logged."""
        return self._folder / "registry.log"

    def reference(self, repository: str, tag: str = "latest") -> str:
        """Return the reference of an image here."""
        return f"{self.address}/{repository}:{tag}"

    async def push(self, layout: ImageLayout, repository: str, tag: str = "latest") -> Descriptor:
        """Push an image; return what the tag now names.

        Raises:
            RegistryError: The registry refused something. (It asks for tokens, for instance: push before.)
        """
        return await to_thread.run_sync(
            partial(push_layout, layout, self._push_target(), repository=repository, tag=tag), abandon_on_cancel=True
        )

    async def stop(self) -> None:
        """End the registry; `restart` brings it back with what it held."""
        await to_thread.run_sync(partial(self._process.end, signal.SIGTERM, limit=STOP_LIMIT))

    async def restart(self) -> None:
        """Start the registry again on the same port, ending it first where it runs.

        Raises:
            DaemonStartError: It did not come up.
        """
        await self.stop()
        await to_thread.run_sync(self._spawn)
        with anyio.move_on_after(START_LIMIT):
            await self._wait_for_answer()
            return
        raise DaemonStartError(f"the registry did not come up within {START_LIMIT:.0f} s{self._process.log_excerpt()}")

    def _spawn(self) -> None:
        configuration = self._options.write(self._folder, self.address)
        command = [_find_binary(), "serve", str(configuration)]
        self._process.spawn(command, environment=_environment(), log_path=self.log_path)

    async def _wait_for_answer(self) -> None:
        # A mere connection says nothing: it listens before it has read its certificate, say.
        target = await to_thread.run_sync(self._push_target)
        while self._process.returncode is None:
            if await to_thread.run_sync(answers, target, abandon_on_cancel=True):
                return
            await anyio.sleep(PROBE_PAUSE)
        raise DaemonStartError(await to_thread.run_sync(self._process.describe_end))

    def _push_target(self) -> PushTarget:
        user, password = next(iter(self._options.users.items()), ("", ""))
        tls = ssl.create_default_context(cafile=self.tls.ca) if self.tls is not None else None
        return PushTarget(address=self.address, tls=tls, user=user, password=password)

    def __repr__(self) -> str:
        return f"<LocalRegistry {self.url}>"


@asynccontextmanager
async def open_registry(
    *,
    users: Mapping[str, str] | None = None,
    tls: TLSFiles | None = None,
    token: TokenAuth | None = None,
    upstream: str | None = None,
) -> AsyncIterator[LocalRegistry]:
    """Run a registry on a free port of 127.0.0.1, its storage in a temporary folder, for as long as the block lasts.

    Args:
        users: Passwords by name of the users it lets in, with HTTP basic authentication; None: everybody.
        tls: Serve HTTPS with this certificate; None: plain HTTP.
        token: Ask for bearer tokens.
        upstream: Be a pull-through mirror of the registry at this URL.

    Raises:
        DaemonStartError: `docker-registry` is not installed, or did not come up; the message has the end of its log.
        InvalidArgumentError: Both users and tokens are asked for.
    """
    options = RegistryOptions(users=users or {}, tls=tls, token=token, upstream=upstream)
    folders = TemporaryFolders()
    process = DaemonProcess()
    try:
        folder = await to_thread.run_sync(folders.make, "registry-")
        yield await _start(folder, options, process)
    finally:
        await run_to_completion(partial(_clear, folders, process))


def _clear(folders: TemporaryFolders, process: DaemonProcess) -> None:
    process.close(limit=STOP_LIMIT)
    folders.remove()


async def _start(folder: Path, options: RegistryOptions, process: DaemonProcess) -> LocalRegistry:
    for _ in range(PORT_TRIES):
        registry = LocalRegistry(port=_free_port(), options=options, folder=folder, process=process)
        try:
            await registry.restart()
        except DaemonStartError as error:
            if "address already in use" not in str(error):
                raise
        else:
            return registry
    raise DaemonStartError(f"no port of {LOOPBACK} stayed free for a registry in {PORT_TRIES} attempts")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
    return port


def _find_binary() -> str:
    for name in BINARIES:
        if (found := shutil.which(name)) is not None:
            return found
    raise DaemonStartError("there is no docker-registry: install it (Debian, Ubuntu: apt-get install docker-registry)")


def _environment() -> dict[str, str]:
    # Variables of that prefix would override the configuration file.
    return {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
