"""Run a containerd of one's own, crash it while a container runs, and find the container running all the same."""

from __future__ import annotations

import argparse

import anyio

from containerd_py import ConnectionLostError, DaemonConnectError, connect, open_daemon


async def main(containerd: str, image: str) -> None:
    async with open_daemon(containerd=containerd) as daemon, connect(daemon.address) as client:
        print(f"containerd {daemon.version}, pid {daemon.pid}, {daemon.address}")
        async with client.open_run(image, ["sh", "-c", "read line; exit 5"], stdin=True) as task:
            await daemon.kill()
            try:
                await client.namespaces.create("unreachable")
            except (ConnectionLostError, DaemonConnectError) as error:
                print(f"{type(error).__name__}: {error}")

            await daemon.restart()
            print("back as pid", daemon.pid, "with", (await task.status()).state, "task", task.id[:12])
            await task.close_stdin()
            print("exit code", (await task.wait()).code)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containerd", default="containerd", help="the binary; default: as found in PATH")
    parser.add_argument("--image", default="docker.io/library/alpine:3.20")
    arguments = parser.parse_args()
    anyio.run(main, arguments.containerd, arguments.image)
