"""A snapshot's mounts, mounted where nobody else sees them. Calls block.

A thread that lives no longer than this takes a mount namespace of its own, mounts there, and hands out a descriptor of
a copy that is in no namespace at all. The mounts go when the descriptor is closed, by us or by the end of the program,
however it comes: the host never has them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import attrs

from containerd_py.errors import FailedPreconditionError, PermissionDeniedError
from containerd_py.oci.user_namespaces import UserNamespace, from_label
from containerd_py.trees.binds import Bind, make_skeleton, mount_binds
from containerd_py.trees.failures import typed_errors
from containerd_py.trees.kernel import (
    CLONE_NEWNS,
    MS_BIND,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_RELATIME,
    MS_REMOUNT,
    clone_tree,
    map_ids,
    mount,
    move_mount,
    unshare,
)
from containerd_py.trees.user_namespace_file import open_user_namespace
from containerd_py.types import Mount

ResultT = TypeVar("ResultT")
_STAGE: Final = "/sys"  # a directory that every machine has and no snapshot lies in; covered in that namespace alone
_HARMLESS: Final = MS_NOSUID | MS_NODEV | MS_NOEXEC
_LOWEST: Final = f"{_STAGE}/lowest"  # holds nothing but places for what is mounted in the snapshot
_LOWER: Final = "lowerdir="
_LONGEST: Final = 3500  # bytes of mount(2)'s options, of a page at most
_FLAGS: Final = {
    "ro": MS_RDONLY,
    "rbind": MS_BIND | MS_REC,
    "bind": MS_BIND,
    "nosuid": MS_NOSUID,
    "nodev": MS_NODEV,
    "noexec": MS_NOEXEC,
    "noatime": MS_NOATIME,
    "nodiratime": MS_NODIRATIME,
    "relatime": MS_RELATIME,
    "rw": 0,
}
_KINDS: Final = frozenset({"bind", "rbind", "overlay", "ext4", "xfs", "btrfs", "zfs"})


@attrs.frozen
class _Step:
    """One call of mount(2), made in `folder`."""

    source: str
    kind: str
    flags: int
    data: str
    folder: str = "/"


def open_mounted(
    mounts: Sequence[Mount], *, writable: bool, binds: Sequence[Bind] = (), owner: tuple[int, int] = (0, 0)
) -> int:
    """Mount a snapshot, and in it `binds`, and return a descriptor of its root.

    Without `writable` nothing can be changed through it, and it does not disturb who has the snapshot mounted besides.
    With it, places of `binds` that are not there are made, for `owner`.

    Raises:
        PermissionDeniedError: This user may not mount.
        FailedPreconditionError: The snapshot is not on this machine, or has mounts of a kind that is unknown here.
    """
    if not mounts:
        raise FailedPreconditionError("the snapshot has no mounts")
    for each in mounts:
        _check_kind(each)
    return in_private_namespace(lambda: _mounted(mounts, binds, owner, writable=writable))


def in_private_namespace(work: Callable[[], ResultT]) -> ResultT:
    """Run something in a thread whose mount namespace nobody shares, and return what it returned."""
    results: list[ResultT] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with typed_errors("mounting the snapshot in a private mount namespace"):
                _leave_host()
                results.append(work())
        except BaseException as error:  # noqa: BLE001  # carried over to the caller
            failures.append(error)

    thread = threading.Thread(target=run, name="containerd-py-mounts", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _leave_host() -> None:
    try:
        unshare(CLONE_NEWNS)
    except PermissionError as error:
        raise PermissionDeniedError(
            "files of a container that does not run have to be mounted, which this user may not: run as root on the "
            "daemon's host"
        ) from error
    mount("none", "/", "", MS_REC | MS_PRIVATE, "")  # before anything else: what is mounted here must not spread
    mount("tmpfs", _STAGE, "tmpfs", _HARMLESS, "mode=0700")


def _mounted(mounts: Sequence[Mount], binds: Sequence[Bind], owner: tuple[int, int], *, writable: bool) -> int:
    place = f"{_STAGE}/root"
    os.mkdir(place)  # noqa: PTH102
    os.mkdir(_LOWEST)  # noqa: PTH102
    make_skeleton(_LOWEST, binds)
    for snapshot in mounts:
        mapped = _with_mapped_layers(snapshot)
        step = _step(mapped if writable else _read_only(mapped, has_binds=bool(binds)))
        os.chdir(step.folder)  # of this thread alone: the namespace came with a working directory of its own
        mount(step.source, place, step.kind, step.flags, step.data)
        if step.flags & MS_BIND:  # whose other flags count only when mounted once more
            mount("none", place, "", MS_REMOUNT | (step.flags & ~MS_REC) | _HARMLESS, "")
    mount_binds(place, binds, writable=writable, owner=owner)
    return clone_tree(place)


def _check_kind(snapshot: Mount) -> None:
    if snapshot.type not in _KINDS or snapshot.target or "loop" in snapshot.options:
        raise FailedPreconditionError(
            f"a snapshot of type {snapshot.type[:64]!a} cannot be mounted by this program: run the container's task"
        )


def _with_mapped_layers(snapshot: Mount) -> Mount:
    """Have an overlay's lower layers show their owners through ID maps, where the snapshotter asks for that.

    From containerd 2.0 on; the upper layer has the mapped IDs on the disk.
    """
    maps = {name: value for name, _, value in (option.partition("=") for option in snapshot.options)}
    if "uidmap" not in maps or "gidmap" not in maps:
        return snapshot
    ids = UserNamespace(uids=from_label(maps["uidmap"]), gids=from_label(maps["gidmap"])).checked()
    others = [option for option in snapshot.options if option.partition("=")[0] not in {"lowerdir", "uidmap", "gidmap"}]
    if snapshot.type != "overlay":
        raise FailedPreconditionError(f"a snapshot of type {snapshot.type[:64]!a} cannot be mounted with ID maps")
    namespace = open_user_namespace(ids)
    try:
        layers = [_mapped_layer(path, namespace, index) for index, path in enumerate(maps["lowerdir"].split(":"))]
    finally:
        os.close(namespace)
    return attrs.evolve(snapshot, options=(*others, f"lowerdir={':'.join(layers)}"))


def _mapped_layer(path: str, namespace: int, index: int) -> str:
    place = f"{_STAGE}/{index}"
    os.mkdir(place)  # noqa: PTH102
    tree = clone_tree(path)
    try:
        map_ids(tree, namespace)
        move_mount(tree, place)
    finally:
        os.close(tree)
    return place


def _step(snapshot: Mount) -> _Step:
    flags, data = 0, []
    for option in snapshot.options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        else:
            data.append(option)
    is_bind = bool(flags & MS_BIND) or snapshot.type in {"bind", "rbind"}
    if is_bind:
        return _Step(snapshot.source, "", flags | MS_BIND, "")
    folder, options = _shortened(data)
    return _Step(snapshot.source, snapshot.type, flags | _HARMLESS, options, folder)


def _shortened(options: Sequence[str]) -> tuple[str, str]:
    """Return options that fit into a page, and the directory that lower layers in them are relative to."""
    whole = ",".join(options)
    if len(whole) <= _LONGEST:
        return "/", whole
    layers = [path for option in options if option.startswith(_LOWER) for path in _paths_in(option)]
    folder = os.path.commonpath([path for path in layers if not path.startswith(f"{_STAGE}/")] or ["/"])
    lower = f"{_LOWER}{':'.join(os.path.relpath(path, folder) for path in layers)}"
    short = ",".join(lower if option.startswith(_LOWER) else option for option in options)
    if len(short) > _LONGEST:
        raise FailedPreconditionError("the snapshot has more layers than one call can mount: run the container's task")
    return folder, short


def _paths_in(option: str) -> list[str]:
    name, _, value = option.partition("=")
    return value.split(":") if name in {"lowerdir", "upperdir", "workdir"} else []


def _read_only(snapshot: Mount, *, has_binds: bool) -> Mount:
    """Return a mount that shows the same and changes nothing, not even an overlay's working directory."""
    if snapshot.type != "overlay":
        return attrs.evolve(snapshot, options=(*(each for each in snapshot.options if each != "rw"), "ro"))
    layers = overlay_layers(snapshot)
    others = [option for option in snapshot.options if not _paths_in(option) and option != "volatile"]
    if len(layers) == 1 or has_binds:  # without an upper one overlayfs wants two
        layers.append(_LOWEST)
    return attrs.evolve(snapshot, options=(*others, f"lowerdir={':'.join(layers)}", "ro"))


def overlay_layers(snapshot: Mount) -> list[str]:
    """Return an overlay's directories, the topmost first."""
    found: dict[str, list[str]] = {}
    for option in snapshot.options:
        with suppress(ValueError):
            name, value = option.split("=", 1)
            found[name] = value.split(":")
    return [*found.get("upperdir", []), *found.get("lowerdir", [])]
