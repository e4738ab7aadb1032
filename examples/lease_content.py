"""Write a blob of one's own into the content store, keep it by a lease, and see it collected."""

from __future__ import annotations

import argparse
import hashlib
from datetime import timedelta

import anyio

from containerd_py import Descriptor, NotFoundError, connect

DATA = b"a blob that no image names\n" * 100_000
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


async def main(address: str | None) -> None:
    async with connect(address) as client:
        async with client.hold_lease(expires_in=timedelta(hours=1), labels={"example": "lease"}) as leased:
            async with leased.content.open_writer("example-blob", total=len(DATA), expected=DIGEST) as writer:
                for start in range(writer.offset, len(DATA), 2**20):  # an interrupted write is gone on with
                    await writer.write(DATA[start : start + 2**20])
                await writer.commit(labels={"example": "lease"})
            blob = Descriptor(media_type="text/plain", digest=DIGEST, size=len(DATA))
            print("read and verified:", len(await leased.read_blob(blob)), "bytes")
            for lease in await client.leases.list():
                print(lease.id, lease.created_at, await client.leases.list_resources(lease.id))

        await client.leases.delete((await client.leases.create("example-collect")).id, synchronous=True)
        try:
            await client.content.info(DIGEST)
        except NotFoundError:
            print("collected")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="containerd's socket; default: as connect() finds it")
    arguments = parser.parse_args()
    anyio.run(main, arguments.address)
