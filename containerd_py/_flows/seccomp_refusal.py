"""A runtime that cannot filter system calls, said so that one knows what to do; the filter is never left out for it."""

from __future__ import annotations

import re
from typing import Final

from containerd_py.errors import ContainerdError, NotSupportedError
from containerd_py.services.containers import ContainerRecord

# runc built without libseccomp says "seccomp: config provided but seccomp not supported".
_REFUSAL: Final = re.compile(r"seccomp[^\n]{0,200}?(?:not|un)[ -]?(?:supported|enabled|compiled)", re.IGNORECASE)


def without_seccomp(error: ContainerdError, record: ContainerRecord) -> NotSupportedError | None:
    """Return what to raise instead of a runtime's words that it has no seccomp; None for all others."""
    if not _REFUSAL.search(str(error)):
        return None
    return NotSupportedError(
        f"the runtime {record.runtime.name} cannot filter system calls, as container {record.id} asks for: have it "
        "built with libseccomp, or create the container with with_seccomp_unconfined(), less safe. "
        f"The runtime said: {error}"
    )
