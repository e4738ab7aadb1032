"""CDI devices looked up off the event loop: what is read of the host becomes a pure spec option."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from anyio import to_thread

from containerd_py.oci.cdi_edits import resolve, with_edits
from containerd_py.oci.cdi_registry import CDI_DIRECTORIES, CDIRegistry, read_cdi_registry
from containerd_py.oci.spec_editing import SpecOption

Directories = Sequence[str | os.PathLike[str]]


async def load_cdi_registry(directories: Directories = CDI_DIRECTORIES) -> CDIRegistry:
    """Read which devices this host offers by the Container Device Interface, from directories in rising priority.

    YAML files need the extra `cdi`. A file that cannot be read is one of the registry's `problems`.
    """
    return await to_thread.run_sync(partial(read_cdi_registry, directories))


async def find_cdi_devices(*names: str, directories: Directories = CDI_DIRECTORIES) -> SpecOption:
    """Return the spec option that gives a container these devices, named "vendor.example/class=name".

    What they need is looked up now, on this machine, which must be the daemon's: device nodes, and what the
    specifications in the directories say of environment, mounts, hooks, groups and more.

    Raises:
        InvalidArgumentError: A name is no qualified device name, or two specifications of one directory have it.
        NotFoundError: There is no such device, or the host lacks its node; the message says what there is.
    """
    return await to_thread.run_sync(partial(_find, names, directories))


def _find(names: Sequence[str], directories: Directories) -> SpecOption:
    return with_edits(resolve(read_cdi_registry(directories).edits(names)))
