"""What the daemon is made of, by its typed services; and below them, by a generated stub."""

from __future__ import annotations

import argparse

import anyio

from containerd_py import connect
from containerd_py._generated.containerd.services.introspection.v1 import IntrospectionStub, PluginsRequest


async def main(address: str | None, image: str) -> None:
    async with connect(address) as client:
        version = await client.version()
        server = await client.introspection.server()
        print(f"containerd {version.version} {version.revision}, {server.uuid}")
        print("transfers by itself:", client.supports("transfer"))
        print("namespaces:", *(namespace.name for namespace in await client.namespaces.list()))

        record = (await client.ensure_image(image)).target
        info = await client.content.info(record.digest)
        print(f"{record.media_type} of {info.size} bytes, since {info.created_at}, labels {dict(info.labels)}")
        async with client.snapshotter("overlayfs").open_list() as snapshots:
            async for snapshot in snapshots:
                print(f"{snapshot.kind} {snapshot.name} on {snapshot.parent or 'nothing'}")

        # The escape hatch: same connection, same namespace, same typed errors, but protobuf messages. They may change
        # with the generator, which is why their package has an underscore.
        stub = client.services.stub(IntrospectionStub)
        reply = await stub.plugins(PluginsRequest(filters=["type==io.containerd.snapshotter.v1"]))
        print("snapshotters:", *(plugin.id for plugin in reply.plugins if plugin.init_err is None))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="containerd's socket; default: as connect() finds it")
    parser.add_argument("--image", default="docker.io/library/alpine:3.20")
    arguments = parser.parse_args()
    anyio.run(main, arguments.address, arguments.image)
