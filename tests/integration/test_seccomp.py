"""The default filter of system calls, seen from inside containers."""

import os
import sys
from pathlib import Path

import pytest

from containerd_py import Client, Image, RuncOptions
from containerd_py.errors import NotSupportedError
from containerd_py.oci.spec_options import (
    SpecOption,
    with_added_capabilities,
    with_privileged,
    with_seccomp_unconfined,
)

STATUS = ["/bin/cat", "/proc/self/status"]
HOST = {"destination": "/host", "type": "bind", "source": "/", "options": ["bind", "ro"]}
# Prints what becomes of calls that the filter judges.
PROBE = """
import ctypes, errno, os, socket, threading
libc = ctypes.CDLL(None, use_errno=True)
def word(number): return errno.errorcode.get(number, "done")
def opened(family, kind):
    try:
        socket.socket(family, kind).close()
    except OSError as error:
        return word(error.errno)
    return "done"
def called(number, *arguments):
    return word(ctypes.get_errno()) if libc.syscall(number, *arguments) < 0 else "done"
thread = threading.Thread(target=print, args=("thread", "done")); thread.start(); thread.join()
print("inet", opened(socket.AF_INET, socket.SOCK_STREAM))
print("unix", opened(socket.AF_UNIX, socket.SOCK_STREAM))
print("netlink", opened(socket.AF_NETLINK, socket.SOCK_RAW))
print("alg", opened(38, socket.SOCK_SEQPACKET))
print("vsock", opened(40, socket.SOCK_STREAM))
print("unshare", word(ctypes.get_errno()) if libc.unshare(0x04000000) < 0 else "done")
print("keyctl", called({"x86_64": 250}.get(os.uname().machine, 219), 0, -3, 0))
print("clone3", called(435, 0, 0))
"""


async def seccomp_of(client: Client, image: Image, *options: SpecOption) -> int:
    status = (await client.run(image, STATUS, spec_options=options)).stdout.decode()
    return int(next(line for line in status.splitlines() if line.startswith("Seccomp:")).split()[1])


async def probe(client: Client, image: Image, *options: SpecOption) -> dict[str, str]:
    python = os.path.realpath(sys.executable)
    args = ["/bin/busybox", "chroot", "/host", python, "-I", "-c", PROBE]
    printed = (await client.run(image, args, mounts=[HOST], spec_options=options)).stdout.decode()
    return dict(line.split() for line in printed.splitlines())


async def test_containers_are_filtered_by_default(client: Client, busybox: Image):
    """A container's processes, an exec's too, run under a filter; one option, or privilege, takes it away."""
    assert await seccomp_of(client, busybox) == 2
    assert await seccomp_of(client, busybox, with_seccomp_unconfined()) == 0
    assert await seccomp_of(client, busybox, with_privileged()) == 0
    async with client.open_run(busybox, ["/bin/sleep", "1000"]) as task:
        assert b"\nSeccomp:\t2\n" in (await task.run_exec(STATUS)).stdout


async def test_the_filter_forbids_and_allows(client: Client, busybox: Image):
    """Sockets of usual families and threads work; cryptography, hypervisors, keys and namespaces are refused."""
    assert await probe(client, busybox) == {
        "thread": "done",
        "inet": "done",
        "unix": "done",
        "netlink": "done",
        "alg": "EPERM",
        "vsock": "EPERM",
        "unshare": "EPERM",
        "keyctl": "EPERM",
        "clone3": "ENOSYS",
    }


async def test_the_filter_fits_the_capabilities(client: Client, busybox: Image):
    """What a capability makes possible is not filtered; what it does not, is, in every spec option's order."""
    seen = await probe(client, busybox, with_added_capabilities("SYS_ADMIN"))
    assert (seen["unshare"], seen["alg"], seen["keyctl"]) == ("done", "EPERM", "EPERM")
    assert seen["clone3"] not in {"ENOSYS", "EPERM"}
    unconfined = await probe(client, busybox, with_seccomp_unconfined())
    assert unconfined["alg"] != "EPERM"


async def test_ordinary_programs_work(client: Client, busybox: Image):
    """A shell's everyday work goes through the filter."""
    script = (
        "set -e; cd /tmp; mkdir d; echo text > d/f; ln -s f d/l; tar c d | gzip | gunzip | tar t; "
        "chown 1:1 d/f; chmod 600 d/f; mkfifo p; (echo through > p &); cat p; date > /dev/null; "
        "sleep 0.01; hostname; find / -xdev -name f; id; kill -0 $$; rm -r d"
    )
    completed = await client.run(busybox, ["/bin/sh", "-c", script])
    assert b"through" in completed.stdout
    assert completed.exit_code == 0


@pytest.mark.lines("2.1")
async def test_a_runtime_without_seccomp_is_told(client: Client, busybox: Image, tmp_path: Path):
    """A runtime built without libseccomp refuses the filter: the error says what to do, and unconfined it would run."""
    runtime = tmp_path / "runc-without"
    runtime.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "arguments = sys.argv[1:]\n"
        "spec = json.load(open('config.json')) if 'create' in arguments else {}\n"
        "if 'seccomp' in spec.get('linux', {}):\n"
        "    entry = {'level': 'error', 'msg': 'seccomp: config provided but seccomp not supported'}\n"
        "    open(arguments[arguments.index('--log') + 1], 'a').write(json.dumps(entry))\n"
        "    sys.exit(1)\n"
        "os.execvp('runc', ['runc', *arguments])\n"
    )
    runtime.chmod(0o755)
    options = RuncOptions(binary_name=str(runtime))
    with pytest.raises(NotSupportedError, match="with_seccomp_unconfined"):
        await client.run(busybox, ["/bin/true"], runtime=options)
    assert await client.list_containers() == []
    await client.run(busybox, ["/bin/true"], runtime=options, spec_options=[with_seccomp_unconfined()])
