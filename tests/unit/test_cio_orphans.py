"""Folders with FIFOs that somebody may have left: recognised by name, in paths and in what processes have open."""

import os
import subprocess
from pathlib import Path

from containerd_py.cio.fifo_orphans import folders_of, folders_open_in
from containerd_py.cio.fifos import open_fifos


def test_folders_are_recognised_in_paths():
    """Only whole paths of files in folders that are named as ours are count: anybody may have written them."""
    paths = ["/run/fifo/containerd-py-1/4-stdin", "/run/fifo/containerd-py-1/4-stdout", "/srv/containerd-py-2/x"]
    others = ["", "/dev/null", "binary:///bin/log", "containerd-py-3/x", "/run/containerd-py-4", "/containerd-py-5/a/b"]
    assert folders_of([*paths, *others]) == {"/run/fifo/containerd-py-1", "/srv/containerd-py-2"}


async def test_folders_are_recognised_in_what_is_open(tmp_path: Path):
    """What a process has open tells the folder; processes that have ended tell nothing."""
    with subprocess.Popen(["/bin/true"]) as process:
        ended = process.pid
    async with open_fifos(directory=tmp_path):
        [folder] = tmp_path.iterdir()
        assert str(folder) in folders_open_in([ended, os.getpid()])
        assert folders_open_in([ended]) == set()
    assert str(folder) not in folders_open_in([os.getpid()])
