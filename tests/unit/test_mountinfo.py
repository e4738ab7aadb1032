"""Mount points as the kernel tells them, whatever they are called."""

from __future__ import annotations

import os

import pytest

from containerd_py._daemon.mountinfo import mount_points, parse_mount_points


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (rb"/a\040b\011c\012d\134e", "/a b\tc\nd\\e"),
        (b"/a\rb\x0bc\x0cd", "/a\rb\x0bc\x0cd"),
        ("/a\u2028b\x85c\xa0d".encode(), "/a\u2028b\x85c\xa0d"),
        (b"/a\xff", os.fsdecode(b"/a\xff")),
    ],
)
def test_names_are_whole(written: bytes, name: str):
    """What the kernel escapes is read back, and what it does not escape ends no name."""
    lines = [b"22 1 0:20 / / rw - ext4 /dev/vda rw", b"30 22 0:26 / " + written + b" rw shared:7 - tmpfs tmpfs rw", b""]
    assert parse_mount_points(b"\n".join(lines)) == ["/", name]


def test_this_process_sees_proc():
    """What is mounted here is found: /proc always is."""
    assert "/proc" in mount_points()
