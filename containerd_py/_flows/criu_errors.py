"""What went wrong when criu was to save or bring back a task, said so that one knows what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from anyio import to_thread

from containerd_py.errors import CheckpointError, ContainerdError, CriuNotFoundError

_MISSING: Final = re.compile(r'exec: "[^"]*criu": executable file not found')
_LOG: Final = re.compile(r"(?:path= |log file: )(?P<path>/[^\s\0]+\.log)")
_LOG_END: Final = 64 * 1024  # bytes of criu's log that are looked through
_SHOWN: Final = 3  # lines of it


async def raise_explained(error: BaseException, what: str) -> None:
    """Raise a typed error instead of one that is about criu; return for all others."""
    text = str(error)
    if isinstance(error, ContainerdError) and "criu" in text.lower():
        raise await _explained(text, what) from error


async def _explained(text: str, what: str) -> CheckpointError:
    if _MISSING.search(text):
        return CriuNotFoundError(
            f"{what}: the daemon's host has no criu in the daemon's PATH: install it there (Debian, Ubuntu: apt-get "
            f"install criu; Fedora: dnf install criu) and restart the daemon. The runtime said: {text}"
        )
    made = CheckpointError(f"{what}: {text}")
    if found := _LOG.search(text):
        lines = await to_thread.run_sync(_errors_in, Path(found["path"]))
        made.add_note("\n".join([f"criu's log, {found['path']}:", *lines]) if lines else f"see {found['path']}")
    return made


def _errors_in(log: Path) -> list[str]:
    """Return the last errors criu logged, where the log is on this machine and may be read. Blocks."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_END))
            text = file.read(_LOG_END).decode(errors="replace")
    except OSError:
        return []
    return [line[:300] for line in text.splitlines() if "Error" in line][-_SHOWN:]
