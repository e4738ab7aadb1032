"""A user namespace with given maps, as a descriptor: what id-mapped mounts are made with. Calls block."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from containerd_py.errors import FailedPreconditionError
from containerd_py.oci.user_namespaces import UserNamespace, as_map

# Only a process of its own can enter a user namespace: a thread of a program cannot. It waits until it is let go.
_HOLDER: Final = """
import ctypes, sys
if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
    sys.exit(str(ctypes.get_errno()))
print(flush=True)
sys.stdin.read()
"""


def open_user_namespace(ids: UserNamespace) -> int:
    """Return a descriptor of a new user namespace with these maps; nothing lives in it.

    Raises:
        FailedPreconditionError: This user, or this machine, may not have user namespaces.
        OSError: The kernel refuses the maps.
    """
    command = [sys.executable, "-I", "-S", "-c", _HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as holder:
        assert holder.stdin is not None, "it is a pipe"
        assert holder.stdout is not None, "it is a pipe"
        try:
            if not holder.stdout.readline():
                raise FailedPreconditionError("this machine lets nobody have user namespaces: see user_namespaces(7)")
            place = Path(f"/proc/{holder.pid}")
            (place / "uid_map").write_text(as_map(ids.uids))
            (place / "gid_map").write_text(as_map(ids.gids))
            return os.open(place / "ns" / "user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            holder.stdin.close()
