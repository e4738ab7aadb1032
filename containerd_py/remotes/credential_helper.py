"""Docker's credential helpers, run and read with suspicion. Knows their protocol; knows no registry.

Source: docker/docker-credential-helpers, "get".
"""

from __future__ import annotations

import os
import re
import signal
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Final

import anyio
from anyio import to_thread
from anyio.abc import ByteReceiveStream, Process

from containerd_py.errors import InvalidArgumentError, RegistryAuthenticationError
from containerd_py.oci.strict_json import load_object
from containerd_py.remotes.credentials import Credential
from containerd_py.remotes.secret import Secret

TIMEOUT: Final = 30.0  # seconds; helpers may have to ask a person
MAX_OUTPUT: Final = 64 * 1024  # bytes

_PREFIX: Final = "docker-credential-"
_NAME_RE: Final = re.compile(r"[a-z0-9._-]+", re.ASCII)
_NOT_FOUND: Final = b"credentials not found"
_TOKEN_USER: Final = "<token>"  # noqa: S105  the helpers' mark of an identity token
_REAP_TIME: Final = 5.0  # seconds
# What desktop keyrings, pass and the cloud helpers' own configuration need; never a secret of ours.
_PASSED_ON: Final = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY",
    "WAYLAND_DISPLAY", "DOCKER_CONFIG", "GNUPGHOME", "PASSWORD_STORE_DIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy",
})  # fmt: skip


async def ask_helper(
    name: str, server: str, environment: Mapping[str, str], added: Mapping[str, str]
) -> Credential | None:
    """Ask the helper `docker-credential-NAME` for a server's credentials; None where it has none.

    Of the `environment` it gets what helpers need, and all of what is `added`.

    It runs in a process group of its own, which is killed when it takes longer than 30 seconds, writes more than
    64 KiB, or the caller is cancelled.

    Raises:
        InvalidArgumentError: The name is no helper's, or no such program is in a trustworthy folder of PATH.
        RegistryAuthenticationError: The helper failed, hung, or answered something else than credentials.
    """
    if not _NAME_RE.fullmatch(name) or name.startswith("."):
        raise InvalidArgumentError(f"{name[:64]!r} is no credential helper's name")
    minimal = {key: value for key, value in environment.items() if key in _PASSED_ON or key.startswith("XDG_")}
    minimal |= added
    program = await to_thread.run_sync(find_helper, name, minimal.get("PATH", os.defpath))
    try:
        with anyio.fail_after(TIMEOUT):
            answer = _read(*await _run(program, server, minimal), program.name)
    except TimeoutError:
        raise RegistryAuthenticationError(f"{program.name} did not answer within {TIMEOUT:.0f} s") from None
    except OSError as error:
        raise RegistryAuthenticationError(f"{program.name} cannot be run: {error.strerror}") from None
    if isinstance(answer, str):
        raise RegistryAuthenticationError(answer)
    return answer


def find_helper(name: str, path: str) -> Path:
    """Find the helper's program, in folders only their owners can write to.

    Raises:
        InvalidArgumentError: There is none.
    """
    for folder in path.split(os.pathsep):
        program = Path(folder) / (_PREFIX + name)
        try:
            trusted = folder.startswith("/") and not Path(folder).stat().st_mode & stat.S_IWOTH
            if trusted and program.is_file() and os.access(program, os.X_OK):
                return program
        except OSError:
            continue
    raise InvalidArgumentError(f"the credential helper {_PREFIX}{name} is in no trustworthy folder of PATH: install it")


async def _run(program: Path, server: str, environment: Mapping[str, str]) -> tuple[int, bytes]:
    process = await anyio.open_process(
        [str(program), "get"], stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it may not care to listen
            await process.stdin.send(server.encode())
        await process.stdin.aclose()
        output = await _receive(process.stdout, program.name)
        return await process.wait(), output
    finally:
        await _end(process)


async def _receive(stream: ByteReceiveStream, name: str) -> bytes:
    output = bytearray()
    async for chunk in stream:
        output += chunk
        if len(output) > MAX_OUTPUT:
            raise RegistryAuthenticationError(f"{name} wrote more than {MAX_OUTPUT} bytes")
    return bytes(output)


async def _end(process: Process) -> None:
    """Kill whatever is left of the helper's group, and reap it."""
    with anyio.move_on_after(_REAP_TIME, shield=True):
        with suppress(ProcessLookupError):
            if process.returncode is None or not _exists(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await process.aclose()


def _exists(pid: int) -> bool:
    # A helper that was reaped leaves its number to the rest of its group; a process of that number is a stranger.
    try:
        os.getpgid(pid)
    except ProcessLookupError:
        return False
    return True


def _read(code: int, output: bytes, name: str) -> Credential | str | None:
    """Read the helper's words; what is wrong with them is told without raising, lest a traceback shows them."""
    if code != 0:
        return None if _NOT_FOUND in output.lower() else f"{name} failed with exit code {code}"
    try:
        answer = load_object(output, what=name, max_size=MAX_OUTPUT)
    except InvalidArgumentError:
        return f"{name} answered something else than JSON"
    username, hidden = answer.get("Username"), answer.get("Secret")
    if not isinstance(username, str) or not isinstance(hidden, str):
        return f"{name} answered without user name and secret"
    return Credential(username="" if username == _TOKEN_USER else username, secret=Secret(hidden))
