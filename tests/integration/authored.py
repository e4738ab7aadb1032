"""What tests of new images build them from."""

from __future__ import annotations

import gzip
from pathlib import Path

from containerd_py import Descriptor
from containerd_py.testing.images import ImageLayout, busybox_layout

EPOCH = 1_000_000_000  # 2001-09-09


def busybox_tar(folder: Path) -> Path:
    """Write busybox's file system as a plain tar archive."""
    layout = busybox_layout(folder / "layout")
    (_, layer) = layout.blobs_of(layout.target)
    path = folder / "busybox.tar"
    path.write_bytes(gzip.decompress(layout.blob(layer.digest).read_bytes()))
    return path


def application(folder: Path) -> Path:
    """Make a directory with a file, a script, a link and a second name for the file."""
    root = folder / "application"
    (root / "data").mkdir(parents=True)
    (root / "data" / "greeting").write_text("hello\n")
    (root / "greet").write_text("#!/bin/sh\ncat /opt/app/data/greeting\n")
    (root / "greet").chmod(0o755)
    (root / "link").symlink_to("data/greeting")
    (root / "same").hardlink_to(root / "data" / "greeting")
    return root


def documents(layout: ImageLayout) -> list[Descriptor]:
    """Return everything of a layout's single image."""
    return [layout.target, *layout.blobs_of(layout.target)]
