"""What imports and exports by transfer have in common: a transfer whose progress is read, and what its failures mean.

Needs containerd 1.7 or later. Source: containerd, core/transfer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import anyio

from containerd_py._flows.together import working_together
from containerd_py.errors import ArchiveError, ContainerdError, NotFoundError, UnavailableError
from containerd_py.progress import Progress
from containerd_py.services.bundle import Services
from containerd_py.services.streaming import DaemonStream, new_stream_id
from containerd_py.services.transfer import Endpoint, progress_from_wire

_PROGRESS_BOUND: Final = 5.0  # seconds that the last progress may come after the transfer's own end
# Words of the daemon's importer and of Go's tar reader.
_ARCHIVE_WORDS: Final = (
    "unrecognized image format",
    "invalid tar header",
    "archive/tar:",
    "unexpected EOF",
    "unsupported OCI version",
    "missing index.json",
    "invalid reference format",
    "gzip: invalid",
    "no target for symlink",
    "image config ",
    "untar ",
)
_FILTERED_OUT: Final = "image might be filtered out"

_log = logging.getLogger(__name__)


async def transfer_archive(
    services: Services, source: Endpoint, destination: Endpoint, report: Callable[[Progress], None]
) -> None:
    """Have the daemon do a transfer, and read its progress to the end.

    Raises:
        NotSupportedError: The daemon is older than containerd 1.7.
        ArchiveError: The daemon does not take the archive.
        NotFoundError: An image or its content is not there, or there is nothing for the platform.
    """
    progress_id = new_stream_id("progress")
    async with services.streaming.open(progress_id) as stream, working_together() as group:
        ended = anyio.Event()
        group.start_soon(_read_progress, stream, report, ended)
        try:
            await services.transfer.transfer(source, destination, progress_stream=progress_id)
        except ContainerdError as error:
            raise _typed(error) from error.__cause__
        with anyio.move_on_after(_PROGRESS_BOUND):
            await ended.wait()
        await group.end()


async def _read_progress(stream: DaemonStream, report: Callable[[Progress], None], ended: anyio.Event) -> None:
    try:
        while (value := await stream.receive()) is not None:
            report(progress_from_wire(value))
    except ContainerdError as error:
        _log.debug("progress of a transfer ended early: %r", error)  # whether the transfer did, its own call says
    finally:
        ended.set()


def _typed(error: ContainerdError) -> ContainerdError:
    if isinstance(error, UnavailableError | NotFoundError):
        return error
    text = str(error)
    if _FILTERED_OUT in text:
        return NotFoundError(f"the archive has nothing for the platform: {text}")
    return ArchiveError(text) if any(words in text for words in _ARCHIVE_WORDS) else error
