"""Folders as roots of trees, and archives packed from them and unpacked into them, without a daemon."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from containerd_py.oci.user_namespaces import HOST_IDS
from containerd_py.trees.packing import Packer, PackOptions
from containerd_py.trees.roots import Root, opened_destination
from containerd_py.trees.unpacking import Unpacker, UnpackOptions


@contextmanager
def root_at(folder: Path, *, is_local: bool = False, ids=HOST_IDS) -> Iterator[Root]:
    """Take a folder for the root of a container, or for that of this machine."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Root(descriptor=descriptor, is_local=is_local, ids=ids)
    finally:
        os.close(descriptor)


def pack(folder: Path, path: str, name: str, *, ids=HOST_IDS, **options) -> bytes:
    with root_at(folder, ids=ids) as root, root.opened(path) as descriptor:
        return b"".join(Packer(root, descriptor, name, PackOptions(**options)).pieces())


def unpack(data: bytes, folder: Path, path: str = "/", *, step: int = 1 << 20, is_local=False, ids=HOST_IDS, **options):
    with ExitStack() as opened:
        root = opened.enter_context(root_at(folder, is_local=is_local, ids=ids))
        destination = opened.enter_context(opened_destination(root, path))
        unpacker = Unpacker(destination, UnpackOptions(**options))
        opened.callback(unpacker.close)
        for start in range(0, len(data), step):
            unpacker.feed(data[start : start + step])
        unpacker.finish()
