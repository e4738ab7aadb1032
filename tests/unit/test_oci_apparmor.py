"""The AppArmor profile for containers: what it denies, path by path, and how it is loaded, or why not."""

import re
import stat
from pathlib import Path

import pytest

from containerd_py._flows import apparmor as loading
from containerd_py.errors import AppArmorError, InvalidArgumentError
from containerd_py.oci.apparmor import check_apparmor_name, default_apparmor_profile
from containerd_py.oci.default_spec import default_spec

DENIED = """
/proc/sysrq-trigger /proc/kcore /proc/mem /proc/version /proc/anything /proc/sys/vm/swappiness
/proc/sys/kernel/x /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kern/a
/proc/sys/kernels/a /proc/sys/fs/binfmt_misc/r /proc/sys/kernel/sh /proc/sys/kernel/seccomp/a /proc/acpi/a
/proc/bus/pci/00 /proc/scsi/scsi /proc/tty/a /proc/irq/1/a /proc/thread/a /proc/thread-selfish/a
/proc/selfish/a /proc/sysvipc/a /proc/systems/a /sys/kernel/debug/a /sys/kernel/security/apparmor/.load
/sys/firmware/efi/a /sys/devices/virtual/powercap/a /sys/module/a /sys/f/a /sys/fs/bpf/a /sys/fs/cgroups/a
/sys/fs/cgrou/a /sys/fs/selinux/enforce
"""
ALLOWED = """
/proc/1/oom_score_adj /proc/self/attr/exec /proc/thread-self/comm /proc/4711/task/1/comm
/proc/sys/kernel/shmmax /proc/sys/kernel/shm_rmid_forced /sys/fs/cgroup/memory/a /tmp/a /etc/passwd /dev/shm/a
/process/a /system/a
"""
GLOBS = {"{,/**}": "(?:/.+)?", "/**": "/.+", "*": "[^/]*"}


def denied_to_write(path: str) -> bool:
    """Tell whether a rule of the profile denies writing; the test's own reading of AppArmor's globs."""
    for rule in re.findall(r"^ +deny (/\S+) (\S+),$", default_apparmor_profile(), re.MULTILINE):
        if "w" not in rule[1]:
            continue
        parts = re.split(r"(\{,/\*\*\}|/\*\*|\*|\[[^\]]*\])", rule[0])
        pattern = "".join(GLOBS.get(part, part if part.startswith("[") else re.escape(part)) for part in parts)
        if re.fullmatch(pattern, path):
            return True
    return False


@pytest.mark.parametrize(
    "path",
    DENIED.split(),
)
def test_denied_paths(path: str):
    """What reaches out of a container cannot be written."""
    assert denied_to_write(path)


@pytest.mark.parametrize(
    "path",
    ALLOWED.split(),
)
def test_paths_left_alone(path: str):
    """What is the container's own is left to it."""
    assert not denied_to_write(path)


def test_names_need_no_quotes():
    """A name that would need quotes, or be a rule of its own, is refused."""
    assert check_apparmor_name("docker-default") == "docker-default"
    for name in ("", "-a", "a b", "a\n", "a{", "a" * 129, 'a"'):
        with pytest.raises(InvalidArgumentError):
            default_apparmor_profile(name)
    assert "peer=mine," in default_apparmor_profile("mine")


async def test_a_kernel_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where the kernel has no AppArmor, loading says so and what to do; asking says no."""
    monkeypatch.setattr(loading, "SECURITY", tmp_path / "none")
    assert not await loading.is_apparmor_enabled()
    with pytest.raises(AppArmorError, match="kernel has no AppArmor"):
        await loading.load_default_apparmor_profile()


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend a kernel with AppArmor, and a parser that asks the real one about syntax and notes what it was given."""
    (tmp_path / "security").mkdir()
    (tmp_path / "security" / "profiles").write_text("loaded (enforce)\nwith space (complain)\n")
    (tmp_path / "enabled").write_text("Y\n")
    monkeypatch.setattr(loading, "SECURITY", tmp_path / "security")
    monkeypatch.setattr(loading, "ENABLED", tmp_path / "enabled")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/bin")
    parser = tmp_path / "apparmor_parser"
    parser.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/args\ntee {tmp_path}/given | /usr/sbin/apparmor_parser -QK\n')
    parser.chmod(parser.stat().st_mode | stat.S_IXUSR)
    return tmp_path


async def test_a_profile_is_loaded_once(kernel: Path):
    """The real parser takes the profile's syntax; the option names it; one that is loaded is not loaded again."""
    option = await loading.load_default_apparmor_profile("mine")
    assert option(default_spec(namespace="n", id="c"))["process"]["apparmorProfile"] == "mine"
    assert (kernel / "given").read_text() == default_apparmor_profile("mine")
    assert "--replace" in (kernel / "args").read_text()
    (kernel / "given").unlink()
    await loading.load_default_apparmor_profile("loaded")
    assert not (kernel / "given").exists()


async def test_a_profile_that_is_refused(kernel: Path, monkeypatch: pytest.MonkeyPatch):
    """What the parser says is in the error, and a missing parser says what to install."""
    with pytest.raises(AppArmorError, match="syntax error"):
        await loading.load_apparmor_profile("profile broken {")
    (kernel / "apparmor_parser").unlink()
    monkeypatch.setenv("PATH", str(kernel))
    monkeypatch.setattr(loading, "_SYSTEM_PATH", "")
    with pytest.raises(AppArmorError, match="apt-get install apparmor"):
        await loading.load_apparmor_profile("")
