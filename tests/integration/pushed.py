"""What a push left at a registry, seen with other eyes than ours: skopeo's, or a look into the registry itself."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from anyio import to_thread

from containerd_py import AlreadyExistsError, Client, Descriptor, ImageRecord
from tests.harness.registry_content import Content

EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


async def skopeo(*arguments: str) -> bytes:
    """Run skopeo; what it prints is returned."""
    done = await to_thread.run_sync(
        lambda: subprocess.run(["skopeo", *arguments], capture_output=True, check=False, timeout=60)
    )
    assert done.returncode == 0, f"skopeo {' '.join(arguments)}: {done.stderr.decode()}"
    return done.stdout


async def copied(ref: str, folder: Path, *options: str) -> str:
    """Have skopeo fetch everything of an image, verifying it; return the digest of what the reference names."""
    await skopeo("copy", "--quiet", "--all", "--src-tls-verify=false", *options, f"docker://{ref}", f"dir:{folder}")
    return "sha256:" + hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


async def raw_manifest(ref: str) -> bytes:
    """Have skopeo fetch what a reference names, as it is."""
    return await skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{ref}")


def held(content: Content, repository: str) -> tuple[Any, ...]:
    """Return what a repository holds: blobs, manifests with their types, tags."""
    found = content.repository(repository)
    manifests = {digest: stored.media_type for digest, stored in found.manifests.items()}
    return sorted(found.blobs), manifests, dict(found.tags)


async def store(client: Client, data: bytes, media_type: str, labels: Mapping[str, str] | None = None) -> Descriptor:
    """Put a blob into the content store."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    with suppress(AlreadyExistsError):
        async with client.content.open_writer(f"test-{digest}", total=len(data), expected=digest) as writer:
            await writer.write(data[writer.offset :])  # another namespace may have it all
            await writer.commit(labels=labels or {})
    return Descriptor(media_type=media_type, digest=digest, size=len(data))


async def store_artifact(
    client: Client,
    name: str,
    data: bytes,
    *,
    kind: str = "application/vnd.example.thing",
    subject: Descriptor | None = None,
) -> Descriptor:
    """Make an artifact with an empty configuration, under an image record."""
    async with client.hold_lease() as leased:
        config = await store(leased, EMPTY, EMPTY_TYPE)
        layer = await store(leased, data, "text/plain")
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": kind,
            "config": _plain(config),
            "layers": [_plain(layer)],
        }
        if subject is not None:
            document["subject"] = _plain(subject)
        labels = {
            "containerd.io/gc.ref.content.0": config.digest,
            "containerd.io/gc.ref.content.1": layer.digest,
        }
        target = await store(leased, json.dumps(document).encode(), MANIFEST_TYPE, labels)
        await leased.images.create(ImageRecord(name=name, target=target))
    return target


def _plain(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}
