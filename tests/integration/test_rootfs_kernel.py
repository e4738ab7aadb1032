"""What `RootFS` reads without mounting is what the kernel shows: under chroot for links, under overlayfs for layers."""

import itertools
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from containerd_py.errors import InvalidArgumentError, NotFoundError
from containerd_py.oci.rootfs import open_rootfs
from containerd_py.types import Mount

# Reads paths under a root of their own, one JSON line each, and tells their content or why there is none.
READER = """
import errno, json, os, sys
outside = os.open("/", os.O_RDONLY)
for line in sys.stdin:
    root, paths = json.loads(line)
    os.chroot(root)
    os.chdir("/")
    answers = []
    for path in paths:
        try:
            with open(path) as file:
                answers.append(file.read())
        except OSError as error:
            answers.append(-error.errno)
    os.fchdir(outside)
    os.chroot(".")
    print(json.dumps(answers), flush=True)
"""
# Our errors, and the kernel's in the same places.
MISSING = {-2, -20}  # ENOENT, ENOTDIR
UNUSABLE = {-21, -40, -6}  # EISDIR, ELOOP, ENXIO


class KernelReader:
    """A child process that reads as the kernel resolves."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self.child = child

    def read(self, root: Path, paths: list[str]) -> list[object]:
        self.child.stdin.write(json.dumps([str(root), paths]) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelReader]:
    """One reader for all examples of this module."""
    with subprocess.Popen(
        [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        yield KernelReader(child)
        child.stdin.close()


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs: overlayfs takes no overlay as its upper directory, and a test machine's /tmp may be one."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def ours(mount: Mount, path: str) -> object:
    try:
        return open_rootfs([mount]).read_file(path).decode()
    except NotFoundError:
        return MISSING
    except InvalidArgumentError:
        return UNUSABLE


def agree(mine: object, kernels: object) -> bool:
    return kernels in mine if isinstance(mine, set) else mine == kernels


names = st.sampled_from(["a", "b", "x", "y", "d", "..", ".", ""])
paths = st.lists(names, min_size=1, max_size=6).map("/".join).filter(bool)
links = st.dictionaries(st.sampled_from(["a", "b", "x/a", "x/b", "x/y/a", "x/y/b"]), paths, max_size=6)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(links, st.lists(paths, min_size=1, max_size=5))
def test_links_lead_where_chroot_leads(tmp_path: Path, kernel: KernelReader, links: dict[str, str], wanted: list[str]):
    """For every tree of links and every path, the outcome is the kernel's under chroot."""
    root = tmp_path / os.urandom(8).hex()
    (root / "x/y").mkdir(parents=True)
    for place in ("d", "x/d", "x/y/d"):
        (root / place).write_text(place)
    for place, target in links.items():
        (root / place).symlink_to(target)
    mount = Mount(type="bind", source=str(root))
    for path, kernels in zip(wanted, kernel.read(root, ["/" + path for path in wanted]), strict=True):
        assert agree(ours(mount, path), kernels), (path, kernels)
    shutil.rmtree(root)


# A layer is a tree: text is a leaf, a mapping is a directory, opaque where it says so.
NAMES = ["a", "b"]
leaves = st.sampled_from(["file", "whiteout", "link to a", "link to /b/a"])
opacity = st.fixed_dictionaries({}, optional={".opaque": st.just("yes")})


def directories(children: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    inside = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, children))
    return st.builds(lambda marks, entries: marks | entries, opacity, inside)


layers = st.lists(directories(directories(directories(leaves) | leaves) | leaves), min_size=2, max_size=4)
ALL_PATHS = ["/".join(names) for depth in (1, 2, 3, 4) for names in itertools.product(NAMES, repeat=depth)]


def make_tree(path: Path, tree: object, content: str) -> None:
    match tree:
        case dict():
            path.mkdir()
            for name in tree.keys() & set(NAMES):
                make_tree(path / name, tree[name], f"{content}/{name}")
            if ".opaque" in tree:
                os.setxattr(path, "trusted.overlay.opaque", b"y")
        case "file":
            path.write_text(content)
        case "whiteout":
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        case str(link):
            path.symlink_to(link.removeprefix("link to "))


@contextmanager
def mounted(target: Path, options: str) -> Iterator[None]:
    target.mkdir()
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", target], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([{"a": {}}, {"a": "file"}, {"a": {"b": "file"}}])  # a file in the middle cuts the lowest directory off
@given(layers)
def test_layers_look_as_overlayfs_shows_them(scratch: Path, kernel: KernelReader, layers: list[object]):
    """For every stack of layers with whiteouts, opaque directories and links, the outcome is the mounted one."""
    work = scratch / os.urandom(8).hex()
    work.mkdir()
    for number, layer in enumerate(layers):
        make_tree(work / str(number), layer, str(number))
    (work / "work").mkdir()
    upper, *lower = (str(work / str(number)) for number in range(len(layers)))
    options = ["index=off", f"upperdir={upper}", f"workdir={work / 'work'}", "lowerdir=" + ":".join(lower)]
    mount = Mount(type="overlay", source="overlay", options=tuple(options))
    with mounted(work / "merged", ",".join(options)):
        shown = kernel.read(work / "merged", ALL_PATHS)
    for path, kernels in zip(ALL_PATHS, shown, strict=True):
        assert agree(ours(mount, path), kernels), (path, kernels, layers)
    shutil.rmtree(work)
