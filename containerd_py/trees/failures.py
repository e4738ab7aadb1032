"""Errors of the kernel about files as this package's own, which say what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from containerd_py.errors import (
    AlreadyExistsError,
    ContainerdError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
)

_TYPES: Final[dict[int, type[ContainerdError]]] = {
    errno.ENOENT: NotFoundError,
    errno.ENOTDIR: FailedPreconditionError,
    errno.EISDIR: FailedPreconditionError,
    errno.EEXIST: AlreadyExistsError,
    errno.EACCES: PermissionDeniedError,
    errno.EPERM: PermissionDeniedError,
    errno.ENAMETOOLONG: InvalidArgumentError,
    errno.EMFILE: ResourceExhaustedError,
    errno.ENFILE: ResourceExhaustedError,
    errno.ENOSPC: ResourceExhaustedError,
    errno.EDQUOT: ResourceExhaustedError,
    errno.ENOMEM: ResourceExhaustedError,
    errno.EFBIG: ResourceExhaustedError,
}
_HINTS: Final = {
    errno.EPERM: "run as the daemon's user, root most likely",
    errno.EACCES: "run as the daemon's user, root most likely",
    errno.EROFS: "it is read-only",
    errno.EXDEV: "it leads out of the tree, or a hard link would cross file systems",
    errno.ELOOP: "there is a link in the way that is not followed",
    errno.EOVERFLOW: "its file system belongs to a user namespace in which this user does not exist",
    errno.ENOSYS: "this needs Linux 5.6, and a sandbox that allows openat2",
    errno.EMFILE: "raise the limit of open files",
}


@contextmanager
def typed_errors(what: str) -> Iterator[None]:
    """Raise the package's errors instead of OSError; `what` says what was being done."""
    try:
        yield
    except OSError as error:
        raise typed(error, what) from error


def typed(error: OSError, what: str) -> ContainerdError:
    """Return the package's error for one of the kernel's."""
    number = error.errno or 0
    hint = f": {_HINTS[number]}" if number in _HINTS else ""
    return _TYPES.get(number, FailedPreconditionError)(f"{what}: {error.strerror}{hint}")


def shown(path: str) -> str:
    """Return a path as it may stand in a message: nobody vouches for it."""
    return ascii(path if len(path) <= 160 else path[:160] + "…")
