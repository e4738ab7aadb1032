"""Create a container step by step, run processes in it, stop it with a grace, and delete everything."""

from __future__ import annotations

import argparse

import anyio

from containerd_py import connect, deleting, open_fifos

SCRIPT = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.1; done"


async def main(address: str | None, ref: str) -> None:
    async with connect(address) as client:
        image = await client.ensure_image(ref)
        container = await client.create_container(image=image, args=["sh", "-c", SCRIPT], labels={"example": "exec"})
        async with deleting(container), open_fifos(stdin=False) as io:
            task = await container.create_task(io=io.config)
            async with deleting(task):
                await task.start()
                assert task.stdout is not None
                print(await task.stdout.receive())

                result = await task.run_exec(["sh", "-c", "ps | wc -l; exit 3"], check=False)
                print(f"exec ended with {result.exit_code}: {int(result.stdout)} lines of ps")

                async with task.open_exec(["sh"], stdin=True, env={"NAME": "you"}) as shell:
                    assert shell.stdin is not None
                    assert shell.stdout is not None
                    await shell.stdin.send(b"echo hello $NAME\n")
                    print(await shell.stdout.receive())

                status = await task.stop(grace=5)
                print(await task.stdout.receive(), f"exit code {status.code} at {status.exited_at}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="containerd's socket; default: as connect() finds it")
    parser.add_argument("--image", default="docker.io/library/alpine:3.20")
    arguments = parser.parse_args()
    anyio.run(main, arguments.address, arguments.image)
