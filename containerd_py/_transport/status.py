"""From gRPC's failures to this package's errors: the one place that knows both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.exceptions import ProtocolError as GrpclibProtocolError
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError as Http2ProtocolError

from containerd_py import errors

_BY_STATUS: Final[Mapping[Status, type[errors.ContainerdError]]] = {
    Status.CANCELLED: errors.CancelledByDaemonError,
    Status.UNKNOWN: errors.UnknownError,
    Status.INVALID_ARGUMENT: errors.InvalidArgumentError,
    Status.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    Status.NOT_FOUND: errors.NotFoundError,
    Status.ALREADY_EXISTS: errors.AlreadyExistsError,
    Status.PERMISSION_DENIED: errors.PermissionDeniedError,
    Status.RESOURCE_EXHAUSTED: errors.ResourceExhaustedError,
    Status.FAILED_PRECONDITION: errors.FailedPreconditionError,
    Status.ABORTED: errors.AbortedError,
    Status.OUT_OF_RANGE: errors.OutOfRangeError,
    Status.UNIMPLEMENTED: errors.UnimplementedError,
    Status.INTERNAL: errors.InternalError,
    Status.UNAVAILABLE: errors.UnavailableError,
    Status.DATA_LOSS: errors.DataLossError,
    Status.UNAUTHENTICATED: errors.UnauthenticatedError,
}
# errdefs says these two as FailedPrecondition and tells them apart by the end of the message.
_BY_SUFFIX: Final = ((": conflict", errors.ConflictError), (": not modified", errors.NotModifiedError))
_CLASS_TEXT: Final[Mapping[Status, str]] = {  # errdefs appends its class to the message, which ours says by its type
    Status.INVALID_ARGUMENT: "invalid argument",
    Status.NOT_FOUND: "not found",
    Status.ALREADY_EXISTS: "already exists",
    Status.FAILED_PRECONDITION: "failed precondition",
    Status.UNAVAILABLE: "unavailable",
    Status.UNIMPLEMENTED: "not implemented",
}
_NO_SUCH_CALL: Final = re.compile(r"unknown (service|method) ")
_STACK: Final = frozenset({"grpclib", "h2", "hpack", "hyperframe"})
STATUS_HEADER: Final = "grpc-status"
NO_STATUS: Final = "Stream ended without a status"
_RESET_CODE: Final = re.compile(r"error_code: (?:ErrorCodes\.)?(\w+)")
MESSAGE_LIMIT: Final = 16 * 1024 * 1024  # bytes, both ways (containerd, defaults)


class DetailsCodec(StatusDetailsCodecBase):
    """Decodes the `google.rpc.Status` some errors carry, with the generated class."""

    def encode(self, status: Status, message: str | None, details: Any) -> bytes:  # noqa: ARG002
        """Never needed by a client."""
        raise TypeError("a client sends no status details")

    def decode(self, status: Status, message: str | None, data: bytes) -> Any:  # noqa: ARG002
        """Return the detail messages as (type URL, bytes) pairs; damaged ones are left out."""
        from containerd_py._generated.google.rpc import Status as RpcStatus

        try:
            return [(detail.type_url, detail.value) for detail in RpcStatus.parse(data).details]
        except Exception:  # noqa: BLE001  # details are a courtesy: never let them hide the error itself
            return []


def translate(
    error: BaseException, *, method: str, metadata: Mapping[str, Any], version: str
) -> errors.ContainerdError | None:
    """Return what a failed call raises instead of `error`, or None where `error` is not the transport's.

    `method` is the RPC's path, `metadata` what was sent with it, `version` the daemon's version if known.
    """
    made = _translated(error, method, version)
    if made is not None:
        namespace = metadata.get("containerd-namespace", "")
        made.add_note(f"while calling {method.lstrip('/')} in namespace {namespace!r}")
    return made


def _translated(error: BaseException, method: str, version: str) -> errors.ContainerdError | None:
    match error:
        case GRPCError():
            return _from_status(error, method, version)
        case StreamTerminatedError():
            return _from_termination(str(error))
        case Http2ProtocolError() | GrpclibProtocolError():
            return errors.ProtocolError(f"the connection carried something unexpected: {error!r}")
        case AssertionError() | NotImplementedError() if _is_of_the_stack(error):
            return errors.ProtocolError(f"the connection carried something unexpected: {error!r}")
        case _:
            return None


def _is_of_the_stack(error: BaseException) -> bool:
    """Tell whether an error was raised below us, and not in the caller's own block around a call."""
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    module = "" if innermost is None else str(innermost.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] in _STACK


def _from_status(error: GRPCError, method: str, version: str) -> errors.ContainerdError:
    message = error.message or error.status.name.lower().replace("_", " ")
    if error.status is Status.UNIMPLEMENTED and _NO_SUCH_CALL.search(message):
        return errors.NotSupportedError(_needs(method, version))
    made = _BY_STATUS.get(error.status, errors.UnknownError)
    if error.status is Status.FAILED_PRECONDITION:
        made = next((kind for suffix, kind in _BY_SUFFIX if message.endswith(suffix)), made)
    suffix = ": " + _CLASS_TEXT.get(error.status, "\0")
    while message.endswith(suffix):
        message = message.removesuffix(suffix)
    if error.status is Status.RESOURCE_EXHAUSTED and "message" in message:
        message += f"; one message holds {MESSAGE_LIMIT // 1024 // 1024} MiB: narrow the request with filters"
    translated = made(message)
    for type_url, _ in error.details or ():
        translated.add_note(f"the daemon added a detail of type {type_url}")
    return translated


def _needs(method: str, version: str) -> str:
    from containerd_py.support import first_line

    line = first_line(method)
    call = method.rsplit(".", 1)[-1].replace("/", ".")
    here = f", this daemon is {version}" if version else ""
    needs = f"needs containerd {line} or later" if line else "is served by no supported containerd line"
    return f"{call} {needs}{here}"


def _from_termination(reason: str) -> errors.ContainerdError:
    if "GOAWAY" in reason or "onnection" in reason:
        return errors.ConnectionLostError(f"the daemon went away during the call: {reason}")
    if reason == NO_STATUS:
        return errors.ProtocolError("the daemon ended the call without saying how it went")
    if reason == "Protocol error":
        return errors.ConnectionLostError("the connection carried something that is not HTTP/2 and was closed")
    found = _RESET_CODE.search(reason)
    code = found[1] if found else ""
    if code in {ErrorCodes.REFUSED_STREAM.name, str(int(ErrorCodes.REFUSED_STREAM))}:
        return errors.UnavailableError("the daemon refused the call before looking at it: try again")
    if code in {ErrorCodes.ENHANCE_YOUR_CALM.name, str(int(ErrorCodes.ENHANCE_YOUR_CALM))}:
        return errors.ResourceExhaustedError("the daemon reset the call: it asks for fewer of them")
    return errors.ConnectionLostError(f"the daemon broke the call off without a status ({reason})")
