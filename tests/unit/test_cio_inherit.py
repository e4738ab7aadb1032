"""A process's I/O on this program's own stdin, stdout and stderr, each test in a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import anyio
import pytest

# The container: takes its input and writes to both outputs, holding all of them as a shim does.
CONTAINER = """
import os, sys
stdin, stdout, stderr = sys.argv[1:4]
out, err = os.open(stdout, os.O_WRONLY), os.open(stderr, os.O_WRONLY)
keep = os.open(stdout, os.O_RDONLY), os.open(stderr, os.O_RDONLY)
print("open", flush=True)
data = b""
if stdin:
    source = os.open(stdin, os.O_RDONLY)
    while chunk := os.read(source, 65536):
        data += chunk
os.write(out, b"out:" + data)
os.write(err, b"err\\n")
for _ in range(int(sys.argv[4]) if len(sys.argv) > 4 else 0):
    os.write(out, b"x" * 65536)
"""
PROGRAM = """
import subprocess, sys, anyio
from functools import partial
from containerd_py.cio.inherit import open_inherited

CONTAINER = {container!r}

async def run(io, *args):
    config = io.config
    command = [sys.executable, "-S", "-c", CONTAINER, config.stdin, config.stdout, config.stderr, *args]
    async with await anyio.open_process(command, stdin=subprocess.DEVNULL, stderr=None) as process:
        await process.stdout.receive()
        await io.release()
        await process.wait()

async def main():
    {body}

anyio.run(main)
"""


async def run_program(tmp_path: Path, body: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run a program whose main has this body; FOLDER in it is the directory for FIFOs."""
    indented = textwrap.indent(textwrap.dedent(body).strip(), "    ").strip().replace("FOLDER", repr(str(tmp_path)))
    source = PROGRAM.format(container=CONTAINER, body=indented)
    run = partial(subprocess.run, [sys.executable, "-X", "dev", "-W", "error", "-c", source], timeout=60, check=False)
    return await anyio.to_thread.run_sync(partial(run, **options))


PLAIN = """
async with open_inherited(directory=FOLDER) as io:
    await run(io)
"""
WITH_STDIN = """
async with open_inherited(stdin=True, directory=FOLDER) as io:
    await run(io)
"""


async def test_outputs_go_to_the_programs_own(tmp_path):
    """Stdout comes out of stdout and stderr out of stderr."""
    ended = await run_program(tmp_path, PLAIN, capture_output=True)
    assert (ended.stdout, ended.stderr, ended.returncode) == (b"out:", b"err\n", 0)
    assert list(tmp_path.iterdir()) == []


async def test_outputs_go_to_files_too(tmp_path):
    """A regular file, which no event loop can wait for, is written all the same."""
    (tmp_path / "fifo").mkdir(mode=0o700)
    with (tmp_path / "out").open("wb") as out:
        ended = await run_program(tmp_path / "fifo", PLAIN, stdout=out, stderr=subprocess.PIPE)
    assert (ended.returncode, (tmp_path / "out").read_bytes()) == (0, b"out:")


async def test_stdin_from_a_pipe_goes_in_and_ends(tmp_path):
    """The program's input and its end reach the process."""
    ended = await run_program(tmp_path, WITH_STDIN, input=b"y" * 300_000, capture_output=True)
    assert (ended.stdout, ended.stderr, ended.returncode) == (b"out:" + b"y" * 300_000, b"err\n", 0)


async def test_stdin_from_a_file_goes_in_and_ends(tmp_path):
    """A regular file, which epoll refuses, is read to its end."""
    (tmp_path / "fifo").mkdir(mode=0o700)
    (tmp_path / "in").write_bytes(b"z" * 200_000)
    with (tmp_path / "in").open("rb") as source:
        ended = await run_program(tmp_path / "fifo", WITH_STDIN, stdin=source, capture_output=True)
    assert (ended.stdout, ended.returncode) == (b"out:" + b"z" * 200_000, 0)


async def test_leaving_does_not_wait_for_the_programs_stdin(tmp_path):
    """An input nobody closes does not keep the program: leaving gives up reading it."""
    reader, writer = os.pipe()
    body = """
    async with open_inherited(stdin=True, directory=FOLDER) as io:
        await anyio.sleep(0.1)
    print("left", flush=True)
    """
    try:
        ended = await run_program(tmp_path, body, stdin=reader, capture_output=True)
    finally:
        os.close(reader)
        os.close(writer)
    assert (ended.stdout, ended.stderr, ended.returncode) == (b"left\n", b"", 0)


async def test_leaving_with_the_process_alive_writes_what_is_there(tmp_path):
    """Output that is in the FIFO when the block ends is written; nobody waits for more."""
    body = """
    import os
    async with open_inherited(directory=FOLDER) as io:
        out = os.open(io.config.stdout, os.O_WRONLY)
        await io.release()
        os.write(out, b"so far\\n")
    print("left", flush=True)
    """
    ended = await run_program(tmp_path, body, capture_output=True)
    assert (ended.stdout, ended.returncode) == (b"so far\nleft\n", 0)


async def test_output_before_an_error_is_written_and_the_error_comes_out_bare(tmp_path):
    """What the process said may explain the failure: it is written first; the error is not wrapped in a group."""
    body = """
    try:
        async with open_inherited(directory=FOLDER) as io:
            await run(io)
            raise ZeroDivisionError
    except ZeroDivisionError:
        print("!", flush=True)
    """
    ended = await run_program(tmp_path, body, capture_output=True)
    assert (ended.stdout, ended.returncode) == (b"out:!\n", 0)


async def test_a_closed_stdout_stops_the_program(tmp_path):
    """As `program | head` does: the block is cancelled with BrokenResourceError in a group, and nothing is left."""
    body = """
    try:
        async with open_inherited(directory=FOLDER) as io:
            await run(io, "1000")
    except* anyio.BrokenResourceError:
        print("broken", file=sys.stderr)
    sys.stdout = None
    """
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = await run_program(tmp_path, body, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert b"broken" in ended.stderr
    assert list(tmp_path.iterdir()) == []


async def test_a_non_blocking_stdout_gets_everything(tmp_path):
    """A terminal or pipe that somebody made non-blocking is written whole."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    body = """
    async with open_inherited(directory=FOLDER) as io:
        await run(io, "100")
    """
    counts = []

    def count() -> None:
        total = 0
        while chunk := os.read(reader, 4096):
            total += len(chunk)
        counts.append(total)

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, count)
        ended = await run_program(tmp_path, body, stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
    os.close(reader)
    assert (counts, ended.returncode) == ([4 + 100 * 65536], 0)


@pytest.mark.parametrize(
    ("replacement", "expected"), [("None", b""), ("io_module.StringIO()", b"out:")], ids=["none", "text-only"]
)
async def test_a_replaced_stdout_is_honoured(tmp_path, replacement, expected):
    """Without a stdout output is dropped; one that takes text only, as in a notebook, gets text."""
    body = f"""
    import io as io_module
    own, sys.stdout = sys.stdout, {replacement}
    async with open_inherited(directory=FOLDER) as io:
        await run(io)
    if sys.stdout is not None:
        own.write(sys.stdout.getvalue())
    sys.stdout = own
    """
    ended = await run_program(tmp_path, body, capture_output=True)
    assert (ended.stdout, ended.returncode) == (expected, 0)
