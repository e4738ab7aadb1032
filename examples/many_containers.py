"""Run many containers, a few at a time; failures are gathered, results keep their order."""

from __future__ import annotations

import argparse

import anyio

from containerd_py import ProcessExitError, connect, for_each

COUNT = 20


async def main(address: str | None, ref: str) -> None:
    async with connect(address) as client:
        image = await client.ensure_image(ref)

        async def square(number: int) -> int:
            completed = await client.run(image, ["expr", str(number), "*", str(number)])
            return int(completed.stdout)

        print(await for_each(range(1, COUNT + 1), square, limit=5))

        async def fail_for_odd(number: int) -> None:
            await client.run(image, ["sh", "-c", f"exit {number % 2}"])

        try:
            await for_each(range(4), fail_for_odd, limit=4)
        except* ProcessExitError as failures:
            for error in failures.exceptions:
                print(error, *error.__notes__)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="containerd's socket; default: as connect() finds it")
    parser.add_argument("--image", default="docker.io/library/alpine:3.20")
    arguments = parser.parse_args()
    anyio.run(main, arguments.address, arguments.image)
