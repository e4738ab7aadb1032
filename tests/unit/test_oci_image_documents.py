"""Documents of new images: what changes, what stays, and that the same input gives the same bytes."""

import json

import pytest

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.config_changes import NO_CHANGES, ConfigChanges, apply_changes
from containerd_py.oci.image_documents import (
    config_document,
    descriptor_document,
    dump_document,
    load_document,
    manifest_document,
)
from containerd_py.oci.image_spec import History, parse_config, parse_index, parse_manifest
from containerd_py.oci.media_type_families import check_compression, check_family, family_of, in_family, layer_type
from containerd_py.oci.media_types import (
    MEDIA_TYPE_CONFIG,
    MEDIA_TYPE_DOCKER_LAYER_ZSTD,
    MEDIA_TYPE_DOCKER_MANIFEST,
    MEDIA_TYPE_INDEX,
    MEDIA_TYPE_LAYER_GZIP,
    MEDIA_TYPE_LAYER_ZSTD,
    MEDIA_TYPE_MANIFEST,
)
from containerd_py.types import Descriptor, Platform, Timestamp

AMD64 = Platform(os="linux", architecture="amd64")
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


# ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_variables_keep_their_place_and_new_ones_follow():
    """A changed variable stays where it was, a removed one goes, a new one comes last."""
    before = {"Env": ["A=1", "B=2", "C=3"], "Hostname": "x"}
    after = apply_changes(before, ConfigChanges(env={"D": "4", "B": "two", "A": None}))
    assert after == {"Env": ["B=two", "C=3", "D=4"], "Hostname": "x"}
    assert before["Env"] == ["A=1", "B=2", "C=3"]


@pytest.mark.parametrize(
    "changes, expected",
    [
        (ConfigChanges(), {"Entrypoint": ["e"], "Cmd": ["c"], "ArgsEscaped": True}),
        (ConfigChanges(cmd=["d"]), {"Entrypoint": ["e"], "Cmd": ["d"]}),
        (ConfigChanges(entrypoint=["f"]), {"Entrypoint": ["f"]}),
        (ConfigChanges(entrypoint=["f"], cmd=["d"]), {"Entrypoint": ["f"], "Cmd": ["d"]}),
        (ConfigChanges(entrypoint=[]), {}),
        (ConfigChanges(cmd=[]), {"Entrypoint": ["e"]}),
    ],
)
def test_a_new_entrypoint_drops_the_old_arguments(changes: ConfigChanges, expected: dict[str, object]):
    """What belonged to another program does not go to the new one."""
    assert apply_changes({"Entrypoint": ["e"], "Cmd": ["c"], "ArgsEscaped": True}, changes) == expected


def test_maps_are_added_to_and_empty_values_remove():
    """Ports and volumes are added, labels laid over; empty texts remove what was there."""
    before = {"Labels": {"a": "1", "b": "2"}, "ExposedPorts": {"80/tcp": {}}, "User": "u", "StopSignal": "SIGINT"}
    changes = ConfigChanges(
        labels={"a": None, "c": "3"}, exposed_ports=["53/udp", "443"], volumes=["/v"], user="", stop_signal=""
    )
    assert apply_changes(before, changes) == {
        "Labels": {"b": "2", "c": "3"},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "443/tcp": {}},
        "Volumes": {"/v": {}},
    }


@pytest.mark.parametrize(
    "arguments",
    [
        {"env": {"": "x"}},
        {"env": {"A=B": "x"}},
        {"env": {"A": "x\0"}},
        {"cmd": "one string"},
        {"cmd": ["x\0"]},
        {"user": "a:b:c"},
        {"user": "4294967296"},
        {"workdir": "relative"},
        {"volumes": ["relative"]},
        {"exposed_ports": ["0"]},
        {"exposed_ports": ["65536/tcp"]},
        {"exposed_ports": ["9-8"]},
        {"exposed_ports": ["80/sctp\n"]},
        {"exposed_ports": ["http"]},
        {"stop_signal": "SIGNOT"},
        {"labels": {"": "x"}},
        {"labels": {"big": "x" * 4096}},
        {"labels": {"containerd.io/restart.loguri": "binary:///x"}},
    ],
)
def test_changes_that_no_container_could_use_are_refused(arguments):
    """Changes are checked when they are written down."""
    with pytest.raises(InvalidArgumentError):
        ConfigChanges(**arguments)


def test_changes_are_values():
    """Two are equal when they say the same, and nothing can be changed behind them."""
    env = {"A": "1"}
    changes = ConfigChanges(env=env, cmd=["x"])
    env["A"] = "2"
    assert changes == ConfigChanges(env={"A": "1"}, cmd=("x",))
    assert not changes.is_empty
    assert ConfigChanges().is_empty
    assert NO_CHANGES.is_empty


# ── configurations ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_configuration_out_of_nothing():
    """It says platform, layers, history and nothing more, with times as Go writes them."""
    document = config_document(
        None,
        platform=Platform(os="linux", architecture="arm64", variant="v8"),
        diff_ids=[DIGEST],
        history=[History(created=Timestamp.from_parts(1, 500_000_000), created_by="me")],
        created=Timestamp.from_parts(1, 0),
        author="somebody",
    )
    assert document == {
        "architecture": "arm64",
        "os": "linux",
        "variant": "v8",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "history": [{"created": "1970-01-01T00:00:01.5Z", "created_by": "me"}],
        "created": "1970-01-01T00:00:01Z",
        "author": "somebody",
    }
    parsed = parse_config(dump_document(document))
    assert parsed.diff_ids == (DIGEST,)
    assert parsed.history[0].created == Timestamp.from_parts(1, 500_000_000)


def test_a_configuration_on_top_of_another():
    """Unknown members stay, what tells how the base was made goes, history covers every layer."""
    base = {
        "architecture": "amd64",
        "os": "linux",
        "id": "x",
        "parent": "y",
        "container_config": {"Image": "z"},
        "docker_version": "1",
        "moby.buildkit.buildinfo.v1": "…",
        "config": {"Image": "sha256:…", "Healthcheck": {"Test": ["NONE"]}, "Env": ["A=1"]},
        "rootfs": {"type": "layers", "diff_ids": [OTHER, OTHER]},
        "history": [{"created_by": "one"}, {"empty_layer": True}],
        "org.example.own": {"kept": 1.5},
    }
    document = config_document(
        json.dumps(base).encode(), platform=AMD64, diff_ids=[DIGEST], history=[History(created_by="new")]
    )
    assert document == {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Healthcheck": {"Test": ["NONE"]}, "Env": ["A=1"]},
        "rootfs": {"type": "layers", "diff_ids": [OTHER, OTHER, DIGEST]},
        "history": [{"created_by": "one"}, {"empty_layer": True}, {}, {"created_by": "new"}],
        "org.example.own": {"kept": 1.5},
    }


def test_the_same_input_gives_the_same_bytes():
    """Documents are written in one way only."""
    layer = Descriptor(media_type=MEDIA_TYPE_LAYER_GZIP, digest=DIGEST, size=1)
    config = Descriptor(media_type=MEDIA_TYPE_CONFIG, digest=OTHER, size=2)

    def make() -> bytes:
        return dump_document(manifest_document(media_type=MEDIA_TYPE_MANIFEST, config=config, layers=[layer]))

    assert make() == make()
    manifest = parse_manifest(make())
    assert (manifest.config, manifest.layers, manifest.media_type) == (config, (layer,), MEDIA_TYPE_MANIFEST)


def test_descriptors_come_back_as_they_were():
    """Everything of a descriptor is written, and read again."""
    descriptor = Descriptor(
        media_type=MEDIA_TYPE_MANIFEST,
        digest="sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
        size=5,
        annotations={"a": "b"},
        platform=Platform(os="windows", architecture="amd64", os_version="10.0.1", os_features=("win32k",)),
        urls=("https://registry.example/x",),
        data=b"hello",
        artifact_type="application/x",
    )
    index = {"schemaVersion": 2, "mediaType": MEDIA_TYPE_INDEX, "manifests": [descriptor_document(descriptor)]}
    assert parse_index(dump_document(index)).manifests == (descriptor,)


def test_hostile_documents_are_not_loaded():
    """What two readers could understand differently is refused, here as elsewhere."""
    with pytest.raises(InvalidArgumentError, match="twice"):
        load_document(b'{"a": 1, "a": 2}', what="manifest")


# ── media types ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_families_of_media_types():
    """OCI's and Docker's types correspond; for zstd there is OCI's alone."""
    assert in_family(MEDIA_TYPE_DOCKER_MANIFEST, "oci") == MEDIA_TYPE_MANIFEST
    assert in_family(MEDIA_TYPE_MANIFEST, "docker") == MEDIA_TYPE_DOCKER_MANIFEST
    assert in_family("application/x", "oci") == "application/x"
    assert in_family(MEDIA_TYPE_DOCKER_LAYER_ZSTD, "oci") == MEDIA_TYPE_LAYER_ZSTD
    assert family_of(MEDIA_TYPE_DOCKER_MANIFEST) == "docker"
    assert family_of(MEDIA_TYPE_MANIFEST) == "oci"
    for media_type in (MEDIA_TYPE_LAYER_ZSTD, MEDIA_TYPE_DOCKER_LAYER_ZSTD, "application/x"):
        with pytest.raises(InvalidArgumentError, match="Docker"):
            in_family(media_type, "docker")
    with pytest.raises(InvalidArgumentError):
        layer_type("zstd", "docker")
    with pytest.raises(InvalidArgumentError, match="gzip, zstd, none"):
        check_compression("xz")
    with pytest.raises(InvalidArgumentError, match="oci, docker"):
        check_family("other")
