"""Whatever grpclib or h2 raise becomes one of this package's errors, in one place, with what the daemon said."""

import contextlib

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.exceptions import ProtocolError as GrpclibProtocolError
from h2.errors import ErrorCodes
from h2.exceptions import FlowControlError, StreamClosedError
from multidict import MultiDict

from containerd_py import errors
from containerd_py._generated.google.protobuf import Any as WireAny
from containerd_py._generated.google.rpc import Status as RpcStatus
from containerd_py._transport.status import DetailsCodec, translate

GET = "/containerd.services.images.v1.Images/Get"
TRANSFER = "/containerd.services.transfer.v1.Transfer/Transfer"
BY_CODE = {
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


def translated(error: BaseException, *, method: str = GET, version: str = "") -> errors.ContainerdError:
    made = translate(error, method=method, metadata=MultiDict({"containerd-namespace": "demo"}), version=version)
    assert made is not None
    return made


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_code_has_its_error(status: Status):
    """Each of gRPC's 16 failures becomes the error of that class and no other, and keeps the daemon's words."""
    made = translated(GRPCError(status, "the daemon's words"))
    assert type(made) is BY_CODE[status]
    assert "the daemon's words" in str(made)


def test_the_table_knows_all_seventeen_codes():
    """No code is left to chance: 16 failures and OK, which is none."""
    assert {*BY_CODE, Status.OK} == set(Status)


def test_a_status_without_a_message_says_its_name():
    """An error never has an empty text."""
    assert str(translated(GRPCError(Status.OUT_OF_RANGE))) == "out of range"


@pytest.mark.parametrize(
    ("status", "said", "error", "text"),
    [
        (Status.NOT_FOUND, 'image "x": not found', errors.NotFoundError, 'image "x"'),
        (Status.NOT_FOUND, "a: not found: not found", errors.NotFoundError, "a"),
        (Status.NOT_FOUND, "not found", errors.NotFoundError, "not found"),
        (Status.ALREADY_EXISTS, "snapshot s: already exists", errors.AlreadyExistsError, "snapshot s"),
        (Status.INVALID_ARGUMENT, "no name: invalid argument", errors.InvalidArgumentError, "no name"),
        (Status.FAILED_PRECONDITION, "running: failed precondition", errors.FailedPreconditionError, "running"),
        (Status.UNAVAILABLE, "ref r locked: unavailable", errors.UnavailableError, "ref r locked"),
        (Status.UNIMPLEMENTED, "usage: not implemented", errors.UnimplementedError, "usage"),
        (Status.FAILED_PRECONDITION, "lease l: conflict", errors.ConflictError, "lease l: conflict"),
        (Status.FAILED_PRECONDITION, "a: not modified", errors.NotModifiedError, "a: not modified"),
        (Status.UNKNOWN, "a: not found", errors.UnknownError, "a: not found"),
        (Status.NOT_FOUND, "a: conflict", errors.NotFoundError, "a: conflict"),
    ],
)
def test_class_texts_become_classes(status: Status, said: str, error: type[Exception], text: str):
    """The class errdefs appends to a message is said by the type; the two it only tells by suffix are told apart."""
    made = translated(GRPCError(status, said))
    assert type(made) is error
    assert str(made) == text


def test_an_unknown_service_names_the_line_that_serves_it():
    """What this daemon lacks is said with the first line that has it and the version that is here."""
    error = GRPCError(Status.UNIMPLEMENTED, "unknown service containerd.services.transfer.v1.Transfer")
    made = translated(error, method=TRANSFER, version="1.6.20~ds1")
    assert type(made) is errors.NotSupportedError
    assert str(made) == "Transfer.Transfer needs containerd 1.7 or later, this daemon is 1.6.20~ds1"


def test_an_unknown_method_names_the_line_without_a_known_version():
    """The daemon's version is left out where nobody asked for it yet."""
    made = translated(GRPCError(Status.UNIMPLEMENTED, "unknown method Transfer for service X"), method=TRANSFER)
    assert str(made) == "Transfer.Transfer needs containerd 1.7 or later"


def test_a_method_that_no_line_serves():
    """A call nobody serves is not said to need anything."""
    made = translated(GRPCError(Status.UNIMPLEMENTED, "unknown service demo.v1.Demo"), method="/demo.v1.Demo/Call")
    assert type(made) is errors.NotSupportedError
    assert str(made) == "Demo.Call is served by no supported containerd line"


def test_what_an_option_lacks_is_unimplemented_only():
    """UNIMPLEMENTED from inside a service is about an option, not about the daemon's age."""
    made = translated(GRPCError(Status.UNIMPLEMENTED, "snapshotter x does not implement cleanup: not implemented"))
    assert type(made) is errors.UnimplementedError


def test_a_message_too_large_says_what_to_do():
    """The 16 MiB limit is explained, since the daemon's words about it are not."""
    said = "grpc: received message larger than max (17825805 vs. 16777216)"
    assert "16 MiB: narrow the request" in str(translated(GRPCError(Status.RESOURCE_EXHAUSTED, said)))


def test_details_become_notes():
    """Details of a status are decoded with the generated classes and named in notes."""
    packed = bytes(RpcStatus(code=5, message="m", details=[WireAny(type_url="types/demo.Detail", value=b"\1\2")]))
    details = DetailsCodec().decode(Status.NOT_FOUND, "m", packed)
    assert details == [("types/demo.Detail", b"\1\2")]
    made = translated(GRPCError(Status.NOT_FOUND, "m", details))
    assert "the daemon added a detail of type types/demo.Detail" in made.__notes__


@pytest.mark.parametrize("damaged", [b"\xff", b"\x1a\xff\xff\xff\xff\x7f", b"\x0a", b"\x12\x02\xff\xfe"])
def test_damaged_details_do_not_hide_the_error(damaged: bytes):
    """Details are a courtesy: undecodable ones leave nothing and raise nothing."""
    assert DetailsCodec().decode(Status.NOT_FOUND, "m", damaged) in ([], [("", b"")])


def test_the_note_says_what_was_being_done():
    """Every translated error names the call and the namespace."""
    assert translated(GRPCError(Status.UNKNOWN, "m")).__notes__ == [
        "while calling containerd.services.images.v1.Images/Get in namespace 'demo'"
    ]


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("Connection lost", errors.ConnectionLostError),
        ("Connection closed", errors.ConnectionLostError),
        ("Protocol error", errors.ConnectionLostError),
        ("Received GOAWAY frame, closing connection; error_code: 11", errors.ConnectionLostError),
        *(
            (f"Stream reset by remote party, error_code: {form}", error)
            for code, error in {
                **dict.fromkeys(ErrorCodes, errors.ConnectionLostError),
                ErrorCodes.REFUSED_STREAM: errors.UnavailableError,
                ErrorCodes.ENHANCE_YOUR_CALM: errors.ResourceExhaustedError,
            }.items()
            for form in (str(int(code)), f"ErrorCodes.{code.name}")
        ),
    ],
)
def test_every_end_of_a_stream_has_an_error(reason: str, error: type[Exception]):
    """A stream that ends without a status is a typed error, for all 14 HTTP/2 codes and however they are printed."""
    assert type(translated(StreamTerminatedError(reason))) is error


def raised_in(module: str, error: BaseException) -> BaseException:
    """Return the error with the traceback it has when code of that module raises it."""
    with contextlib.suppress(type(error)):
        exec("raise error", {"__name__": module, "error": error})
    return error


@pytest.mark.parametrize(
    "error",
    [
        StreamClosedError(1),
        FlowControlError("window"),
        GrpclibProtocolError("x"),
        raised_in("grpclib.stream", AssertionError()),
        raised_in("h2.connection", NotImplementedError()),
    ],
)
def test_what_grpclib_asserts_is_a_protocol_error(error: BaseException):
    """Bare assertions and h2's errors never reach a user."""
    assert type(translated(error)) is errors.ProtocolError


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyboardInterrupt(),
        OSError(5, "x"),
        RuntimeError("x"),
        raised_in("their_program", AssertionError("theirs")),
        raised_in("their_program", NotImplementedError()),
        AssertionError("theirs"),
    ],
)
def test_what_is_not_the_transports_passes(error: BaseException):
    """Errors of the caller's own code inside a call stay what they are."""
    assert translate(error, method=GET, metadata={}, version="") is None
