"""Terminals: sizes, and output however much and however often."""

from containerd_py import Client, Image, open_fifos
from tests.conformance.made import created

ROUNDS = 2
NUMBERS = 200_000


async def test_a_terminal_is_sized_before_it_starts(client: Client, busybox: Image):
    """A size set between creation and start is what the process finds."""
    async with (
        open_fifos(stdin=False, terminal=True) as io,
        created(client, busybox, ["/bin/stty", "size"], io=io.config) as task,
    ):
        await task.resize(12, 34)
        await task.start()
        assert task.stdout is not None
        assert b"".join([chunk async for chunk in task.stdout]) == b"34 12\r\n"
        assert (await task.wait()).code == 0


async def show_numbers(client: Client, busybox: Image, *, rounds: int, numbers: int) -> None:
    """Let execs of one ID, each with a terminal, show all numbers, and look at every byte."""
    expected = b" ".join(b"%d" % number for number in range(1, numbers + 1)) + b"\r\n"
    async with client.open_run(busybox, ["/bin/sleep", "1000"]) as task:
        for _ in range(rounds):
            arguments = ["/bin/busybox", "seq", "-s", " ", "1", f"{numbers}"]
            async with task.open_exec(arguments, terminal=True, id="numbers") as process:
                assert process.stdout is not None
                shown = b"".join([chunk async for chunk in process.stdout])
                assert (await process.wait()).code == 0
            assert shown == expected


async def test_large_output_of_terminals_is_whole(client: Client, busybox: Image):
    """Execs with a terminal, one after another under the same ID, lose nothing of more than a megabyte."""
    await show_numbers(client, busybox, rounds=ROUNDS, numbers=NUMBERS)
