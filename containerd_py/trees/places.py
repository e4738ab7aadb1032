"""Where a copy goes, by the rules of `docker cp`. Knows trees and paths; copies nothing. Calls block.

Source: Docker's reference, "docker container cp".
"""

from __future__ import annotations

import posixpath
import stat
from typing import Final

import attrs

from containerd_py.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from containerd_py.trees.failures import shown, typed_errors
from containerd_py.trees.roots import Root

_MAX_LINKS: Final = 40  # as Linux, path_resolution(7)
CONTENT: Final = "."  # the name of a directory whose content is meant, not itself


@attrs.frozen(kw_only=True)
class Place:
    """A directory that is there, and what the thing copied is to be called in it: `CONTENT` for just its content."""

    folder: str
    name: str


def name_of(path: str) -> str:
    """Return what a thing copied from a path is called; `CONTENT` where the path ends with "/."."""
    if path.endswith("/.") or path == CONTENT:
        return CONTENT
    name = posixpath.basename(posixpath.normpath(f"/{path}"))
    return name or CONTENT


def place_for(root: Root, path: str, *, name: str, is_folder: bool) -> Place:
    """Tell where a thing of that name goes that is to be copied to a path.

    Raises:
        NotFoundError: The directory it shall go into is not there.
        FailedPreconditionError: A directory would have to become a file, or a file is taken for a directory.
    """
    check_path(path)
    with typed_errors(f"copying to {shown(path)}"):
        status = root.status(path)
        wants_folder = path.endswith(("/", "/.")) or path in {"", CONTENT}
        if status is None:
            if wants_folder and not is_folder:
                raise NotFoundError(f"the directory {shown(path)} is not there")
            return _new(root, path)
        if stat.S_ISDIR(status.st_mode):
            return Place(folder=path, name=name)
        if is_folder:
            raise FailedPreconditionError(f"{shown(path)} is there and no directory: a directory cannot go there")
        return _existing(root, path)


def check_path(path: str) -> None:
    """Refuse what is no path.

    Raises:
        InvalidArgumentError: It is empty or has a NUL.
    """
    if not path or "\0" in path:
        raise InvalidArgumentError(f"{shown(path)} is no path")


def _new(root: Root, path: str) -> Place:
    folder, name = posixpath.split(path.rstrip("/").removesuffix("/."))
    above = root.status(folder or "/")
    if above is None or not stat.S_ISDIR(above.st_mode) or name in {"", ".", ".."}:
        raise NotFoundError(f"the directory {shown(folder or '/')} is not there, which {shown(path)} is to be in")
    if root.status(path.rstrip("/"), follow=False) is not None:
        raise FailedPreconditionError(f"{shown(path)} is a link that leads nowhere")
    return Place(folder=folder or "/", name=name)


def _existing(root: Root, path: str) -> Place:
    """Find the file itself behind links: it is what is replaced, not they."""
    for _ in range(_MAX_LINKS):
        folder, name = posixpath.split(path)
        target = root.link_target(path)
        if target is None:
            return Place(folder=folder or "/", name=name)
        path = posixpath.join(folder, target)
    raise FailedPreconditionError(f"{shown(path)} lies behind more than {_MAX_LINKS} links")
