"""Loading AppArmor profiles into the kernel of this machine, which must be the daemon's."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from containerd_py.errors import AppArmorError
from containerd_py.oci.apparmor import DEFAULT_APPARMOR_PROFILE, check_apparmor_name, default_apparmor_profile
from containerd_py.oci.security_options import with_apparmor_profile
from containerd_py.oci.spec_editing import SpecOption

# The module's own parameter, and what the kernel shows of it; the latter is absent in most containers.
ENABLED: Final = Path("/sys/module/apparmor/parameters/enabled")
SECURITY: Final = Path("/sys/kernel/security/apparmor")
_PARSER: Final = "apparmor_parser"
_PARSER_BOUND: Final = 60.0  # seconds
_SYSTEM_PATH: Final = "/usr/sbin:/sbin"


async def is_apparmor_enabled() -> bool:
    """Tell whether this machine's kernel confines programs by AppArmor profiles, and lets this program load some."""
    return await to_thread.run_sync(_is_enabled)


async def load_apparmor_profile(text: str) -> None:
    """Load a profile into this machine's kernel, in place of one of its name.

    Raises:
        AppArmorError: The kernel has no AppArmor, `apparmor_parser` is not installed, or it refuses the profile.
    """
    if not await is_apparmor_enabled():
        raise AppArmorError(
            "this machine's kernel has no AppArmor that profiles could be loaded into: leave the profile out, or boot "
            "a kernel that has it (lsm=apparmor) and mount securityfs at /sys/kernel/security"
        )
    parser = await to_thread.run_sync(_find_parser)
    if parser is None:
        raise AppArmorError(f"{_PARSER} is not here: install apparmor (Debian, Ubuntu: apt-get install apparmor)")
    command = [parser, "--replace", "--write-cache=no", "--skip-cache"]
    with anyio.move_on_after(_PARSER_BOUND):
        done = await anyio.run_process(command, input=text.encode(), stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            said = " ".join(done.stdout.decode(errors="replace").split())[:500]
            raise AppArmorError(f"{_PARSER} refuses the profile, exit code {done.returncode}: {said}")
        return
    raise AppArmorError(f"{_PARSER} took longer than {_PARSER_BOUND:g} s and was ended")


async def load_default_apparmor_profile(name: str = DEFAULT_APPARMOR_PROFILE) -> SpecOption:
    """Load the profile for containers unless it is loaded, and return the spec option that applies it.

    Raises:
        InvalidArgumentError: The name would need quotes.
        AppArmorError: As `load_apparmor_profile` does.
    """
    text = default_apparmor_profile(name)
    if not await to_thread.run_sync(partial(_is_loaded, name)):
        await load_apparmor_profile(text)
    return with_apparmor_profile(check_apparmor_name(name))


def _is_enabled() -> bool:
    try:
        return SECURITY.is_dir() and ENABLED.read_text().startswith("Y")
    except OSError:
        return False


def _is_loaded(name: str) -> bool:
    try:
        with (SECURITY / "profiles").open() as lines:
            return any(line.rpartition(" ")[0] == name for line in lines)
    except OSError:
        return False


def _find_parser() -> str | None:
    return shutil.which(_PARSER) or shutil.which(_PARSER, path=_SYSTEM_PATH)
