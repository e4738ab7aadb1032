"""Who an image's user is: numbers for names, from the passwd and group files of its root file system.

Knows the `USER` notation of images and the two files' formats. Both come from a stranger: a name that looks like a
number is never looked up as a name, numbers that are none make nobody root (CVE-2024-40635). Calls that read block.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import attrs

from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.oci.process_options import MAX_ID, with_user_ids
from containerd_py.oci.rootfs import RootFS
from containerd_py.oci.spec_editing import SpecOption, check_string

_USER_FILE: Final = "etc/passwd"
_GROUP_FILE: Final = "etc/group"
_ROOT: Final = "root"
_MAX_GID: Final = 2**32 - 1
# Longer lines the Go client does not read either (bufio.Scanner's bounds there).
_MAX_LINES: Final = {_USER_FILE: 64 * 1024 - 1, _GROUP_FILE: 1024 * 1024 - 1}
_NUMBER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)  # what Go's strconv.Atoi takes
_PLAIN_NUMBER: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_MAX_DIGITS: Final = 20
# What Go's bytes.TrimSpace removes; Python's own idea of white space is wider.
_WHITE_SPACE: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


@attrs.frozen(kw_only=True)
class User:
    """A user as the kernel knows one. `additional_gids` holds the supplementary groups and the primary one."""

    uid: int
    gid: int
    additional_gids: tuple[int, ...] = ()


@attrs.frozen(kw_only=True)
class UserReference:
    """A user as images write one: number or name, and a group likewise; None where the group is not given."""

    user: int | str
    group: int | str | None = None


def parse_user(text: str) -> UserReference:
    """Read "user", "uid", "user:group", "uid:gid" or a mixture; reads no file.

    Raises:
        InvalidArgumentError: There are too many parts, or a number is not in 0 to 2**31 - 1.
    """
    check_string(text, what="user")
    user, colon, group = text.partition(":")
    if ":" in group:
        raise InvalidArgumentError(f"user: {text[:160]!a} has more than two parts")
    if not colon:
        return UserReference(user=_number_or_name(user, text, what="uid"))
    # An empty part is 0, as in the Go client: "app:" is group 0, not app's own.
    return UserReference(
        user=_number_or_name(user, text, what="uid") or 0, group=_number_or_name(group, text, what="gid") or 0
    )


def resolve_user(user: str, rootfs: RootFS) -> User:
    """Make numbers of an image's user, with the supplementary groups the image gives it. Blocks.

    Nothing at all means root. A number without a passwd entry is taken as it is, with group 0; a name must be there.
    Entries whose numbers are none are passed over, unless they are the ones asked for. Source: the Go client (pkg/oci,
    WithUser and WithAdditionalGIDs as WithImageConfig uses them).

    Raises:
        InvalidArgumentError: The notation is wrong, a number out of range, or a file is not what it should be.
        NotFoundError: There is no such user or group.
        PermissionDeniedError: This user may not read the snapshot.
        FailedPreconditionError: The snapshot cannot be read without mounting it.
    """
    reference = parse_user(user)
    if user == "":
        uid, gid, name = 0, 0, _ROOT
    else:
        uid, gid = _primary_ids(reference, rootfs)
        name = _name_of(uid, rootfs)
    groups = _groups_listing(name, rootfs) if name else ()
    return User(uid=uid, gid=gid, additional_gids=groups if gid in groups else (gid, *groups))


def resolve_groups(groups: Iterable[str], rootfs: RootFS) -> tuple[int, ...]:
    """Make numbers of groups; numbers are taken as they are, names must be in the group file. Blocks.

    Raises:
        NotFoundError: There is no such group.
        InvalidArgumentError: The group file is not what it should be.
    """
    return tuple(_resolve_group(group, rootfs) for group in groups)


def with_user(user: User) -> SpecOption:
    """Run the process as this user.

    Raises:
        InvalidArgumentError: A number is not in 0 to 2**31 - 1, or this is a name, which nobody has looked up.
    """
    if not isinstance(user, User):
        raise InvalidArgumentError(
            f"with_user takes a User that was looked up, not {user!r}: names belong in user= of create_container or run"
        )
    return with_user_ids(user.uid, user.gid, additional_gids=user.additional_gids)


def _number_or_name(part: str, whole: str, *, what: str) -> int | str:
    if not _NUMBER.fullmatch(part):
        return part
    number = int(part) if len(part) <= _MAX_DIGITS else -1
    if not 0 <= number <= MAX_ID:
        raise InvalidArgumentError(f"user: {whole[:160]!a}: {what} out of range, 0 to {MAX_ID} are possible")
    return number


def _primary_ids(reference: UserReference, rootfs: RootFS) -> tuple[int, int]:
    match reference:
        case UserReference(user=int(uid), group=int(gid)):
            return uid, gid  # needs no file
        case UserReference(user=int(uid), group=None):
            entry = _find_user(rootfs, lambda fields: _id(fields, 2) == uid)
            return uid, _required_id(entry, 3, _USER_FILE) if entry else 0
        case UserReference(user=int(uid), group=str(group)):
            return uid, _gid_of(group, rootfs)
        case UserReference(user=str(name), group=group):
            entry = _find_user(rootfs, lambda fields: fields[0] == name)
            if entry is None:
                raise NotFoundError(f"user: there is no {name[:160]!a} in the image's {_USER_FILE}")
            uid = _required_id(entry, 2, _USER_FILE)
            if group is None:
                return uid, _required_id(entry, 3, _USER_FILE)
            return uid, group if isinstance(group, int) else _gid_of(group, rootfs)
    raise AssertionError(reference)  # the cases above are all there are


def _name_of(uid: int, rootfs: RootFS) -> str:
    entry = _find_user(rootfs, lambda fields: _id(fields, 2) == uid)
    return entry[0] if entry else ""


def _gid_of(name: str, rootfs: RootFS) -> int:
    for fields in _entries(rootfs, _GROUP_FILE):
        if fields[0] == name:
            return _required_id(fields, 2, _GROUP_FILE)
    raise NotFoundError(f"user: there is no group {name[:160]!a} in the image's {_GROUP_FILE}")


def _resolve_group(group: str, rootfs: RootFS) -> int:
    if _PLAIN_NUMBER.fullmatch(group) and int(group) <= _MAX_GID:
        return int(group)
    return _gid_of(group, rootfs)


def _groups_listing(name: str, rootfs: RootFS) -> tuple[int, ...]:
    """Collect the groups that list a user as a member, but for the one named like the user."""
    found: list[int] = []
    for fields in _entries(rootfs, _GROUP_FILE, holding=name):
        is_member = len(fields) > 3 and name in fields[3].split(",")  # name:password:gid:members
        gid = _id(fields, 2)
        if is_member and fields[0] != name and gid is not None:
            found.append(gid)
    return tuple(found)


def _find_user(rootfs: RootFS, wanted: Callable[[list[str]], bool]) -> list[str] | None:
    return next((fields for fields in _entries(rootfs, _USER_FILE) if wanted(fields)), None)


def _entries(rootfs: RootFS, path: str, *, holding: str = "") -> Iterator[list[str]]:
    """Yield the fields of each entry; none where there is no file. `holding` skips lines without that text early."""
    try:
        content = rootfs.read_file(path)
    except NotFoundError:
        return
    text = holding.encode("utf-8", "surrogateescape")
    for number, line in enumerate(io.BytesIO(content), start=1):
        if len(line.removesuffix(b"\n")) > _MAX_LINES[path]:
            raise InvalidArgumentError(f"{path}: line {number} is longer than {_MAX_LINES[path]} bytes")
        if text not in line:
            continue
        entry = line.decode("utf-8", "surrogateescape").strip(_WHITE_SPACE)
        if entry and not (path == _GROUP_FILE and entry.startswith("#")):
            yield entry.split(":")


def _id(fields: list[str], place: int) -> int | None:
    """Return a field as a user or group ID, or None where it is none."""
    text = fields[place] if len(fields) > place else ""
    if not _NUMBER.fullmatch(text) or len(text) > _MAX_DIGITS:
        return None
    return int(text) if 0 <= int(text) <= MAX_ID else None


def _required_id(fields: list[str], place: int, path: str) -> int:
    number = _id(fields, place)
    if number is None:
        # The Go client would take 0, which is root.
        raise InvalidArgumentError(f"{path}: the entry {fields[0][:64]!a} has no usable number in field {place + 1}")
    return number
