"""Just enough of Kubernetes' runtime API (runtime.v1) to have a daemon's CRI plugin run a pod."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from grpclib.client import Channel
from grpclib.const import Cardinality
from grpclib.encoding.base import CodecBase

from tests.harness.pause_shim import field, fields

RUNTIME: Final = "/runtime.v1.RuntimeService/"
IMAGES: Final = "/runtime.v1.ImageService/"
NODE: Final = 2  # the host's namespace: no network plugin is needed


class _Bytes(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, _message_type: Any) -> bytes:
        return message

    def decode(self, data: bytes, _message_type: Any) -> bytes:
        return data


def _map(number: int, items: Mapping[str, str]) -> bytes:
    return b"".join(field(number, field(1, key) + field(2, value)) for key, value in items.items())


class Cri:
    """The runtime service of one daemon. Made by `open_cri`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def _call(self, method: str, message: bytes, *, service: str = RUNTIME) -> dict[int, bytes]:
        request: Any = self._channel.request(service + method, Cardinality.UNARY_UNARY, bytes, bytes)
        async with request as stream:
            await stream.send_message(message, end=True)
            return fields(await stream.recv_message())

    async def wait_for_image(self, name: str) -> None:
        """Wait until the plugin, which hears of images by events, knows one."""
        while 1 not in await self._call("ImageStatus", field(1, field(1, name)), service=IMAGES):
            await anyio.sleep(0.02)

    async def run_sandbox(
        self, name: str, *, namespace: str, uid: str, labels: Mapping[str, str], annotations: Mapping[str, str]
    ) -> tuple[str, bytes]:
        """Run a pod in the host's network; return its ID and its configuration."""
        shared = field(1, NODE) + field(2, NODE) + field(3, NODE)
        linux = field(2, field(1, shared))
        config = (
            field(1, field(1, name) + field(2, uid) + field(3, namespace))
            + field(3, f"/tmp/logs-of-{uid}")
            + _map(6, labels)
            + _map(7, annotations)
            + field(8, linux)
        )
        return (await self._call("RunPodSandbox", field(1, config)))[1].decode(), config

    async def run_container(
        self, sandbox: tuple[str, bytes], name: str, *, image: str, args: list[str], labels: Mapping[str, str]
    ) -> str:
        """Create and start a container of a pod; return its ID."""
        config = (
            field(1, field(1, name) + field(2, 3))
            + field(2, field(1, image))
            + b"".join(field(3, arg) for arg in args)
            + _map(9, labels)
            + _map(10, {"note": "of the container"})
            + field(11, f"{name}/3.log")
        )
        reply = await self._call("CreateContainer", field(1, sandbox[0]) + field(2, config) + field(3, sandbox[1]))
        made = reply[1].decode()
        await self._call("StartContainer", field(1, made))
        return made

    async def remove_sandbox(self, id: str) -> None:  # noqa: A002
        """Stop and remove a pod with its containers."""
        await self._call("StopPodSandbox", field(1, id))
        await self._call("RemovePodSandbox", field(1, id))


@asynccontextmanager
async def open_cri(address: str) -> AsyncIterator[Cri]:
    """Lend the runtime service of the daemon at the socket."""
    channel = Channel(path=address.removeprefix("unix://"), codec=_Bytes())
    try:
        yield Cri(channel)
    finally:
        channel.close()
