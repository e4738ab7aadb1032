"""The log process, driven through pipes as a shim does, and its files read back."""

import errno
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py import NULL_IO, IOConfig, json_file_log, log_binary
from containerd_py._flows.container_logs import LogLines, LogWindow, parse_line, window
from containerd_py._logger import json_file
from containerd_py._logger.json_file import MAX_ENTRY, LogFile, Stream
from containerd_py.cio.json_log import LogFiles, log_folder_of, settle_log
from containerd_py.errors import InvalidArgumentError

ALL = LogWindow(since=None, until=None, tail=None, timestamps=False)


class Logger:
    """A log process and the ends of its pipes that a shim and a container hold."""

    def __init__(self, folder: Path, **limits: int) -> None:
        settings = {"folder": str(folder), "max_size": 1 << 20, "max_files": 2} | limits
        (out_read, self.out), (err_read, self.err), (self.ready, ready_write) = os.pipe(), os.pipe(), os.pipe()
        script = (
            "import fcntl, os, sys\n"
            f"fds = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in ({out_read}, {err_read}, {ready_write})]\n"
            "for fd, own in zip(fds, (3, 4, 5)): os.dup2(fd, own)\n"
            "os.closerange(6, 256); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", script, json_file.__file__, json.dumps(settings)],
            pass_fds=(out_read, err_read, ready_write),
            env={"CONTAINER_ID": "web", "CONTAINER_NAMESPACE": "default"},
            stderr=subprocess.PIPE,
        )
        for fd in (out_read, err_read, ready_write):
            os.close(fd)
        assert os.read(self.ready, 1) == b"\x01"
        assert os.read(self.ready, 1) == b""

    def close(self) -> None:
        for name in ("out", "err", "ready"):
            if (fd := getattr(self, name)) >= 0:
                os.close(fd)
                setattr(self, name, -1)

    def end(self) -> None:
        self.close()
        _, errors = self.process.communicate(timeout=10)
        assert (self.process.returncode, errors) == (0, b"")


@pytest.fixture
def start():
    started: list[Logger] = []

    def start(folder: Path, **limits: int) -> Logger:
        started.append(Logger(folder, **limits))
        return started[-1]

    yield start
    for logger in started:
        logger.close()
        logger.process.kill()
        logger.process.wait()
        logger.process.stderr.close()


def entries(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "web-json.log").read_text().splitlines()
    return [(entry["stream"], entry["log"]) for entry in map(json.loads, lines)]


def test_both_streams_become_entries(tmp_path: Path, start):
    """A line an entry, in the order it came; what lacks its end is written at the end."""
    logger = start(tmp_path / "new" / "folder")
    os.write(logger.out, b"one\ntwo\nno ")
    settle_log(str(tmp_path / "new" / "folder"), "web-json.log", has_ended=False)
    assert entries(tmp_path / "new" / "folder") == [("stdout", "one\n"), ("stdout", "two\n")]
    os.write(logger.err, b"three\n")
    settle_log(str(tmp_path / "new" / "folder"), "web-json.log", has_ended=False)
    os.write(logger.out, b"end")
    settle_log(str(tmp_path / "new" / "folder"), "web-json.log", has_ended=True)
    assert entries(tmp_path / "new" / "folder")[2:] == [("stderr", "three\n"), ("stdout", "no end")]
    logger.end()
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["logger-lock", "web-json.log"]


def test_asking_gets_an_answer_while_output_never_stops(tmp_path: Path, start):
    """Who asks waits for what was there, not for what comes."""
    logger = start(tmp_path)
    endless = subprocess.Popen(["yes"], stdout=logger.out)
    try:
        for _ in range(5):
            settle_log(str(tmp_path), "web-json.log", has_ended=False)
        assert endless.poll() is None
    finally:
        endless.kill()
        endless.wait()


def test_sigterm_ends_it_when_all_is_written_whoever_holds_the_pipes(tmp_path: Path, start):
    """The shim says SIGTERM once the task is deleted: what is in the pipes is written, then it ends."""
    logger = start(tmp_path)
    os.write(logger.out, b"last\n" * 1000 + b"words")
    logger.process.send_signal(signal.SIGTERM)
    assert logger.process.wait(10) == 0
    assert entries(tmp_path) == [("stdout", "last\n")] * 1000 + [("stdout", "words")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGPIPE])
def test_other_signals_do_not_end_it(tmp_path: Path, start, number):
    """A signal to the whole group, as from a console, takes no log away."""
    logger = start(tmp_path)
    logger.process.send_signal(number)
    os.write(logger.out, b"here\n")
    logger.end()
    assert entries(tmp_path) == [("stdout", "here\n")]


@given(chunks=st.lists(st.binary(max_size=60).map(lambda data: data.replace(b"\x00", b"\n")), max_size=8))
def test_any_bytes_come_back(chunks: list[bytes]):
    """However output is cut, its bytes read back are the bytes written, a line an entry."""
    reader, writer = os.pipe()
    stream = Stream(reader, "stdout")
    taken: list[bytes] = []
    try:
        for chunk in filter(None, chunks):
            os.write(writer, chunk)
            taken += stream.take()[0]
        taken += stream.rest()
    finally:
        os.close(reader)
        os.close(writer)
    lines = [parse_line(entry) for entry in taken]
    assert [line.data for line in lines if line] == b"".join(chunks).splitlines(keepends=True) or b"\r" in b"".join(
        chunks
    )
    assert b"".join(line.data for line in lines if line) == b"".join(chunks)


def test_long_lines_are_cut_between_characters(tmp_path: Path, start):
    """A line longer than an entry comes in pieces, each of them whole characters."""
    logger = start(tmp_path)
    text = "x" + "€" * MAX_ENTRY
    os.write(logger.out, text.encode() + b"\n")
    logger.end()
    pieces = [log for _, log in entries(tmp_path)]
    assert "".join(pieces) == text + "\n"
    assert all(len(piece.encode()) <= MAX_ENTRY and piece.isprintable() for piece in pieces[:-1])


def test_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path, monkeypatch):
    """While nothing can be written lines are dropped; a torn one is ended before the next is written."""
    folder = os.open(tmp_path, os.O_RDONLY)
    log = LogFile(folder, "web-json.log", 1 << 20, 2)
    log.open()
    real = os.write
    answers = iter([lambda fd, data: real(fd, data[:5]), None])

    def full(fd: int, data: bytes) -> int:
        answer = next(answers)
        if answer is None:
            raise OSError(errno.ENOSPC, "full")
        return answer(fd, data)

    monkeypatch.setattr(os, "write", full)
    log.write([b'{"torn": 1}\n'])
    monkeypatch.setattr(os, "write", real)
    log.write([b'{"whole": 1}\n'])
    os.close(folder)
    assert (tmp_path / "web-json.log").read_bytes() == b'{"tor\n{"whole": 1}\n'


def entry(text: str, second: int = 0) -> str:
    return json.dumps({"log": text, "stream": "stdout", "time": f"2026-01-01T00:00:{second:02}Z"}) + "\n"


async def test_files_are_one_log_and_torn_ends_stay_their_own(tmp_path: Path):
    """Older files come first; an unfinished line does not swallow the first of the next file."""
    (tmp_path / "web-json.log.2").write_text(entry("a") + '{"log":"torn')
    (tmp_path / "web-json.log.1").write_text(entry("b"))
    (tmp_path / "web-json.log").write_text(entry("c") + "nonsense\n" + entry("d") + '{"log":"torn')
    files = LogFiles(str(tmp_path), "web-json.log")
    lines = LogLines(files, ALL)
    await lines.open()
    lines.read_no_further()
    with (tmp_path / "web-json.log").open("a") as file:
        file.write('"}\n' + entry("later"))
    assert [line.data async for line in lines] == [b"a", b"b", b"c", b"d"]
    files.close()


async def test_what_comes_after_opening_is_no_part_of_the_tail(tmp_path: Path):
    """Following with a tail of none gives every line that is written from the opening on."""
    log = tmp_path / "web-json.log"
    log.write_text(entry("old\n") * 10)
    files = LogFiles(str(tmp_path), "web-json.log")
    lines = LogLines(files, LogWindow(since=None, until=None, tail=0, timestamps=False))
    await lines.open()
    with log.open("a") as file:
        file.write(entry("new\n") * 3)
    lines.settled.set()
    assert [line.data async for line in lines] == [b"new\n"] * 3
    files.close()


async def test_several_rotations_between_two_reads_are_caught_up_with(tmp_path: Path):
    """A reader that slept finds its file under its new name, and goes on with the next."""
    log = tmp_path / "web-json.log"
    log.write_text(entry("1"))
    files = LogFiles(str(tmp_path), "web-json.log")
    files.open()
    read = files.read()
    with log.open("a") as file:
        file.write(entry("2"))
    for number in range(3, 6):
        for old in range(4, 0, -1):
            if (tmp_path / f"web-json.log.{old}").exists():
                (tmp_path / f"web-json.log.{old}").rename(tmp_path / f"web-json.log.{old + 1}")
        log.rename(tmp_path / "web-json.log.1")
        log.write_text(entry(str(number)))
    while chunk := files.read():
        read += chunk
    files.close()
    assert [json.loads(line)["log"] for line in read.splitlines() if line] == ["1", "2", "3", "4", "5"]


def test_a_name_that_is_missing_while_files_are_renamed_hides_none(tmp_path: Path):
    """Renaming leaves a gap for a moment; the files behind it are read all the same."""
    log = tmp_path / "web-json.log"
    log.write_text(entry("1"))
    files = LogFiles(str(tmp_path), "web-json.log")
    files.open()
    read = files.read()
    log.rename(tmp_path / "web-json.log.5")
    for name, text in (
        ("web-json.log.4", "2"),
        ("web-json.log.3", "3"),
        ("web-json.log.1", "4"),
        ("web-json.log", "5"),
    ):
        (tmp_path / name).write_text(entry(text))
    while chunk := files.read():
        read += chunk
    files.close()
    assert [json.loads(line)["log"] for line in read.splitlines() if line] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    "raw",
    [b"", b"\n", b"[]", b"1", b"{}", b'{"log":1,"stream":"stdout","time":"2026-01-01T00:00:00Z"}',
     b'{"log":"","stream":"stdin","time":"2026-01-01T00:00:00Z"}', b'{"log":"","stream":"stdout","time":"now"}',
     b'{"log":"","stream":"stdout","time":"0001-01-01T00:00:00Z"}', b"[" * 100_000, b"\xff",
     b'{"log":"\\ud800","stream":"stdout","time":"2026-01-01T00:00:00Z"}'],
)  # fmt: skip
def test_what_is_no_entry_is_none(raw: bytes):
    """Whatever stands in the file, reading it does not fail."""
    assert parse_line(raw) is None


@pytest.mark.parametrize("far", [timedelta.max, timedelta.min, timedelta(days=800_000)])
def test_times_that_never_were_are_refused(far: timedelta):
    """A span that leads out of the calendar is told to be one, wherever it leads."""
    with pytest.raises(InvalidArgumentError, match="since="):
        window(tail=None, since=far, until=None, timestamps=False)


def test_a_log_that_cannot_be_opened_whole_leaves_no_descriptor(tmp_path: Path):
    """What was opened before the one that cannot be is closed again."""
    (tmp_path / "web-json.log").write_text(entry("1"))
    (tmp_path / "web-json.log.1").symlink_to("web-json.log.1")
    before = sorted(Path("/proc/self/fd").iterdir())
    files = LogFiles(str(tmp_path), "web-json.log")
    with pytest.raises(OSError):
        files.open()
    files.close()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_the_folder_is_known_from_what_the_daemon_was_told(tmp_path: Path):
    """Our URI tells its folder; others tell none."""
    folder = "/with blank/&=?%/ü"
    assert log_folder_of(json_file_log(folder)) == folder
    assert [log_folder_of(config) for config in (NULL_IO, IOConfig(stdout="/fifo"), log_binary("/bin/x"))] == [None] * 3
