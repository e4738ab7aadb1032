"""Layers of media types that the daemon's stream processors take apart, as encrypted ones are."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from containerd_py import Client, ContainerdError, Descriptor, TypedValue, connect, open_daemon
from containerd_py.oci.media_types import MEDIA_TYPE_LAYER
from tests.unit.tars import tar_layer

ENCODED = "application/vnd.example.layer.v1.tar+base64"
PROCESSORS = """
[stream_processors."example"]
accepts = ["{encoded}"]
returns = "{layer}"
path = "{program}"
"""


@pytest.fixture
async def processing(daemon_bin: Path, tmp_path: Path, namespace: str) -> AsyncIterator[Client]:
    """Lend a client of a daemon with a processor that undoes base64, and keeps the payload it is given."""
    program, more, wrapper = tmp_path / "processor", tmp_path / "more.toml", tmp_path / "containerd"
    program.write_text(f'#!/bin/sh\ncat "/proc/self/fd/3" > "{tmp_path}/payload" 2>/dev/null\nexec base64 -d\n')
    more.write_text(PROCESSORS.format(encoded=ENCODED, layer=MEDIA_TYPE_LAYER, program=program))
    wrapper.write_text(f'#!/bin/sh\ncat "$2" "{more}" > "$2.more"\nexec "{daemon_bin}/containerd" --config "$2.more"\n')
    for script in (program, wrapper):
        script.chmod(0o755)
    path = f"{daemon_bin}:{os.environ['PATH']}:/usr/sbin:/sbin"
    async with (
        open_daemon(containerd=wrapper, env={"PATH": path}, log_path=tmp_path / "log") as daemon,
        connect(daemon.address, namespace=namespace) as client,
        client.hold_lease() as leased,
    ):
        yield leased


@pytest.mark.lines("1.6", "2.1")
async def test_a_layer_is_processed_with_its_payload(processing: Client, tmp_path: Path) -> None:
    """The processor gets the layer and what the caller gave for it; what comes out is applied, and its digest told."""
    layer = tar_layer("file", b"hello")
    data = base64.encodebytes(layer)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    async with processing.content.open_writer("layer", total=len(data), expected=digest) as writer:
        await writer.write(data)
        await writer.commit()
    encoded = Descriptor(media_type=ENCODED, digest=digest, size=len(data))
    snapshots = processing.snapshotter("native")
    mounts = await snapshots.prepare("active")
    payload = TypedValue(type_url="org.example.Key", value=b"the key")
    applied = await processing.diff.apply(encoded, mounts, payloads={"example": payload})
    assert applied.digest == f"sha256:{hashlib.sha256(layer).hexdigest()}"
    assert (Path(mounts[0].source) / "file").read_bytes() == b"hello"
    assert b"the key" in (tmp_path / "payload").read_bytes()
    with pytest.raises(ContainerdError):
        unknown = Descriptor(media_type=f"{ENCODED}+unknown", digest=digest, size=len(data))
        await processing.diff.apply(unknown, mounts)
