"""Terminals: sizes, and output however much and however often."""

from containerd_py import Client, Image, deleting, open_fifos
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


async def test_a_terminal_goes_on_after_a_restore(client: Client, busybox: Image):
    """A shell that waits at its terminal is saved and restored, and reads what is typed at the new one."""
    asking = ["/bin/sh", "-c", "read line; echo got $line; exit 5"]
    container = await client.create_container(image=busybox, args=asking, terminal=True)
    async with deleting(container):
        async with open_fifos(terminal=True) as io, deleting(await container.create_task(io=io.config)) as task:
            await task.start()
            waits = ["/bin/sh", "-c", "until grep -qE 'sleeping' /proc/1/status; do sleep 0.05; done"]
            await task.run_exec(waits)
            saved = await task.checkpoint(exit=True)
        async with (
            deleting(saved),
            open_fifos(terminal=True) as io,
            deleting(await container.create_task(io=io.config, checkpoint=saved)) as task,
        ):
            await task.start()
            assert task.stdin is not None
            assert task.stdout is not None
            await task.stdin.send(b"hello\n")
            assert (await task.wait()).code == 5
            await task.delete()
            assert b"".join([chunk async for chunk in task.stdout]).endswith(b"got hello\r\n")
