"""Images for tests: whole, small, and the same every time."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile

import pytest

from containerd_py.errors import FailedPreconditionError
from containerd_py.oci.media_types import MEDIA_TYPE_DOCKER_MANIFEST_LIST, MEDIA_TYPE_LAYER, is_index, is_layer
from containerd_py.testing.images import ImageOptions, busybox_layout, this_platform
from containerd_py.testing.layers import LayerFile, random_layers, write_layer
from containerd_py.types import Platform


def opened(layout, descriptor):
    data = layout.blob(descriptor.digest).read_bytes()
    plain = gzip.decompress(data) if descriptor.media_type.endswith("gzip") else data
    return tarfile.open(fileobj=io.BytesIO(plain)), plain


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    extra = [LayerFile(path="etc/app/"), LayerFile(path="etc/app/conf", data=b"x=1\n", mode=0o600, uid=5, gid=6)]
    options = ImageOptions(user="app", labels={"a": "b"}, stop_signal="SIGINT")
    return busybox_layout(tmp_path_factory.mktemp("image"), layers=[extra], options=options)


def test_every_blob_is_what_its_descriptor_says(layout):
    """Digest and size of each blob are right, and so are the configuration's diff IDs."""
    (manifest,) = layout.manifests
    config, *layers = layout.blobs_of(manifest)
    for descriptor in (manifest, config, *layers):
        data = layout.blob(descriptor.digest).read_bytes()
        assert len(data) == descriptor.size
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == descriptor.digest
    diff_ids = [f"sha256:{hashlib.sha256(opened(layout, layer)[1]).hexdigest()}" for layer in layers]
    assert layout.read_json(config)["rootfs"]["diff_ids"] == diff_ids
    assert all(is_layer(layer.media_type) for layer in layers)


def test_the_base_has_what_a_container_needs(layout):
    """Shell, users, groups and a world-writable /tmp are there."""
    _, base, _ = layout.blobs_of(layout.target)
    archive, _ = opened(layout, base)
    assert archive.getmember("bin/busybox").mode == 0o755
    assert archive.getmember("bin/sh").linkname == "busybox"
    assert archive.getmember("tmp").mode == 0o1777
    assert b"app:x:1000:1000:" in archive.extractfile("etc/passwd").read()
    assert b"audio:x:29:app" in archive.extractfile("etc/group").read()


def test_further_layers_and_options(layout):
    """Files keep mode and owner; the configuration says only what was asked for."""
    config, _, extra = layout.blobs_of(layout.target)
    archive, _ = opened(layout, extra)
    member = archive.getmember("etc/app/conf")
    assert (member.mode, member.uid, member.gid, member.mtime) == (0o600, 5, 6, 0)
    running = layout.read_json(config)["config"]
    assert (running["User"], running["Labels"], running["StopSignal"]) == ("app", {"a": "b"}, "SIGINT")
    assert "Entrypoint" not in running


def test_the_same_every_time(tmp_path):
    """Two builds have one digest, random layers included."""
    digests = {
        busybox_layout(tmp_path / name, layers=random_layers(2, 3_000_000)).target.digest for name in ("one", "two")
    }
    assert len(digests) == 1


def test_an_index_of_two_platforms(tmp_path):
    """An index names a manifest per platform; Docker's types go all the way down."""
    platforms = [this_platform(), Platform(os="linux", architecture="arm", variant="v7")]
    layout = busybox_layout(tmp_path, platforms=platforms, docker=True)
    assert is_index(layout.target.media_type)
    assert layout.target.media_type == MEDIA_TYPE_DOCKER_MANIFEST_LIST
    listed = layout.read_json(layout.target)["manifests"]
    assert listed[1]["platform"] == {"os": "linux", "architecture": "arm", "variant": "v7"}
    assert [manifest.platform for manifest in layout.manifests] == platforms
    for manifest in layout.manifests:
        assert all(".docker." in descriptor.media_type for descriptor in layout.blobs_of(manifest))


def test_plain_layers(tmp_path):
    """Without compression a layer's digest is its diff ID."""
    layer = write_layer(tmp_path, [LayerFile(path="random", random_size=2_500_000)], compression="none")
    assert layer.descriptor.media_type == MEDIA_TYPE_LAYER
    assert layer.descriptor.digest == layer.diff_id
    assert layer.descriptor.size > 2_500_000


def test_a_busybox_that_is_missing(tmp_path):
    """The error says what to install."""
    with pytest.raises(FailedPreconditionError, match="apt-get install busybox-static"):
        busybox_layout(tmp_path, busybox=tmp_path / "busybox")


def test_a_busybox_with_shared_libraries(tmp_path):
    """A dynamically linked program would not start in an image of its own."""
    with pytest.raises(FailedPreconditionError, match="shared libraries"):
        busybox_layout(tmp_path, busybox="/bin/ls")
