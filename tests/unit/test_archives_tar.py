"""The tar reader against honest archives, and against archives that nobody honest makes."""

from __future__ import annotations

import io
import random
import tarfile
import tracemalloc
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containerd_py.archives.limits import DEFAULT_LIMITS, ArchiveLimits
from containerd_py.archives.tar_headers import Kind
from containerd_py.archives.tar_reader import Member, TarReader
from containerd_py.archives.tar_writer import file_header, folder_header, padding
from containerd_py.errors import ArchiveError
from tests.unit.tars import BLOCK, END, archive, chunked, header, member, pax, pax_record

MiB = 1024 * 1024


async def read_all(
    data: bytes, limits: ArchiveLimits = DEFAULT_LIMITS, size: int = 10_000
) -> list[tuple[Member, bytes]]:
    """Read an archive to its end."""
    reader = TarReader(chunked(data, size), limits)
    found = []
    async for one in reader:
        parts = []
        while chunk := await reader.chunk():
            parts.append(bytes(chunk))
        found.append((one, b"".join(parts)))
    return found


async def refused(data: bytes, words: str, limits: ArchiveLimits = DEFAULT_LIMITS) -> ArchiveError:
    """Have an archive refused, for a reason that the message says."""
    with pytest.raises(ArchiveError, match=words) as caught:
        await read_all(data, limits)
    assert caught.value.offset is not None
    assert 0 <= caught.value.offset <= len(data)
    return caught.value


# ── honest archives ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("chunk", [1, 511, 512, 513, 100_000])
async def test_members_come_as_they_were_written(form: int, chunk: int):
    """Names, links and contents are those that tarfile wrote, in every format and however the stream is cut."""
    buffer = io.BytesIO()
    names = ["a", "b/c", "long/" * 15 + "name", *([] if form == tarfile.USTAR_FORMAT else ["x" * 300, "umlaut-ä"])]
    with tarfile.open(fileobj=buffer, mode="w", format=form) as made:
        made.addfile(folder := tarfile.TarInfo("b"))
        folder.type = tarfile.DIRTYPE
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = number * 700
            made.addfile(info, io.BytesIO(bytes([number]) * info.size))
        link = tarfile.TarInfo("b/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../a"
        made.addfile(link)
    found = {one.path: (one, data) for one, data in await read_all(buffer.getvalue(), size=chunk)}
    assert set(found) == {"b", "b/link", *names}
    for number, name in enumerate(names):
        assert found[name][0].kind is Kind.FILE
        assert found[name][1] == bytes([number]) * (number * 700)
    assert (found["b/link"][0].kind, found["b/link"][0].target) == (Kind.SYMLINK, "a")


async def test_content_that_is_not_read_is_skipped():
    """Going on to the next member leaves what is left of the present one."""
    reader = TarReader(chunked(archive(member("a", b"x" * 5000), member("b", b"y"))))
    assert (await anext(reader)).path == "a"
    assert await reader.chunk()
    assert (await anext(reader)).path == "b"
    assert await reader.read("b", 1) == b"y"
    with pytest.raises(StopAsyncIteration):
        await anext(reader)


@pytest.mark.parametrize(
    ("written", "path"), [("./a", "a"), ("a//b", "a/b"), ("./a/./b", "a/b"), ("a/b/", "a/b"), ("./", "")]
)
async def test_paths_are_made_clean(written: str, path: str):
    """Dots and doubled slashes, as `tar -C folder .` writes, make no other path."""
    flag = b"5" if written.endswith("/") else b"0"
    assert [one.path for one, _ in await read_all(archive(member(written, flag=flag)))] == [path]


async def test_sizes_beyond_octal_are_read():
    """A binary size and one in a pax header count, also where the header's own says something else."""
    binary = b"\x80" + (700).to_bytes(11, "big")
    data = archive(
        header("binary", size=binary) + b"x" * 700 + bytes(324),
        pax({"size": "700", "mtime": "1.5"}) + header("pax", size=0) + b"y" * 700 + bytes(324),
    )
    assert [(one.path, one.size, len(content)) for one, content in await read_all(data)] == [
        ("binary", 700, 700),
        ("pax", 700, 700),
    ]


async def test_old_checksums_and_folders_count():
    """Checksums of signed bytes are right, and before POSIX a folder was a file whose name ends in a slash."""
    name = "ä".encode()
    block = header(name)
    others = block[:148] + b" " * 8 + block[156:]
    signed = sum(byte - 256 * (byte > 127) for byte in others)
    data = archive(header(name, checksum=f"{signed:06o}\x00 ".encode()), member("old/", flag=b"\x00"))
    assert [one.kind for one, _ in await read_all(data)] == [Kind.FILE, Kind.FOLDER]


async def test_comments_in_global_headers_are_harmless():
    """What git archive writes before everything else is skipped."""
    data = archive(pax({"comment": "abc"}, flag=b"g"), member("a"))
    assert [one.path for one, _ in await read_all(data)] == ["a"]


async def test_padding_after_the_end_is_read():
    """Tars are padded with zeros to whole records; a stream may also be told to stop at the marker."""
    assert len(await read_all(archive(member("a")) + bytes(10240))) == 1
    reader = TarReader(chunked(archive(member("a")) + b"more"), reads_on=False)
    assert [one.path async for one in reader] == ["a"]


async def test_folders_may_come_twice():
    """Tools repeat folders; they hold nothing."""
    assert len(await read_all(archive(member("a/", flag=b"5"), member("a/", flag=b"5")))) == 2


# ── damaged archives ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_cut_is_noticed():
    """An archive of 64 KiB that is cut off anywhere is refused at the cut, without a wait for more."""
    content = random.Random(0).randbytes(20_000)
    data = archive(
        member("a", content), member("b"), pax({"path": "c"}), member("x", content), member("d", content[:3000])
    )
    assert 40_000 < len(data) < 64 * 1024
    cuts = {at + by for at in range(0, len(data), BLOCK) for by in (-1, 0, 1) if 0 <= at + by < len(data)}
    for cut in sorted(cuts):
        with anyio.fail_after(30), pytest.raises(ArchiveError, match="truncated") as caught:
            await read_all(data[:cut])
        assert caught.value.offset == cut


async def test_a_huge_member_does_not_hang():
    """A member that is said to have 8 TiB and has nothing is refused at once."""
    size = b"\x80" + (8 * 2**40).to_bytes(11, "big")
    await refused(header("a", size=size), "8796093022208 bytes makes the archive larger")
    generous = ArchiveLimits(size=2**60)
    error = await refused(header("a", size=size) + b"x" * 1000, "truncated: 8796093021208 bytes are missing", generous)
    assert error.offset == 1512


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (b"\xff" * 12, "size is negative"),
        (b"\xc0" + bytes(11), "size is negative"),
        (b"\x80" + b"\xff" * 11, "beyond 64 bits"),
        (b"-0000000001\x00", "size is no octal"),
        (b"0000000008\x00\x00", "size is no octal"),
        (b"0x10\x00", "size is no octal"),
        ("१".encode() + bytes(9), "size is negative"),
    ],
)
async def test_sizes_that_are_none_are_refused(size: bytes, words: str):
    """Negative, enormous and malformed sizes are no sizes."""
    await refused(archive(header("a", size=size)), words)


async def test_zeros_without_end_end():
    """A stream of nothing but zeros is refused after a MiB."""
    taken = 0

    async def zeros():
        nonlocal taken
        while True:
            taken += 65536
            yield bytes(65536)

    with pytest.raises(ArchiveError, match="zeros follow"):
        async for _ in TarReader(zeros()):
            pass
    assert taken <= 2 * MiB + 65536


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (END + member("b"), "goes on after its end"),
        (END + bytes(4096) + b"x", "goes on after its end"),
        (bytes(BLOCK) + member("b") + END, "goes on after a block of zeros"),
        (b"garbage" * 100, "no tar header"),
        (bytes(BLOCK), "no end marker"),
    ],
)
async def test_nothing_hides_behind_the_end(tail: bytes, words: str):
    """Two zero blocks end an archive; what other readers could still find behind them is refused."""
    await refused(member("a") + tail, words)


async def test_a_wrong_checksum_is_refused():
    """A header whose checksum is wrong or none is no header."""
    for checksum in (b"000000\x00 ", b"zzzzzz\x00 ", b" " * 8):
        await refused(archive(header("a", checksum=checksum)), "no tar header")


# ── hostile archives ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../a", r'has "\.\." in it'),
        ("a/../../b", r'has "\.\." in it'),
        ("a/..", r'has "\.\." in it'),
        ("/etc/passwd", "is absolute"),
        ("//a", "is absolute"),
        ("", "is empty"),
        (".", "name of the archive's root"),
        (b"\xff\xfe", "not UTF-8"),
        ("a/", "named as a folder"),
    ],
)
async def test_names_that_lead_elsewhere_are_refused(name: str | bytes, words: str):
    """Traversal, absolute and empty names and those that are no text."""
    await refused(archive(member(name)), words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a\x00b", "NUL"),
        ("../a", r'"\.\."'),
        ("/a", "absolute"),
        ("x" * 64 * 1024, "more than the 4096"),
        ("", "empty"),
    ],
)
async def test_long_names_are_names_too(name: str, words: str):
    """What a pax header says is checked as what the header itself says; so are GNU's long names."""
    await refused(archive(pax({"path": name}), member("a")), words)
    if "\x00" not in name:
        await refused(archive(member("././@LongLink", name.encode(), flag=b"L"), member("a")), words)


@pytest.mark.parametrize(
    ("flag", "link", "words"),
    [
        (b"2", "../../etc/passwd", "leads out"),
        (b"2", "..", "leads out"),
        (b"2", "/etc/passwd", "is absolute"),
        (b"2", "", "is empty"),
        (b"1", "../a", "leads out"),
        (b"1", "/a", "is absolute"),
    ],
)
async def test_links_that_lead_out_are_refused(flag: bytes, link: str, words: str):
    """A link stands for a place in the archive, seen from its folder or, if hard, from the root."""
    await refused(archive(member("a", flag=flag, link=link)), words)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (b"3", "character device"),
        (b"4", "block device"),
        (b"6", "FIFO"),
        (b"S", "sparse"),
        (b"7", "type"),
        (b"V", "type"),
    ],
)
async def test_what_no_image_has_is_refused(flag: bytes, words: str):
    """Devices, FIFOs, sparse files and types nobody knows."""
    error = await refused(archive(member("a"), member("b", flag=flag)), words)
    assert error.offset == BLOCK


@pytest.mark.parametrize("second", [{"flag": b"0"}, {"flag": b"2", "link": "x"}, {"flag": b"5"}])
@pytest.mark.parametrize("name", ["a", "./a", "a/"])
async def test_a_path_comes_once(second: dict, name: str):
    """Readers disagree whether the first or the last of two counts."""
    if second["flag"] != b"5" and name.endswith("/"):
        return
    await refused(archive(member("a", b"1"), member(name, **second)), "twice")


async def test_names_may_differ_in_case():
    """Where nothing is unpacked, two names that one file system would mix up are two."""
    assert len(await read_all(archive(member("a"), member("A")))) == 2


@pytest.mark.parametrize("flag", [b"1", b"2", b"5"])
async def test_what_has_no_content_claims_none(flag: bytes):
    """Some readers skip content after links and folders, others take it for headers."""
    await refused(archive(member("a", b"x" * 512, flag=flag, link="b")), "claims 512 bytes")
    await refused(archive(pax({"size": "512"}), member("a", flag=flag, link="b")), "claims 512 bytes")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"11 path=a\n", "malformed"),
        (b"8 path=a\n", "malformed"),
        (b"0 path=a\n", "malformed"),
        (b"10 path=a\x00", "malformed"),
        (b"99999999999 path=a\n", "malformed"),
        (b"10 pathxa\n", "malformed"),
        (b"path=a\n", "malformed"),
        (b"5 =a\n", "malformed"),
        (pax_record("path", "a") * 2, "sets path twice"),
        (pax_record("size", "-1"), "says size"),
        (pax_record("size", "1e3"), "says size"),
        (pax_record("size", str(2**64)), "says size"),
        (pax_record("size", "٣"), "says size"),
        (pax_record("path", b"\xff"), "not UTF-8"),
        (pax_record("GNU.sparse.major", "1"), "sparse"),
        (pax_record("GNU.sparse.realsize", "1"), "sparse"),
    ],
)
async def test_bad_pax_headers_are_refused(data: bytes, words: str):
    """Records that are malformed, contradict each other, or speak of sparse files."""
    await refused(archive(member("x", data, flag=b"x"), member("a")), words)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([pax({"path": "b"}, flag=b"g")], "global pax header sets path"),
        ([pax({"size": "5"}, flag=b"g")], "global pax header sets size"),
        ([pax({"path": "b"}), pax({"path": "c"})], "set the path"),
        ([pax({"path": "b"}), member("L", b"c", flag=b"L")], "set the path"),
        ([member("K", b"c", flag=b"K"), pax({"linkpath": "c"})], "set the link"),
    ],
)
async def test_headers_that_readers_disagree_about_are_refused(headers: list[bytes], words: str):
    """Global overrides, and two headers that name the same member."""
    await refused(archive(*headers, member("a")), words)


async def test_an_announced_member_must_come():
    """A pax header in front of the end marker announces nobody."""
    await refused(archive(pax({"path": "b"})), "announces a member")


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("limits", "fits", "exceeds", "words"),
    [
        (ArchiveLimits(members=3), [member(str(n)) for n in range(3)], [member(str(n)) for n in range(4)], "members"),
        (
            ArchiveLimits(metadata=100),
            [member("x", pax_record("c", "y" * 93), flag=b"x"), member("a")],
            [member("x", pax_record("c", "y" * 94), flag=b"x"), member("a")],
            "101 bytes, more than the 100",
        ),
        (ArchiveLimits(name=5), [member("abcde")], [member("abcdef")], "more than the 5"),
        (ArchiveLimits(names=5), [member("ab"), member("abc")], [member("abc"), member("abcd")], "more than 5"),
        (ArchiveLimits(size=1024), [member("a", b"x" * 512)], [member("a", b"x" * 1024)], "larger than the 1024"),
    ],
)
async def test_limits_hold_to_the_byte(limits: ArchiveLimits, fits: list[bytes], exceeds: list[bytes], words: str):
    """What is allowed is allowed, and one more is refused."""
    assert await read_all(archive(*fits), limits)
    await refused(archive(*exceeds), words, limits)


async def test_documents_have_a_limit():
    """A document is read up to its limit, and refused by its size, unread, beyond."""
    for size, fits in ((99, True), (100, True), (101, False)):
        reader = TarReader(chunked(archive(member("manifest.json", b" " * size))))
        await anext(reader)
        if fits:
            assert len(await reader.read("manifest.json", 100)) == size
        else:
            with pytest.raises(ArchiveError, match=r"manifest\.json has 101 bytes, more than the 100"):
                await reader.read("manifest.json", 100)


async def endless(block: bytes, count: int):
    """Yield the same block again and again."""
    for _ in range(count):
        yield block


@pytest.mark.parametrize("flag", [b"x", b"L", b"g"])
async def test_large_headers_take_no_memory(flag: bytes):
    """A pax header of 64 MiB and a long name of 2 GiB are refused by what they claim."""
    for size in (64 * MiB, 2 * 1024 * MiB):
        tracemalloc.start()
        try:
            with pytest.raises(ArchiveError, match="more than the 1048576 allowed"):
                await read_all(header("x", flag=flag, size=size) + bytes(100_000))
            assert tracemalloc.get_traced_memory()[1] < MiB
        finally:
            tracemalloc.stop()


async def test_many_members_take_little():
    """Of a million members 100,000 are enough, and would have taken 48 MiB: a quarter of them takes a quarter."""
    assert DEFAULT_LIMITS.members == 100_000

    async def members():
        for number in range(10**6):
            yield header(f"some/folder/with/a/name/{number:07}")

    before = resident()
    with pytest.raises(ArchiveError, match="more than 25000 members"):
        async for _ in TarReader(members(), ArchiveLimits(members=25_000)):
            pass
    assert resident() - before < 12 * MiB


def resident() -> int:
    """Return the bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@settings(max_examples=300, deadline=None)
@given(st.data())
async def test_damage_is_told_as_such(data: st.DataObject):
    """However an archive is damaged, it is read or refused with ArchiveError, and nothing else happens."""
    whole = bytearray(
        archive(pax({"path": "p"}), member("a", b"x" * 600), member("b", flag=b"2", link="a"), member("c", b"y" * 40))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    try:
        await read_all(bytes(whole))
    except ArchiveError as error:
        assert error.offset is not None


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_with_tarfile(data: bytes) -> list[tarfile.TarInfo]:
    """Read with Python's own reader."""
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        return opened.getmembers()


def test_written_headers_are_read_by_others():
    """Python's reader finds names, sizes, modes and no time."""
    data = folder_header("blobs") + file_header("blobs/x", 3, 0o444) + b"abc" + padding(3) + END
    folder, file = read_with_tarfile(data)
    assert (folder.name, folder.isdir(), folder.mode) == ("blobs", True, 0o755)
    assert (file.name, file.size, file.mode, file.mtime, file.uid) == ("blobs/x", 3, 0o444, 0, 0)


async def test_long_names_and_sizes_are_written():
    """A path of more than 100 bytes is split, and a size beyond 8 GiB stands in a pax header."""
    path = f"blobs/sha512/{'a' * 128}"
    assert [one.path for one, _ in await read_all(file_header(path, 0, 0o444) + END)] == [path]
    for size in (8 * 2**30 - 1, 8 * 2**30, 2**40 + 5):
        reader = TarReader(chunked(file_header("blobs/sha256/a", size, 0o444)), ArchiveLimits(size=2**60))
        assert (await anext(reader)).size == size
