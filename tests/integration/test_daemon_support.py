"""The support table against the daemons it was made for: what their binaries promise is what they answer."""

from pathlib import Path

import pytest
from grpclib.client import Channel
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError

from codegen import model, outputs
from containerd_py.daemon import open_daemon
from containerd_py.support import LINES, first_line

DAEMONS = Path(__file__).parents[2] / ".cache" / "daemons"
NO_MESSAGE = b"\x00"  # field number 0 is never valid


class Bytes(CodecBase):
    """Sends and receives messages as they are."""

    __content_subtype__ = "proto"

    def encode(self, message, _type):
        return message

    def decode(self, data, _type):
        return data


async def is_served(channel, rpc):
    """Ask without any effect: an RPC that exists fails to decode the request, before its handler sees it."""
    with pytest.raises(GRPCError) as raised:
        async with channel.request(rpc, Cardinality.STREAM_STREAM, bytes, bytes) as stream:
            await stream.send_message(NO_MESSAGE, end=True)
            await stream.recv_message()
    assert raised.value.status in {Status.INTERNAL, Status.UNIMPLEMENTED}
    return raised.value.status is Status.INTERNAL


@pytest.mark.parametrize("line", LINES)
async def test_a_daemon_serves_what_the_table_says(line):
    """Every RPC of the API is served from its first line on, and by no earlier one."""
    rpcs = list(model.rpcs(model.load(outputs.DESCRIPTOR_SET)))
    expected = {rpc for rpc in rpcs if (first := first_line(rpc)) and LINES.index(first) <= LINES.index(line)}
    async with open_daemon(containerd=DAEMONS / line / "bin" / "containerd") as daemon:
        channel = Channel(path=daemon.address.removeprefix("unix://"), codec=Bytes())
        try:
            served = {rpc for rpc in rpcs if await is_served(channel, rpc)}
        finally:
            channel.close()
    assert served == expected
