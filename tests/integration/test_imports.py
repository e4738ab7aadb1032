"""What connecting brings in, and what it leaves for when it is needed."""

import subprocess
import sys

import anyio
import pytest

from containerd_py.daemon import Daemon

CODE = """
import sys
import anyio
from containerd_py import connect

async def main():
    async with connect(sys.argv[1]) as client:
        print(*sys.modules)
        await client.images.list()
        print(*sys.modules)

anyio.run(main)
"""
GENERATED = "containerd_py._generated."


def codecs(line: str) -> set[str]:
    found = {name.removeprefix(GENERATED) for name in line.split() if name.startswith(GENERATED)}
    return {name.removesuffix(".codec") for name in found if name.endswith(".codec")}


@pytest.mark.lines("2.1")
async def test_connecting_needs_the_encoders_of_what_it_says(daemon: Daemon):
    """The greeting's two services and what their messages hold; another service's come with its first call."""
    command = [sys.executable, "-I", "-c", CODE, daemon.address]
    run = await anyio.run_process(command, stderr=subprocess.PIPE)
    connected, listed = run.stdout.decode().splitlines()
    greeting = {"google.protobuf", "google.rpc", "containerd.types"}
    greeting |= {f"containerd.services.{name}.v1" for name in ("introspection", "version")}
    assert codecs(connected) == greeting
    assert codecs(listed) - codecs(connected) == {"containerd.services.images.v1"}
    assert {"aiohttp", "yarl", "rich"}.isdisjoint(listed.split())
