"""Every error this package raises on purpose, under one root. Knows nothing of gRPC: `_transport.status` maps to it."""

from __future__ import annotations

from datetime import timedelta


class ContainerdError(Exception):
    """Root of all errors of this package.

    What the daemon said is the message; the gRPC error, where there was one, is `__cause__`; notes tell what was being
    done (`add_note`).
    """


# ── what the daemon answers, one class per error class of containerd's errdefs ──────────────────────────────────────


class CancelledByDaemonError(ContainerdError):
    """The daemon gave the call up as cancelled, though nobody here cancelled it."""


class UnknownError(ContainerdError):
    """The daemon failed in a way it has no class for."""


class InvalidArgumentError(ContainerdError, ValueError):
    """An argument cannot work, whatever the state of the daemon."""


class DeadlineExceededError(ContainerdError, TimeoutError):
    """The daemon ran into a time limit of its own."""


class NotFoundError(ContainerdError, LookupError):
    """The object does not exist in this namespace."""


class AlreadyExistsError(ContainerdError):
    """An object of that name exists already."""


class PermissionDeniedError(ContainerdError):
    """The caller may not do that."""


class ResourceExhaustedError(ContainerdError):
    """A limit was reached, for instance 16 MiB for one message."""


class FailedPreconditionError(ContainerdError):
    """The object is not in the state the operation needs."""


class ConflictError(FailedPreconditionError):
    """Somebody else changed the object meanwhile."""


class NotModifiedError(FailedPreconditionError):
    """There was nothing to change."""


class AbortedError(ContainerdError):
    """The operation was given up half-way, usually because of another one."""


class OutOfRangeError(ContainerdError):
    """An offset or size lies outside the object."""


class UnimplementedError(ContainerdError):
    """The daemon has no such service, call or option."""


class NotSupportedError(UnimplementedError):
    """This daemon is too old for it, or it or its runtime was built without it; the message says what is needed."""


class InternalError(ContainerdError):
    """The daemon found itself broken."""


class UnavailableError(ContainerdError):
    """Not now: the daemon is going away or the object is locked by somebody else."""


class ConnectionLostError(UnavailableError):
    """The connection to the daemon ended under the call.

    Whether the call took effect is unknown, unless it was a read. The next call connects again by itself.
    """


class DataLossError(ContainerdError):
    """Content is damaged."""


class UnauthenticatedError(ContainerdError):
    """Credentials are missing or wrong."""


class ProtocolError(ContainerdError):
    """The peer speaks something that is not containerd's API."""


class ClientClosedError(ContainerdError):
    """The client was used after its `async with` block had ended."""


# ── reaching the daemon ─────────────────────────────────────────────────────────────────────────────────────────────


class DaemonConnectError(UnavailableError, ConnectionError):
    """The daemon cannot be reached; the message says why and what to do. `address` is the socket's path."""

    def __init__(self, message: str, *, address: str = "") -> None:
        super().__init__(message)
        self.address = address


class SocketNotFoundError(DaemonConnectError):
    """There is no socket at the address."""


class SocketPermissionError(DaemonConnectError):
    """The socket is there and this user may not use it."""


class DaemonNotListeningError(DaemonConnectError):
    """The socket is there and nobody listens on it."""


class DaemonNotRespondingError(DaemonConnectError):
    """Somebody listens, but does not answer as containerd does, or not at all."""


class RemoteDaemonError(FailedPreconditionError):
    """The call needs the daemon's own files, and this program does not see them; the message says what to do."""


class DaemonStartError(ContainerdError):
    """An embedded daemon did not come up, or died; the message has the end of its log."""


# ── tasks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class TaskLostError(ContainerdError):
    """The daemon can no longer tell how the process ended: it was removed, or ended while the daemon was down."""


class ProcessExitError(ContainerdError):
    """A process ended with a non-zero exit code; `stdout` and `stderr` hold what it had written."""

    def __init__(self, exit_code: int, stdout: bytes = b"", stderr: bytes = b"", command: str = "process") -> None:
        super().__init__(exit_code, stdout, stderr, command)
        self.exit_code = exit_code
        self.stdout = stdout
        self.stderr = stderr
        self.command = command

    def __str__(self) -> str:
        """Say the code and the end of what went to stderr."""
        tail = self.stderr[-500:].decode(errors="replace").strip()
        return f"{self.command} ended with exit code {self.exit_code}" + (f": {tail}" if tail else "")


class UnhealthyError(ContainerdError):
    """A container's health check failed too often, or its task ended before the check succeeded.

    `failing_streak` counts the failures in a row, `exit_code` and `output` are those of the last one, None where it was
    given up or there was none.
    """

    def __init__(
        self, message: str, *, failing_streak: int = 0, exit_code: int | None = None, output: bytes = b""
    ) -> None:
        super().__init__(message)
        self.failing_streak = failing_streak
        self.exit_code = exit_code
        self.output = output


class CleanupError(ContainerdError):
    """Something that had to be taken back is left behind; the message names it."""


class MissingExtraError(NotFoundError):
    """Something needs an optional dependency that is not installed; the message names the extra."""


class AppArmorError(FailedPreconditionError):
    """This machine cannot load an AppArmor profile; the message says what is missing."""


class CheckpointError(FailedPreconditionError):
    """criu could not save a task, or bring it back; the notes have the end of its log where it can be read."""


class CriuNotFoundError(CheckpointError):
    """The daemon's host has no criu, which checkpoints need."""


class StopTimeoutError(ContainerdError, TimeoutError):
    """A task survived SIGKILL for longer than the bound: its process hangs in the kernel, most likely."""


# ── content and registries ──────────────────────────────────────────────────────────────────────────────────────────


class DigestMismatchError(DataLossError):
    """Content is not what its descriptor promised. `source` says where it came from."""

    def __init__(self, expected: str, actual: str, source: str = "") -> None:
        super().__init__(expected, actual, source)
        self.expected = expected
        self.actual = actual
        self.source = source

    def __str__(self) -> str:
        """Say both digests and the source."""
        origin = f" from {self.source}" if self.source else ""
        return f"content{origin} has digest {self.actual}, expected {self.expected}"


class SizeMismatchError(DataLossError):
    """Content is longer or shorter than its descriptor promised."""


class UnpackError(ContainerdError):
    """A layer could not become a snapshot."""


class ArchiveError(InvalidArgumentError):
    """An image archive or layout is damaged, hostile or of no known form.

    `offset` is where in the archive, in bytes and once decompressed; None where no place says more than the message.
    """

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message if offset is None else f"{message} (at byte {offset})")
        self.offset = offset


class RegistryError(ContainerdError):
    """A registry refused, failed or misbehaved.

    `host` is the registry's host, `status` the HTTP status (0 where there was no response), `code` and `detail` the
    registry's own words (distribution specification, "error codes").
    """

    def __init__(self, message: str, *, host: str = "", status: int = 0, code: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.host = host
        self.status = status
        self.code = code
        self.detail = detail


class RegistryAuthenticationError(RegistryError, UnauthenticatedError):
    """The registry wants other credentials, or the token service refused ours."""


class RegistryNotFoundError(RegistryError, NotFoundError):
    """The registry has no such repository, tag or blob, or hides it from us."""


class RegistryPermissionError(RegistryError, PermissionDeniedError):
    """The registry knows who we are and refuses all the same."""


class RegistryRateLimitedError(RegistryError, ResourceExhaustedError):
    """The registry asks to come back later; `retry_after` says when, if it told."""

    def __init__(
        self,
        message: str,
        *,
        retry_after: timedelta | None = None,
        host: str = "",
        status: int = 429,
        code: str = "",
        detail: str = "",
    ) -> None:
        super().__init__(message, host=host, status=status, code=code, detail=detail)
        self.retry_after = retry_after


class RegistryUnavailableError(RegistryError, UnavailableError):
    """The registry cannot be reached, or broke the connection more often than we try."""


class RegistryConnectError(RegistryUnavailableError):
    """There is no connection to the registry: its name does not resolve, or nobody answers there."""


class RegistryDisconnectedError(RegistryUnavailableError):
    """The registry broke the connection in the middle of an answer."""


class RegistryStalledError(RegistryUnavailableError):
    """The registry stopped sending, or sends too slowly to be of use."""


class RegistryTLSError(RegistryError):
    """The registry's certificate is not trusted, or TLS failed."""


class ManifestTooLargeError(RegistryError):
    """A manifest or index is larger than any honest one; `size` and `limit` are in bytes."""

    def __init__(self, message: str, *, size: int = 0, limit: int = 0, host: str = "") -> None:
        super().__init__(message, host=host)
        self.size = size
        self.limit = limit


class ManifestNotSupportedError(RegistryError):
    """A manifest is of a kind containerd gave up, such as Docker's schema 1."""


# ── networks ────────────────────────────────────────────────────────────────────────────────────────────────────────


class CNIError(ContainerdError):
    """A network plugin refused or failed.

    `plugin` is its name, `code` the CNI specification's error code (0 where it gave none), `details` what it added.
    """

    def __init__(self, message: str, *, plugin: str = "", code: int = 0, details: str = "") -> None:
        super().__init__(message)
        self.plugin = plugin
        self.code = code
        self.details = details


class CNIVersionError(CNIError):
    """The plugin does not know the version of the network's configuration (code 1)."""


class CNIUnsupportedFieldError(CNIError):
    """The plugin does not know a field of the configuration, or not its value (code 2)."""


class CNIUnknownContainerError(CNIError):
    """The plugin does not know the container (code 3)."""


class CNIEnvironmentError(CNIError):
    """The plugin was called with something it cannot use, such as a broken network namespace (codes 4 and 8)."""


class CNIInputOutputError(CNIError):
    """The plugin could not read or write what it needs (code 5)."""


class CNIDecodeError(CNIError):
    """The plugin could not read its configuration (code 6)."""


class CNIConfigError(CNIError):
    """The plugin holds the configuration for wrong (code 7)."""


class CNITryAgainError(CNIError):
    """The plugin asks to try again later (code 11)."""


class CNINotReadyError(CNIError):
    """The plugin cannot attach containers now (code 50); with code 51 those attached may be affected, too."""


class CNIPluginNotFoundError(CNIError):
    """There is no such plugin in the folders where plugins are looked for."""


class CNIPluginTimeoutError(CNIError, TimeoutError):
    """The plugin did not end in time and was killed."""


class CNIProtocolError(CNIError):
    """What the plugin answered is not what the CNI specification lets it answer."""
