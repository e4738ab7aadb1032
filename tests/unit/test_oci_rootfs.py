"""Files of a snapshot are read without mounting, never from outside, and never anything but regular files."""

import os
import stat
import threading
from pathlib import Path

import pytest

from containerd_py.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, PermissionDeniedError
from containerd_py.oci.rootfs import MAX_PATH_DEPTH, RootFS, open_rootfs
from containerd_py.types import Mount

OPAQUE = "trusted.overlay.opaque"


def bind(path: Path) -> RootFS:
    return open_rootfs([Mount(type="bind", source=str(path), options=("rbind", "ro"))])


def overlay(*layers: Path, userxattr: bool = False) -> RootFS:
    """Lay directories over each other, the topmost first, as the overlayfs snapshotter's mounts say it."""
    upper, *lower = layers
    options = ["index=off", f"upperdir={upper}", "workdir=/nowhere", "lowerdir=" + ":".join(map(str, lower))]
    if userxattr:
        options.append("userxattr")
    return open_rootfs([Mount(type="overlay", source="overlay", options=tuple(options))])


def make_layer(path: Path, **entries: str | bytes) -> Path:
    """Make a directory tree; keys are paths with "__" for "/"; bytes are contents, text is a link's target."""
    for name, entry in entries.items():
        place = path / name.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, bytes):
            place.write_bytes(entry)
        else:
            place.symlink_to(entry)
    path.mkdir(exist_ok=True)
    return path


def whiteout(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


@pytest.fixture(autouse=True)
def no_descriptor_stays_open():
    """Every test leaves as many descriptors as it found."""
    before = set(Path("/proc/self/fd").iterdir())
    yield
    assert set(Path("/proc/self/fd").iterdir()) == before


# ── which mounts ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_overlay_layers_in_order():
    """The upper directory lies on top, then the lower ones from left to right; a view has no upper directory."""
    mount = Mount(type="overlay", source="overlay", options=("workdir=/w", "upperdir=/u", "lowerdir=/b:/a"))
    assert open_rootfs([mount]).layers == ("/u", "/b", "/a")
    view = Mount(type="overlay", source="overlay", options=("lowerdir=/b:/a",))
    assert open_rootfs([view]).layers == ("/b", "/a")


def test_the_last_mount_is_seen():
    """All mounts of a snapshot go to the same place."""
    mounts = [Mount(type="bind", source="/a"), Mount(type="rbind", source="/b")]
    assert open_rootfs(mounts).layers == ("/b",)


@pytest.mark.parametrize(
    "mounts",
    [
        [],
        [Mount(type="erofs", source="/a")],
        [Mount(type="format/overlay", source="overlay")],
        [Mount(type="bind", source="relative")],
        [Mount(type="bind", source="")],
        [Mount(type="bind", source="/a", target="/sub")],
        [Mount(type="overlay", source="overlay", options=("lowerdir=/a::/b",))],
        [Mount(type="overlay", source="overlay", options=("lowerdir=l/1:l/2",))],
    ],
)
def test_mounts_that_cannot_be_read(mounts: list[Mount]):
    """What has to be mounted to be read is said to be so."""
    with pytest.raises(FailedPreconditionError):
        open_rootfs(mounts)


def test_snapshot_of_another_machine(tmp_path: Path):
    """A directory that is not here is not an image without passwd."""
    with pytest.raises(FailedPreconditionError, match="not on this machine"):
        bind(tmp_path / "missing").read_file("etc/passwd")
    (tmp_path / "file").touch()
    with pytest.raises(FailedPreconditionError, match="not on this machine"):
        bind(tmp_path / "file").read_file("etc/passwd")


# ── plain reading ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path", ["etc/passwd", "/etc/passwd", "//etc/./passwd", "etc/../etc/passwd", "../../etc/passwd"]
)
def test_read(tmp_path: Path, path: str):
    """Paths start at the root and never rise above it."""
    assert bind(make_layer(tmp_path / "a", etc__passwd=b"x")).read_file(path) == b"x"


@pytest.mark.parametrize(
    "path",
    ["etc/group", "passwd", "etc/passwd/x", "etc/x/passwd", "etc/passwd/../passwd", "etc/passwd/", "etc/passwd/."],
)
def test_missing(tmp_path: Path, path: str):
    """What is not there is not found; a file is no directory."""
    with pytest.raises(NotFoundError, match="does not exist"):
        bind(make_layer(tmp_path / "a", etc__passwd=b"x")).read_file(path)


@pytest.mark.parametrize("path", ["", "/", ".", "etc", "etc/..", "etc/"])
def test_directories(tmp_path: Path, path: str):
    """A directory is no file."""
    with pytest.raises(InvalidArgumentError, match=r"not a regular file|is a directory"):
        bind(make_layer(tmp_path / "a", etc__passwd=b"x")).read_file(path)


def test_nul(tmp_path: Path):
    """A NUL in a path is refused, not cut at."""
    with pytest.raises(InvalidArgumentError, match="NUL"):
        bind(tmp_path).read_file("etc/passwd\0x")


@pytest.mark.parametrize("size", [0, 9, 10, 11])
def test_limit(tmp_path: Path, size: int):
    """N-1 and N bytes are read, N+1 are not."""
    rootfs = bind(make_layer(tmp_path / "a", file=b"x" * size))
    if size > 10:
        with pytest.raises(InvalidArgumentError, match="larger than 10 bytes"):
            rootfs.read_file("file", 10)
    else:
        assert rootfs.read_file("file", 10) == b"x" * size


def test_a_sparse_giant_costs_nothing(tmp_path: Path):
    """A file of 8 TiB is refused after its first 10 MiB at most."""
    with (tmp_path / "file").open("wb") as file:
        file.truncate(8 << 40)
    with pytest.raises(InvalidArgumentError, match="larger than 10485760 bytes"):
        bind(tmp_path).read_file("file")


def test_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Who may not read the snapshot is told so."""
    layer = make_layer(tmp_path / "a", file=b"x")
    open_it = os.open

    def refuse(path: str, *args: int, **options: int) -> int:
        if path == "file":
            raise PermissionError(13, "Permission denied")
        return open_it(path, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionDeniedError, match=f"cannot be read by user {os.geteuid()}"):
        bind(layer).read_file("file")


# ── links ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "target",
    [
        "real",
        "./real",
        "../etc/real",
        "/etc/real",
        "//etc//./real",
        "../../../../etc/real",
        "/../../etc/real",
        "../usr/../etc/real",
        "../link-to-etc/real",
        "/link-to-etc/real",
        "../abs-to-etc/real",
        "chain1",
    ],
)
def test_links_inside(tmp_path: Path, target: str):
    """Links are followed as they would be with the snapshot as the root, wherever they point."""
    layer = make_layer(
        tmp_path / "a",
        etc__real=b"x",
        etc__passwd=target,
        usr__file=b"",
        **{"link-to-etc": "etc", "abs-to-etc": "/etc", "etc__chain1": "chain2", "etc__chain2": "/usr/../etc/chain3"},
        etc__chain3="real",
    )
    assert bind(layer).read_file("etc/passwd") == b"x"


@pytest.mark.parametrize(
    "target", ["/secret", "../../secret", "../../../../../../../../../etc/hostname", "/proc/self/environ", "{outside}"]
)
def test_links_never_lead_outside(tmp_path: Path, target: str):
    """A link to the host's files leads to the same path inside the snapshot, where there is nothing."""
    (tmp_path / "secret").write_text("host")
    layer = make_layer(tmp_path / "a", etc__passwd=target.format(outside=tmp_path / "secret"))
    with pytest.raises(NotFoundError):
        bind(layer).read_file("etc/passwd")


def test_a_linked_directory_does_not_lead_outside(tmp_path: Path):
    """Neither does a link in the middle of a path."""
    (tmp_path / "host/etc").mkdir(parents=True)
    (tmp_path / "host/etc/passwd").write_text("host")
    layer = make_layer(tmp_path / "a", etc=str(tmp_path / "host/etc"))
    with pytest.raises(NotFoundError):
        bind(layer).read_file("etc/passwd")


@pytest.mark.parametrize("links", [40, 41])
def test_link_limit(tmp_path: Path, links: int):
    """40 links are followed, as Linux does, 41 are not."""
    layer = make_layer(tmp_path / "a", file=b"x", **{f"l{number}": f"l{number - 1}" for number in range(2, links + 1)})
    (layer / "l1").symlink_to("file")
    if links > 40:
        with pytest.raises(InvalidArgumentError, match="more than 40 links"):
            bind(layer).read_file(f"l{links}")
    else:
        assert bind(layer).read_file(f"l{links}") == b"x"


@pytest.mark.parametrize("target", ["passwd", "/etc/passwd", "../etc/passwd", "./passwd/x"])
def test_circles(tmp_path: Path, target: str):
    """Circles end."""
    with pytest.raises(InvalidArgumentError, match="links"):
        bind(make_layer(tmp_path / "a", etc__passwd=target)).read_file("etc/passwd")


@pytest.mark.parametrize(
    "target", ["d/../" * 800 + "real", "d/" * 40 + "real", "x" * 255 + "/../real", "/".join(["y" * 250] * 9)]
)
def test_costly_links(tmp_path: Path, target: str):
    """A link's path is bounded in steps, depth and length of names, and the error is ours."""
    layer = make_layer(tmp_path / "a", etc__passwd=target, etc__real=b"")
    (layer / "etc/d").symlink_to(".")
    with pytest.raises((InvalidArgumentError, NotFoundError)):
        bind(layer).read_file("etc/passwd")


@pytest.mark.parametrize("depth", [MAX_PATH_DEPTH - 1, MAX_PATH_DEPTH, MAX_PATH_DEPTH + 1])
def test_depth_limit(tmp_path: Path, depth: int):
    """Honest paths are short."""
    path = "/".join(["d"] * (depth - 1) + ["file"])
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_bytes(b"x")
    if depth > MAX_PATH_DEPTH:
        with pytest.raises(InvalidArgumentError, match="too many directories"):
            bind(tmp_path).read_file(path)
    else:
        assert bind(tmp_path).read_file(path) == b"x"


def test_too_long_a_name(tmp_path: Path):
    """A name no file system takes is an error of ours."""
    with pytest.raises(InvalidArgumentError, match="File name too long"):
        bind(tmp_path).read_file("x" * 300)


# ── what is no regular file ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
def test_special_files(tmp_path: Path, kind: int):
    """FIFOs do not block, sockets and devices are never opened."""
    os.mknod(tmp_path / "file", kind | 0o666, os.makedev(1, 5) if kind != stat.S_IFBLK else os.makedev(7, 255))
    with pytest.raises(InvalidArgumentError, match="not a regular file"):
        bind(tmp_path).read_file("file")


def test_a_file_swapped_while_reading(tmp_path: Path):
    """A running container that swaps file, link and FIFO under our hands gets nothing but typed errors out of us."""
    (tmp_path / "secret").write_text("host")
    layer = make_layer(tmp_path / "a", etc__passwd=b"image")
    rootfs, stop = bind(layer), threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for make in (
                lambda path: path.symlink_to(tmp_path / "secret"),
                os.mkfifo,
                lambda path: path.write_text("image"),
            ):
                make(layer / "etc/new")
                (layer / "etc/new").rename(layer / "etc/passwd")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        seen = set()
        for _ in range(2000):
            try:
                seen.add(rootfs.read_file("etc/passwd"))
            except (InvalidArgumentError, NotFoundError) as error:
                seen.add(type(error).__name__)
    finally:
        stop.set()
        swapper.join()
    assert seen <= {b"image", b"", "InvalidArgumentError", "NotFoundError"}


# ── layers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_upper_wins(tmp_path: Path):
    """A file above hides the one below; files of all layers are seen."""
    top = make_layer(tmp_path / "t", etc__a=b"top")
    middle = make_layer(tmp_path / "m", etc__a=b"middle", etc__b=b"middle")
    bottom = make_layer(tmp_path / "b", etc__b=b"bottom", etc__c=b"bottom")
    rootfs = overlay(top, middle, bottom)
    assert [rootfs.read_file(f"etc/{name}") for name in "abc"] == [b"top", b"middle", b"bottom"]


@pytest.mark.parametrize("place", ["etc/passwd", "etc"])
def test_whiteout(tmp_path: Path, place: str):
    """A file or directory removed above is gone, whatever lies below."""
    top = make_layer(tmp_path / "t")
    whiteout(top / place)
    with pytest.raises(NotFoundError):
        overlay(top, make_layer(tmp_path / "b", etc__passwd=b"x")).read_file("etc/passwd")


def test_whiteout_in_the_middle(tmp_path: Path):
    """A directory removed in the middle and made again above shows nothing of what was below."""
    top = make_layer(tmp_path / "t", etc__new=b"new")
    middle = make_layer(tmp_path / "m")
    whiteout(middle / "etc")
    rootfs = overlay(top, middle, make_layer(tmp_path / "b", etc__old=b"old"))
    assert rootfs.read_file("etc/new") == b"new"
    with pytest.raises(NotFoundError):
        rootfs.read_file("etc/old")


def test_opaque_directory(tmp_path: Path):
    """An opaque directory hides what is below it, at any depth, but not itself."""
    top = make_layer(tmp_path / "t", a__etc__new=b"new")
    os.setxattr(top / "a", OPAQUE, b"y")
    rootfs = overlay(top, make_layer(tmp_path / "b", a__etc__old=b"old", b__etc__old=b"old"))
    assert rootfs.read_file("a/etc/new") == b"new"
    assert rootfs.read_file("b/etc/old") == b"old"
    with pytest.raises(NotFoundError):
        rootfs.read_file("a/etc/old")


@pytest.mark.parametrize(("attribute", "userxattr"), [("user.overlay.opaque", True), (OPAQUE, False)])
def test_opaque_by_the_attributes_of_the_mount(tmp_path: Path, attribute: str, userxattr: bool):
    """In a user namespace overlayfs notes things in user attributes, and only there."""
    top = make_layer(tmp_path / "t", etc__new=b"new")
    os.setxattr(top / "etc", attribute, b"y")
    bottom = make_layer(tmp_path / "b", etc__old=b"old")
    with pytest.raises(NotFoundError):
        overlay(top, bottom, userxattr=userxattr).read_file("etc/old")
    assert overlay(top, bottom, userxattr=not userxattr).read_file("etc/old") == b"old"


def test_file_over_directory_and_back(tmp_path: Path):
    """A file or link in place of a directory hides the directory, and the reverse."""
    bottom = make_layer(tmp_path / "b", a__file=b"x", b=b"x", c__file=b"x")
    top = make_layer(tmp_path / "t", a=b"y", b__file=b"y", c="b")
    rootfs = overlay(top, bottom)
    assert rootfs.read_file("a") == b"y"
    assert rootfs.read_file("b/file") == b"y"
    assert rootfs.read_file("c/file") == b"y"
    with pytest.raises(NotFoundError):
        rootfs.read_file("a/file")


def test_file_between_directories(tmp_path: Path):
    """A file in the middle cuts a directory above off from the one below."""
    layers = (
        make_layer(tmp_path / "t", d__new=b"1"),
        make_layer(tmp_path / "m", d=b""),
        make_layer(tmp_path / "b", d__old=b""),
    )
    with pytest.raises(NotFoundError):
        overlay(*layers).read_file("d/old")
    assert overlay(*layers).read_file("d/new") == b"1"


def test_links_across_layers(tmp_path: Path):
    """A link in one layer leads to files of another."""
    top = make_layer(tmp_path / "t", etc__passwd="../store/passwd")
    bottom = make_layer(tmp_path / "b", store="/deep", deep__passwd=b"x")
    assert overlay(top, bottom).read_file("etc/passwd") == b"x"


@pytest.mark.parametrize("attribute", ["trusted.overlay.metacopy", "trusted.overlay.redirect"])
def test_what_only_the_kernel_can_join(tmp_path: Path, attribute: str):
    """Moved directories and files without their content are not guessed at."""
    top = make_layer(tmp_path / "t", etc__passwd=b"")
    os.setxattr(top / ("etc/passwd" if attribute.endswith("metacopy") else "etc"), attribute, b"x")
    with pytest.raises(FailedPreconditionError, match="has to be mounted"):
        overlay(top, make_layer(tmp_path / "b", etc__passwd=b"x")).read_file("etc/passwd")


def test_many_layers(tmp_path: Path):
    """An image of 100 layers is read with a handful of descriptors."""
    layers = [make_layer(tmp_path / str(number), etc__x=b"") for number in range(99)]
    layers.append(make_layer(tmp_path / "last", etc__passwd=b"x"))
    assert overlay(*layers).read_file("etc/passwd") == b"x"
