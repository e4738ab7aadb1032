"""The processes of a container as a table, from the daemon's list of them and this machine's /proc."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs
from anyio import to_thread

from containerd_py.errors import FailedPreconditionError
from containerd_py.services.bundle import Services

_MAX_COMMAND_LINE: Final = 128 * 1024  # bytes read of a process's arguments, which are its own to choose
_TICKS_PER_SECOND: Final = "SC_CLK_TCK"


@attrs.frozen(kw_only=True)
class TopEntry:
    """A process: its ID on the host and in the container, its parent's on the host, its user, and what it uses.

    `state` is the kernel's letter, as "S" or "Z". `args` are as the process shows them, `name` is the program's, cut to
    15 bytes by the kernel; what is not UTF-8 in them, or would steer a terminal, is escaped. `resident` is in bytes,
    `cpu_time` and `running_for` in seconds.
    """

    pid: int
    pid_inside: int
    parent_pid: int
    user_id: int
    state: str
    name: str
    args: tuple[str, ...]
    threads: int
    resident: int
    cpu_time: float
    running_for: float


async def process_table(services: Services, container_id: str) -> list[TopEntry]:
    """Return a container's processes, by their IDs; one that ends meanwhile is left out."""
    pids = [process.pid for process in await services.tasks.list_pids(container_id)]
    await _check_is_here(services)
    return await to_thread.run_sync(read_entries, sorted(pids))


async def _check_is_here(services: Services) -> None:
    """Refuse a daemon that counts processes elsewhere; containerd 1.6 does not say where."""
    pidns = (await services.introspection.server()).pidns
    ours = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116  # the kernel's answer, at once
    if pidns is not None and pidns != ours:
        raise FailedPreconditionError("the daemon counts processes in another PID namespace, or on another machine")


def read_entries(pids: Iterable[int]) -> list[TopEntry]:
    """Read the processes from /proc. Blocks."""
    entries: list[TopEntry] = []
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            entries.append(_read(Path("/proc") / str(pid), uptime))
    return entries


def _read(folder: Path, uptime: float) -> TopEntry:
    # The name stands in brackets and may have brackets, blanks and line ends itself.
    before, _, after = (folder / "stat").read_bytes().rpartition(b")")
    fields = after.split()
    status = _status((folder / "status").read_bytes())
    with (folder / "cmdline").open("rb") as file:
        command_line = file.read(_MAX_COMMAND_LINE)
    ticks = os.sysconf(_TICKS_PER_SECOND)
    pid = int(folder.name)
    return TopEntry(
        pid=pid,
        pid_inside=int(status.get("NSpid", str(pid)).split()[-1]),
        parent_pid=int(fields[1]),
        user_id=int(status["Uid"].split()[1]),
        state=fields[0].decode(),
        name=_shown(before.partition(b"(")[2]),
        args=tuple(_shown(arg) for arg in command_line.removesuffix(b"\0").split(b"\0")) if command_line else (),
        threads=int(fields[17]),
        resident=int(status.get("VmRSS", "0").split()[0]) * 1024,
        cpu_time=(int(fields[11]) + int(fields[12])) / ticks,
        running_for=max(uptime - int(fields[19]) / ticks, 0.0),
    )


def _status(text: bytes) -> Mapping[str, str]:
    # A process chooses its name, of which the kernel escapes the line ends and nothing else: no splitlines().
    pairs = (line.partition(b":") for line in text.split(b"\n"))
    return {key.decode(): value.strip().decode() for key, _, value in pairs if key != b"Name"}


def _shown(text: bytes) -> str:
    decoded = text.decode("utf-8", "backslashreplace")
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in decoded)
