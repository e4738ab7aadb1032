"""A process's terminal on a program's console: each program has a pseudo-terminal of its own."""

import signal
from pathlib import Path

import anyio
import pytest

from containerd_py import Client, Daemon, Image, attached_terminal
from containerd_py.errors import FailedPreconditionError, NotFoundError
from tests.integration.console import program_on_console

SHELL = """
async with client.open_run(image, ["/bin/sh"], id="shell", stdin=True, terminal=True) as task:
    async with attached_terminal(task) as session:
        outcome = await session.wait()
    print("outcome", outcome.code)
"""


@pytest.fixture
def names(client: Client, daemon: Daemon, busybox: Image) -> dict[str, str]:
    return {"address": daemon.address, "namespace": client.namespace, "image": busybox.name}


async def test_keys_go_in_and_sizes_are_seen_inside(names: dict[str, str]):
    """The terminal has the console's size from the start and follows it; the exit code comes back, the modes too."""
    async with program_on_console(SHELL, names, width=101, height=33) as program:
        before = program.modes
        await program.see(b"# ")
        assert program.modes != before
        program.type(b"busybox stty size\r")
        await program.see(b"33 101")
        program.set_size(120, 40)
        program.type(b"until busybox stty size | grep -q '40 120'; do sleep 0.1; done; echo fo''llowed\r")
        await program.see(b"followed")
        program.type(b"sh -c 'echo be''gun; exec sleep 1000'\r")
        await program.see(b"begun")
        program.type(b"\x03")  # for the process there, not for the program here
        await program.see(b"# ")
        program.type(b"exit 7\r")
        await program.see(b"outcome 7")
        assert await program.end() == 0
        assert program.modes == before


async def test_an_execs_terminal_is_attached_in_the_same_way(names: dict[str, str], client: Client, busybox: Image):
    """A shell beside the container's own process has a terminal of its own, and all it wrote is shown."""
    body = """
    task = await (await client.load_container("host")).load_task()
    async with task.open_exec(["/bin/sh"], stdin=True, terminal=True) as process:
        async with attached_terminal(process, detach_keys="") as session:
            print("outcome", (await session.wait()).code)
    """
    async with (
        client.open_run(busybox, ["/bin/sleep", "1000"], id="host"),
        program_on_console(body, names) as program,
    ):
        await program.see(b"# ")
        program.type(b"seq 20000; exit 4\r")
        await program.see(b"\n19999\r\n20000\r\n")
        await program.see(b"outcome 4")
        assert await program.end() == 0


async def test_detached_here_and_attached_again_there(names: dict[str, str], client: Client):
    """The detach keys leave the process running, for another program, which removes the FIFOs at the end."""
    first = """
    container = await client.create_container("left", image=image, args=["/bin/sh"], terminal=True)
    async with open_fifos(terminal=True) as io:
        task = await container.create_task(io=io.config)
        await task.start()
        async with attached_terminal(task) as session:
            if await session.wait() is DETACHED:
                io.keep()
    print("outcome", io.is_kept)
    """
    second = """
    container = await client.load_container("left")
    config = (await container.load_task()).io
    async with deleting(container), attach_fifos(config, remove=True) as io:
        async with deleting(await container.load_task(io.config)) as task:
            async with attached_terminal(task, detach_keys="ctrl-],q") as session:
                outcome = await session.wait()
    print("outcome", outcome.code)
    """
    async with program_on_console(first, names) as program:
        before = program.modes
        await program.see(b"# ")
        program.type(b"kept=re''membered\r")
        await program.see(b"# ")
        program.type(b"\x10")
        await anyio.sleep(0.1)
        program.type(b"\x11")
        await program.see(b"outcome True")
        assert await program.end() == 0
        assert program.modes == before
    fifo = Path((await (await client.load_container("left")).load_task()).io.stdin)
    assert fifo.is_fifo()
    async with program_on_console(second, names, width=77, height=22) as program:
        program.type(b"\r")
        await program.see(b"# ")
        program.type(b"echo $kept; busybox stty size\r")
        await program.see(b"remembered")
        await program.see(b"22 77")
        program.type(b"exit 3\r")
        await program.see(b"outcome 3")
        assert await program.end() == 0
    assert not fifo.parent.exists()
    with pytest.raises(NotFoundError):
        await client.load_container("left")


async def test_the_modes_come_back_after_the_task_was_killed(names: dict[str, str], client: Client):
    """SIGKILL from elsewhere ends the session, and the console is as before."""
    async with program_on_console(SHELL, names) as program:
        before = program.modes
        await program.see(b"# ")
        task = await (await client.load_container("shell")).load_task()
        await task.kill(signal.SIGKILL)
        await program.see(b"outcome 137")
        assert await program.end() == 0
        assert program.modes == before


@pytest.mark.parametrize(
    ("ending", "told"),
    [("raise ZeroDivisionError", b"told ZeroDivisionError"), ("await anyio.sleep(60)", b"told TimeoutError")],
    ids=["exception", "cancellation"],
)
async def test_the_modes_come_back_however_the_block_ends(names: dict[str, str], ending: str, told: bytes):
    """An exception and a cancellation leave the console as it was, and come out as they are."""
    body = f"""
    try:
        with anyio.fail_after(4):
            async with client.open_run(image, ["/bin/sh"], stdin=True, terminal=True) as task:
                async with attached_terminal(task) as session:
                    print("inside", flush=True)
                    {ending}
    except Exception as error:
        print("told", type(error).__name__)
    """
    async with program_on_console(body, names) as program:
        before = program.modes
        await program.see(b"inside")
        await program.see(told)
        assert await program.end() == 0
        assert program.modes == before


async def test_a_console_that_is_hung_up_has_detached(names: dict[str, str], client: Client, tmp_path):
    """A program that survives its console learns that nobody is there, and the process lives on until it ends it."""
    body = f"""
    import signal
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    async with client.open_run(image, ["/bin/sh"], stdin=True, terminal=True) as task:
        async with attached_terminal(task) as session:
            outcome = await session.wait()
        with open({str(tmp_path / "told")!r}, "w") as file:
            file.write(f"{{outcome is DETACHED}} {{(await task.status()).state}}")
    """
    async with program_on_console(body, names) as program:
        await program.see(b"# ")
        program.hang_up()
        await program.end()
    assert (tmp_path / "told").read_text() == "True running"


async def test_what_cannot_be_attached_is_refused(names: dict[str, str], client: Client, busybox: Image):
    """No terminal here, none there, no such keys, no open ends, another thread: each is said, the console untouched."""
    async with client.open_run(busybox, ["/bin/sh"], stdin=True, terminal=True) as task:
        with pytest.raises(FailedPreconditionError, match="stdin is not a terminal"):
            async with attached_terminal(task):
                pass
    body = """
    async def refused(process, **options):
        try:
            async with attached_terminal(process, **options):
                print("attached")
        except ContainerdError as error:
            print(type(error).__name__, "|", error)

    async with client.open_run(image, ["/bin/sleep", "1000"], stdin=True) as plain:
        await refused(plain)
        await refused(plain, detach_keys="ctrl-1")
    async with client.open_run(image, ["/bin/sh"], id="there", terminal=True, stdin=False) as silent:
        await refused(silent)
        await refused(await (await client.load_container("there")).load_task())
    async with client.open_run(image, ["/bin/sh"], stdin=True, terminal=True) as task:
        await anyio.to_thread.run_sync(anyio.run, refused, task)
    """
    async with program_on_console(body, names) as program:
        before = program.modes
        await program.see(b"FailedPreconditionError | <Task")
        await program.see(b"has no terminal: create it with terminal=True")
        await program.see(b"InvalidArgumentError | detach keys 'ctrl-1'")
        await program.see(b"are not open here")
        await program.see(b"are not open here")
        await program.see(b"in the main thread only")
        assert await program.end() == 0
        assert program.modes == before
