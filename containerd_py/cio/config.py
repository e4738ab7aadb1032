"""What containerd is told of a process's I/O: paths and URIs. Touches no file; knows nothing of tasks."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

import attrs
from anyio.abc import ByteReceiveStream, ByteSendStream

from containerd_py.errors import InvalidArgumentError

PATH_MAX: Final = 4096  # bytes with the closing NUL: limits.h; no open(2) takes more

_LOG_SCHEMES: Final = ("binary", "binary-v2", "file")  # binary-v2 is containerd 2.3's
_PATH_SAFE: Final = "$&+,/:;=@"  # what Go's url.URL leaves alone in a path: the same spelling means the same URI
_FORBIDDEN_IN_URI: Final = re.compile(r"[\x00-\x20\x7f]|%(?![0-9A-Fa-f]{2})", re.ASCII)


class LentIO(Protocol):
    """Open ends of FIFOs whose paths an `IOConfig` carries: what a task needs of them (`cio.fifos.FifoIO`)."""

    @property
    def stdin(self) -> ByteSendStream | None:
        """Our end of the process's input; None: not opened."""

    @property
    def stdout(self) -> ByteReceiveStream | None:
        """Our end of the process's output; None: not opened."""

    @property
    def stderr(self) -> ByteReceiveStream | None:
        """Our end of the process's error output; None: not opened."""

    async def release(self, close_stdin: Callable[[], Awaitable[object]] | None = None) -> None:
        """Say that the shim has opened its ends: `Tasks.Create` returned, or `Tasks.Start` of an exec."""

    def abandon(self) -> None:
        """Say that no shim will open the FIFOs: creating the task or starting the exec failed."""


@attrs.frozen(kw_only=True)
class IOConfig:
    """Where a process's input and output are, as the daemon is told: paths of FIFOs or URIs; "" is not opened.

    `terminal` must agree with the spec's. `lent` are the open ends where this process holds them; it takes no part in
    comparison.
    """

    terminal: bool = False
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    lent: LentIO | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def is_null(self) -> bool:
        """Tell whether the process reads from and writes to /dev/null."""
        return not (self.terminal or self.stdin or self.stdout or self.stderr)


NULL_IO: Final = IOConfig()


def log_file(path: str | os.PathLike[str]) -> IOConfig:
    """Append stdout and stderr to a file on the daemon's host; the shim creates it and its folders.

    The shims of all lines close the file when stdout has ended: what a process writes to stderr in its last moment may
    be missing. FIFOs and `log_binary` lose nothing.

    Raises: InvalidArgumentError where the path is not absolute.
    """
    return _log("file://" + _quoted_path(path), terminal=False)


def log_binary(
    path: str | os.PathLike[str], args: Mapping[str, str] | None = None, *, terminal: bool = False
) -> IOConfig:
    """Pipe stdout and stderr into a program that the shim starts on the daemon's host, with the daemon's rights.

    It gets stdout as fd 3, stderr as fd 4 and closes fd 5 when it is ready; CONTAINER_ID and CONTAINER_NAMESPACE are
    in its environment; `args` become its arguments, key and value in turn.

    Raises: InvalidArgumentError where the path is not absolute.
    """
    # Go's url.Values.Encode sorts by key.
    query = "?" + urlencode(sorted(args.items())) if args else ""
    return _log("binary://" + _quoted_path(path) + query, terminal=terminal)


def log_uri(uri: str, *, terminal: bool = False) -> IOConfig:
    """Send stdout and stderr to a log URI: `file:///path`, or `binary:///program?key=value`.

    A `binary` URI makes the daemon's host run the program: never pass one on from an image or another untrusted place.

    Raises: InvalidArgumentError where the scheme is another one, the path not absolute, the URI badly escaped, or a
        terminal is to be written to a file.
    """
    if _FORBIDDEN_IN_URI.search(uri):
        raise InvalidArgumentError(f"log URI {uri!r}: blanks, control characters and '%' must be percent-encoded")
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise InvalidArgumentError(f"log URI {uri!r}: {error}") from error
    if parts.scheme not in _LOG_SCHEMES:
        raise InvalidArgumentError(f"log URI {uri!r}: the scheme must be one of {', '.join(_LOG_SCHEMES)}")
    if parts.netloc or not parts.path.startswith("/") or parts.path.strip("/") == "":
        raise InvalidArgumentError(f"log URI {uri!r}: needs an absolute path and no host, as in {parts.scheme}:///path")
    if "#" in uri or (parts.scheme == "file" and "?" in uri):
        raise InvalidArgumentError(f"log URI {uri!r}: '#', and '?' in a file's path, must be percent-encoded")
    if terminal and parts.scheme == "file":
        # The runc shim of every line opens a terminal's stdout as a FIFO unless it is a program.
        raise InvalidArgumentError(f"log URI {uri!r}: a terminal's output goes to a FIFO or a program, never to a file")
    return _log(uri, terminal=terminal)


def _log(uri: str, *, terminal: bool) -> IOConfig:
    return IOConfig(terminal=terminal, stdout=uri, stderr=uri)


def _quoted_path(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path)
    if not name.startswith("/"):
        raise InvalidArgumentError(f"log path {name!r} must be absolute: it is the daemon's host that opens it")
    if "\0" in name or len(os.fsencode(name)) >= PATH_MAX:
        raise InvalidArgumentError(f"log path {name[:80]!r} holds a NUL or is longer than {PATH_MAX - 1} bytes")
    clean = "/" + posixpath.normpath(name).lstrip("/")  # normpath keeps a leading "//"
    if clean == "/":
        raise InvalidArgumentError("a log path must name a file, not '/'")
    return quote(os.fsencode(clean), safe=_PATH_SAFE)
