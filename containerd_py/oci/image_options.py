"""Spec options that take over what an image wants. Pure; of the image only its configuration is known."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from typing import Final

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.default_spec import DEFAULT_PATH
from containerd_py.oci.image_spec import ImageConfig
from containerd_py.oci.process_options import merge_env
from containerd_py.oci.runtime_spec import Spec
from containerd_py.oci.signals import parse_signal
from containerd_py.oci.spec_editing import SpecOption, clean_path, process_of, spec_option, strings
from containerd_py.oci.users import parse_user

# A working directory there leads through the runtime's own open files to the host (CVE-2024-21626).
_FORBIDDEN_CWDS: Final = ("/proc", "/dev/fd")


def check_image_config(config: ImageConfig) -> None:
    """Refuse an image that no container can or should be made from, before anything is made.

    Raises:
        InvalidArgumentError: Its user, working directory, stop signal, environment or command cannot be used.
    """
    if not isinstance(config, ImageConfig):
        raise InvalidArgumentError(f"this must be an image's configuration, `await image.config()`, not {config!r}")
    parse_user(config.user)
    if config.stop_signal is not None:
        parse_signal(config.stop_signal)
    strings([config.env, config.entrypoint, config.cmd, config.cwd], what="image config")
    if config.platform is None or config.platform.os != "windows":
        _check_cwd(config.cwd)


def with_image_config(config: ImageConfig, args: Iterable[str] | None = None) -> SpecOption:
    """Take over the image's environment, command and working directory; its user is `users.with_user`'s business.

    What the spec's environment has already wins over the image's. `args` replace the image's arguments (Cmd) and follow
    its entrypoint; later options override everything. Source: the Go client (pkg/oci, WithImageConfigArgs).

    Raises:
        InvalidArgumentError: The image cannot be run (`check_image_config`), or, when applied, the spec has neither a
            Linux nor a Windows section.
    """
    check_image_config(config)
    given = strings([args or ()], what="process args")
    command = [*config.entrypoint, *(given or config.cmd)]
    escaped = config.args_escaped and (bool(config.entrypoint) or not given)

    def edit(spec: Spec) -> None:
        if "linux" in spec:
            _apply_to_linux(spec, config, command)
        elif "windows" in spec:
            _apply_to_windows(spec, config, command, escaped=escaped)
        else:
            raise InvalidArgumentError("the spec has neither a Linux nor a Windows section")

    return spec_option(edit)


def _check_cwd(cwd: str) -> None:
    cleaned = clean_path(cwd or "/")
    if not cleaned.startswith("/"):
        raise InvalidArgumentError(f"image config: the working directory {cwd[:160]!a} is not absolute")
    if any(cleaned == forbidden or cleaned.startswith(f"{forbidden}/") for forbidden in _FORBIDDEN_CWDS):
        raise InvalidArgumentError(f"image config: the working directory {cwd[:160]!a} may lead to the host's files")


def _apply_to_linux(spec: Spec, config: ImageConfig, command: list[str]) -> None:
    _check_cwd(config.cwd)
    process = process_of(spec)
    process["env"] = merge_env(config.env or (DEFAULT_PATH,), process.get("env", ()))
    process["args"] = list(command)
    # Cleaned only where it climbs: then it must be the path that was checked.
    process["cwd"] = clean_path(config.cwd) if ".." in config.cwd else config.cwd or "/"


def _apply_to_windows(spec: Spec, config: ImageConfig, command: list[str], *, escaped: bool) -> None:
    if not command:
        raise InvalidArgumentError("image config: neither the image nor the caller says what to run")
    process = process_of(spec)
    process["env"] = merge_env(config.env, process.get("env", ()))
    if escaped:  # Docker has put the whole escaped command line into the first element
        process["commandLine"] = " ".join([command[0], *map(_escape, command[1:])])
        process.pop("args", None)
    else:
        process["args"] = list(command)
        process.pop("commandLine", None)
    process["cwd"] = config.cwd
    process["user"]["username"] = config.user


def _escape(argument: str) -> str:
    return subprocess.list2cmdline([argument])
