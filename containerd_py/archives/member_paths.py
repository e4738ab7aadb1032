"""Paths inside an archive: clean, relative, never leaving it. Pure; no path here is one of this machine's."""

from __future__ import annotations

from containerd_py.errors import ArchiveError


def member_path(name: str, limit: int, offset: int) -> str:
    """Return a member's path without "." and empty parts; "" is the archive's root.

    Raises:
        ArchiveError: It is empty, absolute, longer than `limit` bytes, leaves the archive or has a NUL in it.
    """
    _check(name, "name", limit, offset)
    if name.startswith("/"):
        raise ArchiveError(f"the name {_shown(name)} is absolute", offset=offset)
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise ArchiveError(f'the name {_shown(name)} has ".." in it', offset=offset)
    return "/".join(parts)


def link_target(member: str, link: str, limit: int, offset: int) -> str:
    """Return the path in the archive that a link stands for: relative to the folder of `member`, "" being the root.

    Raises:
        ArchiveError: It is empty, absolute, longer than `limit` bytes, or leads out of the archive.
    """
    _check(link, "link", limit, offset)
    if link.startswith("/"):
        raise ArchiveError(f"the link to {_shown(link)} is absolute", offset=offset)
    parts = member.split("/")[:-1]
    for part in link.split("/"):
        if part == "..":
            if not parts:
                raise ArchiveError(f"the link to {_shown(link)} leads out of the archive", offset=offset)
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


def _check(path: str, what: str, limit: int, offset: int) -> None:
    if not path:
        raise ArchiveError(f"a {what} in the archive is empty", offset=offset)
    if len(path.encode()) > limit:
        raise ArchiveError(f"a {what} has {len(path.encode())} bytes, more than the {limit} allowed", offset=offset)
    if "\x00" in path:
        raise ArchiveError(f"a {what} in the archive has a NUL in it", offset=offset)


def _shown(path: str) -> str:
    return ascii(path if len(path) <= 160 else path[:160] + "…")
