"""Spec options about the process: what runs, with which environment, as whom. Pure; reads no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.default_spec import DEFAULT_PATH
from containerd_py.oci.runtime_spec import Mount, Rlimit, Spec
from containerd_py.oci.spec_editing import SpecOption, check_integer, check_string, process_of, spec_option, strings
from containerd_py.oci.spec_json import clone

EnvSource: TypeAlias = "str | Mapping[str, str | None] | Iterable[str]"

MAX_ID: Final = 2**31 - 1  # what runc takes for a user or group ID
_MAX_UINT32: Final = 2**32 - 1
_MAX_UINT64: Final = 2**64 - 1
_MAX_UMASK: Final = 0o7777


def with_process_args(*args: str | Iterable[str]) -> SpecOption:
    """Set what to run: the program and its arguments, one by one or as a list.

    Raises:
        InvalidArgumentError: An argument holds a NUL character.
    """
    command = strings(args, what="process args")

    def edit(spec: Spec) -> None:
        process = process_of(spec)
        process["args"] = list(command)
        process.pop("commandLine", None)

    return spec_option(edit)


def with_init(program: str, *, inside: str = "/sbin/docker-init") -> SpecOption:
    """Let an init of the daemon's host start the command, pass it signals and reap what it leaves behind.

    `program` is tini or its like, mounted read-only at `inside`. Apply it after the command is set.

    Raises:
        InvalidArgumentError: A path is not absolute, or, when applied, there is no command.
    """
    for path in (program, inside):
        if not check_string(path, what="init").startswith("/"):
            raise InvalidArgumentError(f"init: {path[:160]!a} must be an absolute path")
    mount: Mount = {"destination": inside, "source": program, "type": "bind", "options": ["bind", "ro"]}

    def edit(spec: Spec) -> None:
        process = process_of(spec)
        if not process.get("args"):
            raise InvalidArgumentError("init: there is no command for it to start: give args")
        process["args"] = [inside, "--", *process["args"]]
        spec.setdefault("mounts", []).append(clone(mount))

    return spec_option(edit)


def with_process_command_line(command_line: str) -> SpecOption:
    """Set what to run as one line, as Windows wants it."""

    def edit(spec: Spec) -> None:
        process = process_of(spec)
        process["commandLine"] = command_line
        process.pop("args", None)

    return spec_option(edit)


def with_process_cwd(cwd: str) -> SpecOption:
    """Set the working directory, a path inside the container.

    Raises:
        InvalidArgumentError: The path is empty or holds a NUL character.
    """
    if not check_string(cwd, what="cwd"):
        raise InvalidArgumentError("cwd: must not be empty")

    def edit(spec: Spec) -> None:
        process_of(spec)["cwd"] = cwd

    return spec_option(edit)


def with_env(*variables: EnvSource) -> SpecOption:
    """Set environment variables: "NAME=value" strings, lists of them, or mappings; later ones win.

    A name alone, or None as a mapping's value, unsets the variable.

    Raises:
        InvalidArgumentError: A name is empty or holds "=", or something holds a NUL character.
    """
    overrides = env_entries(variables)

    def edit(spec: Spec) -> None:
        process = process_of(spec)
        process["env"] = merge_env(process.get("env", ()), overrides)

    return spec_option(edit)


def with_env_file(text: str | bytes) -> SpecOption:
    """Set the variables of an environment file, of which this is the text: "NAME=value" lines.

    Blank lines and those that begin with "#" say nothing; a name alone unsets the variable. Values are as they stand,
    quotes and all, as Docker reads such files.

    Raises:
        InvalidArgumentError: A line has no name, or holds a NUL character, or the text is not UTF-8.
    """
    try:
        lines = (text.decode() if isinstance(text, bytes) else text).removeprefix("\ufeff").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"env file: not UTF-8 at byte {error.start}") from error
    stripped = (line.removesuffix("\r").lstrip() for line in lines)
    return with_env([line for line in stripped if line and not line.startswith("#")])


def with_default_path_env() -> SpecOption:
    """Set PATH to the usual six directories."""
    return with_env(DEFAULT_PATH)


def with_tty() -> SpecOption:
    """Give the process a terminal, and TERM=xterm on Linux unless TERM is set."""

    def edit(spec: Spec) -> None:
        process = process_of(spec)
        process["terminal"] = True
        env = process.get("env", [])
        if "linux" in spec and not any(entry.startswith("TERM=") for entry in env):
            process["env"] = [*env, "TERM=xterm"]

    return spec_option(edit)


def with_tty_size(width: int, height: int) -> SpecOption:
    """Set the terminal's first size, in characters.

    Raises:
        InvalidArgumentError: A number is negative or too large.
    """
    for what, value in (("width", width), ("height", height)):
        check_integer(value, what=f"terminal {what}", minimum=0, maximum=_MAX_UINT32)

    def edit(spec: Spec) -> None:
        process_of(spec)["consoleSize"] = {"height": height, "width": width}

    return spec_option(edit)


def with_new_privileges() -> SpecOption:
    """Let set-user-ID programs gain privileges (gives up `no_new_privs`)."""

    def edit(spec: Spec) -> None:
        process_of(spec)["noNewPrivileges"] = False

    return spec_option(edit)


def with_no_new_privileges() -> SpecOption:
    """Keep set-user-ID programs from gaining privileges; the default."""

    def edit(spec: Spec) -> None:
        process_of(spec)["noNewPrivileges"] = True

    return spec_option(edit)


def with_rlimit(kind: str, *, soft: int, hard: int | None = None) -> SpecOption:
    """Set a resource limit, for instance "RLIMIT_NOFILE"; `hard` is as `soft` if not given.

    Raises:
        InvalidArgumentError: The kind is no RLIMIT name, or soft is above hard.
    """
    hard = soft if hard is None else hard
    if not kind.startswith("RLIMIT_"):
        raise InvalidArgumentError(f"rlimit: {kind[:64]!a} must be a name like RLIMIT_NOFILE")
    for value in (soft, hard):
        check_integer(value, what=kind, minimum=0, maximum=_MAX_UINT64)
    if soft > hard:
        raise InvalidArgumentError(f"{kind}: the soft limit {soft} is above the hard limit {hard}")
    limit: Rlimit = {"type": kind, "hard": hard, "soft": soft}

    def edit(spec: Spec) -> None:
        limits = process_of(spec).setdefault("rlimits", [])
        for index, present in enumerate(limits):
            if present["type"] == kind:
                limits[index] = limit.copy()
                return
        limits.append(limit.copy())

    return spec_option(edit)


def with_umask(umask: int) -> SpecOption:
    """Set the file mode creation mask.

    Raises:
        InvalidArgumentError: It is no mask.
    """
    check_integer(umask, what="umask", minimum=0, maximum=_MAX_UMASK)

    def edit(spec: Spec) -> None:
        process_of(spec)["user"]["umask"] = umask

    return spec_option(edit)


def with_oom_score_adj(score: int) -> SpecOption:
    """Say how early the kernel may kill the process when memory is short: -1000 (never) to 1000.

    Raises:
        InvalidArgumentError: The score is out of range.
    """
    check_integer(score, what="oom score", minimum=-1000, maximum=1000)

    def edit(spec: Spec) -> None:
        process_of(spec)["oomScoreAdj"] = score

    return spec_option(edit)


def with_user_ids(uid: int, gid: int = 0, *, additional_gids: Iterable[int] = ()) -> SpecOption:
    """Set the user and group by number, without looking anything up; earlier supplementary groups are forgotten.

    The group is always among the supplementary ones, or a program that drops it could get in where its group is shut
    out (CVE-2023-25173).

    Raises:
        InvalidArgumentError: An ID is not in 0 to 2**31 - 1.
    """
    others = [_check_id(other, what="additional gid") for other in additional_gids]
    _check_id(uid, what="uid")
    _check_id(gid, what="gid")

    def edit(spec: Spec) -> None:
        user = process_of(spec)["user"]
        user["uid"], user["gid"] = uid, gid
        user["additionalGids"] = _including(gid, others)

    return spec_option(edit)


def with_user_id(uid: int) -> SpecOption:
    """Set the user by number, with group 0 and no passwd lookup; `users.resolve_user` looks the group up.

    Raises:
        InvalidArgumentError: The ID is not in 0 to 2**31 - 1.
    """
    return with_user_ids(uid, 0)


def with_username(username: str) -> SpecOption:
    """Set the user by name, as Windows wants it; for Linux `users.resolve_user` makes numbers of names.

    Raises:
        InvalidArgumentError: The name holds a NUL character.
    """
    check_string(username, what="username")

    def edit(spec: Spec) -> None:
        process_of(spec)["user"]["username"] = username

    return spec_option(edit)


def with_appended_groups(*gids: int) -> SpecOption:
    """Add supplementary groups to those there are; the primary group is kept among them.

    Raises:
        InvalidArgumentError: An ID is not in 0 to 2**32 - 1.
    """
    for gid in gids:
        check_integer(gid, what="additional gid", minimum=0, maximum=_MAX_UINT32)

    def edit(spec: Spec) -> None:
        user = process_of(spec)["user"]
        user["additionalGids"] = _including(user["gid"], [*user.get("additionalGids", ()), *gids])

    return spec_option(edit)


def merge_env(base: Iterable[str], overrides: Iterable[str]) -> list[str]:
    """Lay environment entries over others: same names are replaced in place, new ones follow, a bare name unsets.

    Of entries of the same name in `base` the last one counts; which one a program would see depends on its C library.
    """
    merged: dict[str, str] = {}
    for entry in base:
        merged[entry.partition("=")[0]] = entry
    for entry in overrides:
        name, equals, _ = entry.partition("=")
        if equals:
            merged[name] = entry
        else:
            merged.pop(name, None)
    return [entry for entry in merged.values() if entry]


def env_entries(variables: Iterable[EnvSource]) -> list[str]:
    """Return environment entries as the spec has them, "NAME=value"; a bare name unsets.

    Raises:
        InvalidArgumentError: An entry has no name or a NUL, or is no string.
    """
    entries: list[str] = []
    for source in variables:
        if isinstance(source, Mapping):
            for name, value in source.items():
                if "=" in check_string(name, what="environment"):
                    raise InvalidArgumentError(f"environment: the name {name[:64]!a} holds '='")
                entries.append(name if value is None else f"{name}={value}")
        else:
            entries.extend([source] if isinstance(source, str) else source)
    for entry in strings(entries, what="environment"):
        if entry.startswith("="):
            raise InvalidArgumentError(f"environment: {entry[:64]!a} has no name")
    return entries


def _check_id(value: int, *, what: str) -> int:
    return check_integer(value, what=what, minimum=0, maximum=MAX_ID)


def _including(gid: int, others: list[int]) -> list[int]:
    return list(others) if gid in others else [gid, *others]
