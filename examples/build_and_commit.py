"""Build an image from a directory and a command, run it, and commit what the container has changed."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import anyio

from containerd_py import ConfigChanges, DirectoryLayer, RunLayer, connect, deleting


async def main(address: str | None, base: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "greeting").write_text("hello\n")
        async with connect(address) as client:
            built = await client.build_image(
                "registry.example/built:1",
                base=base,
                layers=[
                    DirectoryLayer(folder, destination="/opt/app"),
                    RunLayer(["/bin/sh", "-c", "tr a-z A-Z < /opt/app/greeting > /opt/app/loud"]),
                ],
                config=ConfigChanges(cmd=["/bin/cat", "/opt/app/greeting", "/opt/app/loud"]),
                source_date_epoch=1_700_000_000,
            )
            async with deleting(built):
                print((await client.run(built)).stdout)
                for step in (await built.history())[-3:]:
                    print(step.history.created, step.history.created_by)

                async with client.open_run(
                    built, ["/bin/sh", "-c", "echo more > /opt/app/more; echo ready; sleep 60"]
                ) as task:
                    assert task.stdout is not None
                    await task.stdout.receive()
                    committed = await client.commit(task.id, "registry.example/built:2", message="more of it")
                async with deleting(committed):
                    print((await client.run(committed, ["/bin/ls", "/opt/app"])).stdout)
                    async with deleting(
                        await client.convert_image(committed.name, "registry.example/built:zstd", compression="zstd")
                    ) as converted:
                        print((await converted.check(verify=True)).is_whole, await converted.size(), "bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="containerd's socket; default: as connect() finds it")
    parser.add_argument("--image", default="docker.io/library/alpine:3.20", help="what to build on")
    arguments = parser.parse_args()
    anyio.run(main, arguments.address, arguments.image)
