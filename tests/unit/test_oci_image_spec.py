"""Indexes, manifests and configurations: what is valid is read whole, what is ambiguous is refused with its path."""

import base64
import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.digests import digest_of
from containerd_py.oci.image_spec import (
    MAX_CONFIG_SIZE,
    MAX_MANIFEST_SIZE,
    MAX_REFERENCES,
    History,
    ImageConfig,
    Index,
    Manifest,
    chain_ids,
    container_labels,
    parse_config,
    parse_index,
    parse_manifest,
    reserved_label,
    unpackable_layers,
)
from containerd_py.types import Descriptor, Platform, Timestamp

D = "sha256:" + "d" * 64
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."


def descriptor(media_type: str = OCI + "layer.v1.tar+gzip", digest: str = D, size: object = 7, **more: object) -> dict:
    return {"mediaType": media_type, "digest": digest, "size": size, **more}


def manifest(**changes: object) -> dict:
    return {
        "schemaVersion": 2,
        "mediaType": OCI + "manifest.v1+json",
        "config": descriptor(OCI + "config.v1+json"),
        "layers": [descriptor()],
    } | changes


def index(**changes: object) -> dict:
    entry = descriptor(OCI + "manifest.v1+json", platform={"os": "linux", "architecture": "amd64"})
    return {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": [entry]} | changes


def encode(document: object) -> bytes:
    return json.dumps(document).encode()


# ── what is valid ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_manifest():
    """Every field of a manifest arrives."""
    parsed = parse_manifest(
        encode(
            manifest(
                artifactType="application/x",
                subject=descriptor(OCI + "manifest.v1+json"),
                annotations={"a": "1", "A": "2"},
                layers=[descriptor(annotations={"k": "v"}, urls=["https://a"]), descriptor(size=0)],
            )
        )
    )
    assert parsed == Manifest(
        config=Descriptor(media_type=OCI + "config.v1+json", digest=D, size=7),
        layers=(
            Descriptor(
                media_type=OCI + "layer.v1.tar+gzip", digest=D, size=7, annotations={"k": "v"}, urls=("https://a",)
            ),
            Descriptor(media_type=OCI + "layer.v1.tar+gzip", digest=D, size=0),
        ),
        media_type=OCI + "manifest.v1+json",
        artifact_type="application/x",
        subject=Descriptor(media_type=OCI + "manifest.v1+json", digest=D, size=7),
        annotations={"a": "1", "A": "2"},
    )


def test_index():
    """Every field of an index arrives, with platforms as they are written."""
    platform = {"os": "windows", "architecture": "arm", "variant": "v7", "os.version": "10", "os.features": ["win32k"]}
    parsed = parse_index(encode(index(manifests=[descriptor(OCI + "manifest.v1+json", platform=platform)])))
    assert parsed == Index(
        manifests=(
            Descriptor(
                media_type=OCI + "manifest.v1+json",
                digest=D,
                size=7,
                platform=Platform(
                    os="windows", architecture="arm", variant="v7", os_version="10", os_features=("win32k",)
                ),
            ),
        ),
        media_type=OCI + "index.v1+json",
    )


def test_config():
    """Every field of an image configuration arrives."""
    parsed = parse_config(
        encode(
            {
                "created": "2024-02-29T12:00:00.123456789+02:00",
                "author": "somebody",
                "os": "linux",
                "architecture": "arm",
                "variant": "v7",
                "config": {
                    "Env": ["A=1"],
                    "WorkingDir": "/srv",
                    "User": "app:app",
                    "Entrypoint": ["/init"],
                    "Cmd": ["-x"],
                    "ArgsEscaped": True,
                    "StopSignal": "SIGINT",
                    "Labels": {"Maintainer": "x", "maintainer": "y"},
                    "Volumes": {"/data": {}},
                    "ExposedPorts": {"80/tcp": {}},
                    "Healthcheck": {"Test": ["NONE"]},
                },
                "rootfs": {"type": "layers", "diff_ids": [D]},
                "history": [{"created_by": "ADD", "created": "0001-01-01T00:00:00Z"}, {"empty_layer": True}],
            }
        )
    )
    assert parsed == ImageConfig(
        platform=Platform(os="linux", architecture="arm", variant="v7"),
        created=Timestamp.from_parts(1709200800, 123456789),
        author="somebody",
        env=("A=1",),
        cwd="/srv",
        user="app:app",
        entrypoint=("/init",),
        cmd=("-x",),
        args_escaped=True,
        stop_signal="SIGINT",
        labels={"Maintainer": "x", "maintainer": "y"},
        volumes=("/data",),
        exposed_ports=("80/tcp",),
        diff_ids=(D,),
        history=(History(created_by="ADD"), History(empty_layer=True)),
    )
    assert parsed.created is not None
    assert parsed.created.nanosecond == 123456789


@pytest.mark.parametrize("document", [{}, {"config": None, "rootfs": None, "history": None}, {"config": {"Env": None}}])
def test_empty_config(document: dict):
    """An artifact's configuration says nothing, and null is nothing, as in Go."""
    assert parse_config(encode(document)) == ImageConfig()


def test_null_labels_are_empty():
    """A label of null is an empty one, as in Go."""
    assert dict(parse_config(encode({"config": {"Labels": {"a": None}}})).labels) == {"a": ""}


@pytest.mark.parametrize("document", [{"os": "linux"}, {"architecture": "amd64"}, {"os": "", "architecture": "x"}])
def test_half_a_platform_is_none(document: dict):
    """Without both names there is no platform to match."""
    assert parse_config(encode(document)).platform is None


def test_minimal_documents():
    """Media type and schema version may be missing, and unknown members pass."""
    assert parse_manifest(encode({"config": descriptor(), "vendor": {"x": 1}})).layers == ()
    assert parse_index(encode({"manifests": []})) == Index(manifests=())
    assert parse_index(encode({"manifests": None})) == Index(manifests=())


def test_unknown_leaf_types_pass():
    """Artifacts carry what they like; only the document's own kind is ours to judge."""
    layers = [descriptor("text/plain; charset=utf-8"), descriptor("application/vnd.acme+json")]
    assert [layer.media_type for layer in parse_manifest(encode(manifest(layers=layers))).layers] == [
        "text/plain; charset=utf-8",
        "application/vnd.acme+json",
    ]


# ── confusion ───────────────────────────────────────────────────────────────────────────────────────────────────────

CONFUSED: dict[str, tuple[Callable[[bytes], object], dict, str]] = {
    "manifest with manifests": (parse_manifest, manifest(manifests=[]), "manifests: expected a manifest"),
    "manifest with null manifests": (parse_manifest, manifest(manifests=None), "manifests: expected a manifest"),
    "manifest that says index": (
        parse_manifest,
        manifest(mediaType=OCI + "index.v1+json"),
        "mediaType: expected a man",
    ),
    "manifest that says Docker list": (
        parse_manifest,
        manifest(mediaType=DOCKER + "distribution.manifest.list.v2+json"),
        "mediaType: expected a manifest",
    ),
    "manifest without config": (parse_manifest, {"layers": []}, "config: missing"),
    "manifest with null config": (parse_manifest, manifest(config=None), "config: missing"),
    "index with layers": (parse_index, index(layers=[]), "layers: expected an index"),
    "index with config": (parse_index, index(config=None), "config: expected an index"),
    "index without manifests": (parse_index, {"errors": []}, "manifests: missing"),
    "index that says manifest": (
        parse_index,
        index(mediaType=OCI + "manifest.v1+json"),
        "mediaType: expected an index",
    ),
    "schema 1 by version": (parse_manifest, {"schemaVersion": 1}, "schemaVersion: 1, expected 2"),
    "schema 1 by layers": (parse_manifest, manifest(fsLayers=[]), "fsLayers: Docker schema 1"),
    "schema 1 in an index": (parse_index, index(fsLayers=None), "fsLayers: Docker schema 1"),
    "schema 1 by type": (
        parse_manifest,
        manifest(mediaType=DOCKER + "distribution.manifest.v1+prettyjws"),
        "Docker schema 1",
    ),
    "Manifests in capitals": (
        parse_manifest,
        manifest(Manifests=[]),
        "Manifests: spelled differently from .*manifests",
    ),
    "MediaType in capitals": (parse_manifest, {"MediaType": "x", "config": descriptor()}, "MediaType: spelled"),
    "long s in fsLayers": (parse_manifest, manifest() | {"f\u017flayers": []}, "spelled differently"),
}


@pytest.mark.parametrize(("parse", "document", "message"), CONFUSED.values(), ids=CONFUSED)
def test_confusion(parse: Callable[[bytes], object], document: dict, message: str):
    """What two readers could take for two kinds of document is neither (CVE-2021-41190)."""
    with pytest.raises(InvalidArgumentError, match=message):
        parse(encode(document))


@pytest.mark.parametrize("member", ["Digest", "DIGEST", "digesT", "Size", "\u017fize", "MediaType", "URLs"])
def test_descriptor_fields_in_other_case(member: str):
    """Go would read such a member; so it must not be there, alone or beside the right one."""
    document = manifest(layers=[descriptor(**{member: "x"})])
    with pytest.raises(InvalidArgumentError, match=r"layers\[0\]"):
        parse_manifest(encode(document))


# ── descriptors ─────────────────────────────────────────────────────────────────────────────────────────────────────

BAD_DESCRIPTORS = {
    "no digest": ({"mediaType": "a/b", "size": 1}, "digest: '' is not"),
    "digest null": (descriptor(digest=None), "digest: '' is not"),
    "digest a number": (descriptor(digest=1), "digest: is a number, expected a string"),
    "unknown algorithm": (descriptor(digest="md5:" + "0" * 32), "digest: "),
    "traversal": (descriptor(digest="sha256:../../etc/passwd"), "digest: "),
    "trailing newline": (descriptor(digest=D + "\n"), "digest: "),
    "upper case": (descriptor(digest="sha256:" + "D" * 64), "digest: "),
    "no size": ({"mediaType": "a/b", "digest": D}, "size: missing"),
    "negative size": (descriptor(size=-1), "size: -1"),
    "size 2**63": (descriptor(size=2**63), "size: 9223372036854775808 does not fit"),
    "size true": (descriptor(size=True), "size: is a boolean, expected an integer"),
    "size 7.0": (descriptor(size=7.0), "size: is a number, expected an integer"),
    "size '7'": (descriptor(size="7"), "size: is a string, expected an integer"),
    "no type": ({"digest": D, "size": 1}, "mediaType: '' is not"),
    "type with newline": (descriptor("a/b\r\nX: y"), "mediaType: "),
    "type in Cyrillic": (descriptor("text/\u0440lain"), "mediaType: "),
    "long type": (descriptor("a/" + "b" * 254), "mediaType: "),
    "annotations a list": (descriptor(annotations=[]), "annotations: is an array"),
    "annotation a number": (descriptor(annotations={"a": 1}), "annotations: member 'a' is a number"),
    "urls a string": (descriptor(urls="https://a"), "urls: is a string"),
    "url a number": (descriptor(urls=[1]), "urls: item 0 is a number"),
    "platform a string": (descriptor(platform="linux"), "platform: is a string"),
    "platform os a number": (descriptor(platform={"os": 1}), r"platform\.os: is a number"),
    "data no base64": (descriptor(data="!!!!"), "data: not base64"),
    "data in URL alphabet": (descriptor(data="_-8="), "data: not base64"),
    "data too short": (descriptor(data=base64.b64encode(b"123456").decode()), "data: 6 bytes, size says 7"),
    "data of another digest": (descriptor(data=base64.b64encode(b"1234567").decode()), "data: does not have digest"),
    "a string": ("x", "item 0 is a string, expected an object"),
}


@pytest.mark.parametrize(("entry", "message"), BAD_DESCRIPTORS.values(), ids=BAD_DESCRIPTORS)
def test_bad_descriptor(entry: object, message: str):
    """A descriptor that cannot be true never becomes a value, wherever it stands; the path says where."""
    with pytest.raises(InvalidArgumentError, match=r"^manifest: layers.*" + message):
        parse_manifest(encode(manifest(layers=[entry])))
    with pytest.raises(InvalidArgumentError, match=r"^index: manifests.*" + message):
        parse_index(encode(index(manifests=[entry])))


def test_inline_data():
    """Inline data that is what the descriptor says arrives decoded, by any of the three algorithms."""
    for algorithm in ("sha256", "sha384", "sha512"):
        digest = digest_of(b"{}", algorithm=algorithm)
        parsed = parse_manifest(encode(manifest(config=descriptor(digest=digest, size=2, data="e30="))))
        assert parsed.config.data == b"{}"


@given(st.integers(0, 2**63 - 1))
def test_every_size_of_64_bits_passes(size: int):
    """Sizes are signed 64-bit numbers of bytes."""
    assert parse_manifest(encode(manifest(layers=[descriptor(size=size)]))).layers[0].size == size


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize(
    ("parse", "document", "limit"),
    [
        (parse_manifest, manifest(), MAX_MANIFEST_SIZE),
        (parse_index, index(), MAX_MANIFEST_SIZE),
        (parse_config, {}, MAX_CONFIG_SIZE),
    ],
)
def test_document_size_limit(parse: Callable[[bytes], object], document: dict, limit: int, extra: int):
    """N-1 and N bytes pass, N+1 do not."""
    data = encode(document).ljust(limit + extra)
    if extra > 0:
        with pytest.raises(InvalidArgumentError, match=f"more than the {limit} allowed"):
            parse(data)
    else:
        parse(data)


@pytest.mark.parametrize("count", [MAX_REFERENCES - 1, MAX_REFERENCES, MAX_REFERENCES + 1])
def test_reference_limit(count: int):
    """10,000 references pass, 10,001 do not."""
    data = encode(manifest(layers=[descriptor()] * count))
    if count > MAX_REFERENCES:
        with pytest.raises(InvalidArgumentError, match="layers: 10001 entries"):
            parse_manifest(data)
    else:
        assert len(parse_manifest(data).layers) == count


# ── configurations ──────────────────────────────────────────────────────────────────────────────────────────────────

BAD_CONFIGS = {
    "Env a string": ({"config": {"Env": "A=1"}}, r"config\.Env: is a string"),
    "Env of numbers": ({"config": {"Env": [1]}}, r"config\.Env: item 0 is a number"),
    "Entrypoint a string": ({"config": {"Entrypoint": "/bin/sh"}}, r"config\.Entrypoint: is a string"),
    "User a number": ({"config": {"User": 0}}, r"config\.User: is a number"),
    "env in small letters": ({"config": {"env": []}}, r"config\.env: spelled differently from the field 'Env'"),
    "Config in capitals": ({"Config": {}}, "Config: spelled differently"),
    "label a number": ({"config": {"Labels": {"a": 1}}}, r"config\.Labels: member 'a' is a number"),
    "Volumes a list": ({"config": {"Volumes": ["/x"]}}, r"config\.Volumes: is an array"),
    "diff_ids of nothing": ({"rootfs": {"diff_ids": ["sha256:"]}}, r"rootfs\.diff_ids: item 0"),
    "diff_ids with traversal": ({"rootfs": {"diff_ids": [D, "../x"]}}, r"rootfs\.diff_ids: item 1"),
    "rootfs of another kind": ({"rootfs": {"type": "base"}}, r"rootfs\.type: 'base'"),
    "created no time": ({"created": "yesterday"}, "created: 'yesterday' is not"),
    "created a number": ({"created": 1}, "created: is a number"),
    "history a map": ({"history": {}}, "history: is an object"),
    "history time": ({"history": [{}, {"created": "x"}]}, r"history\[1\]\.created: 'x' is not"),
    "empty_layer a string": ({"history": [{"empty_layer": "true"}]}, r"history\[0\]\.empty_layer: is a string"),
    "os a list": ({"os": ["linux"]}, "os: is an array"),
}


@pytest.mark.parametrize(("document", "message"), BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_bad_config(document: dict, message: str):
    """A configuration with a field of the wrong kind is refused with the path to it."""
    with pytest.raises(InvalidArgumentError, match="^image config: " + message):
        parse_config(encode(document))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1970-01-01T00:00:00Z", (0, 0)),
        ("1969-12-31T23:59:59.5Z", (-1, 500_000_000)),
        ("2024-01-01T00:00:00.000000001Z", (1704067200, 1)),
        ("2024-01-01T00:00:00.1234567891Z", (1704067200, 123456789)),
        ("2024-01-01T00:00:00-05:30", (1704067200 + 19800, 0)),
        ("9999-12-31T23:59:59.999999999Z", (253402300799, 999999999)),
    ],
)
def test_times(text: str, parts: tuple[int, int]):
    """Times keep their nanoseconds, whatever their offset and century."""
    created = parse_config(encode({"created": text})).created
    assert created is not None
    assert created.parts == parts


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-01 00:00:00Z",
        "2024-01-01T00:00:00",
        "2024-01-01t00:00:00z",
        "2024-02-30T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:60Z",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00+00:60",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "2024-01-01T00:00:00Z\n",
        "\u0662024-01-01T00:00:00Z",
        "2024-01-01T00:00:00." + "0" * 100 + "Z",
    ],
)
def test_bad_times(text: str):
    """Anything but RFC 3339 between the years 1 and 9999 is refused."""
    with pytest.raises(InvalidArgumentError, match=r"^image config: created: "):
        parse_config(encode({"created": text}))


# ── manifest and configuration together ─────────────────────────────────────────────────────────────────────────────


def test_unpackable_layers():
    """Layers pair with diff IDs in order; what is no layer is left out."""
    layers = [descriptor(size=1), descriptor("application/vnd.acme", size=2), descriptor(size=3)]
    other = "sha256:" + "e" * 64
    parsed = parse_manifest(encode(manifest(layers=layers)))
    pairs = unpackable_layers(parsed, ImageConfig(diff_ids=(D, other)))
    assert [(layer.size, diff_id) for layer, diff_id in pairs] == [(1, D), (3, other)]
    assert len(chain_ids(diff_id for _, diff_id in pairs)) == 2


@pytest.mark.parametrize("diff_ids", [(), (D, D)])
def test_layers_and_diff_ids_must_pair(diff_ids: tuple[str, ...]):
    """Fewer or more diff IDs than layers is an image that cannot be unpacked."""
    with pytest.raises(InvalidArgumentError, match=f"{len(diff_ids)} entries for 1 layers"):
        unpackable_layers(parse_manifest(encode(manifest())), ImageConfig(diff_ids=diff_ids))


# ── labels ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("key", "reserved"),
    [
        ("containerd.io/restart.loguri", True),
        ("containerd.io/", True),
        ("io.cri-containerd.kind", True),
        ("io.cri-containerd", True),
        ("containerd.iox", False),
        ("io.containerd.image.config.stop-signal", False),
        ("Containerd.io/x", False),
        ("nerdctl/state-dir", True),
        ("containerd-py/log-folder", True),
        ("nerdctl", False),
        ("", False),
    ],
)
def test_reserved_label(key: str, reserved: bool):
    """containerd's, its CRI plugin's, nerdctl's and our own prefixes are reserved, exactly as they are compared."""
    assert reserved_label(key) is reserved


def test_container_labels():
    """Reserved, oversized and nameless labels of an image stay behind, each reported with its reason."""
    fits, long = "v" * 4095, "v" * 4096
    taken = container_labels(
        ImageConfig(
            labels={
                "containerd.io/restart.loguri": "binary:///bin/sh",
                "a": fits,
                "b": long,
                "c": "\u20ac" * 1366,
                "": "x",
                "org.acme": "x",
            }
        )
    )
    assert dict(taken.labels) == {"a": fits, "org.acme": "x"}
    assert [(dropped.key, dropped.reason) for dropped in taken.dropped] == [
        ("containerd.io/restart.loguri", "reserved"),
        ("b", "oversized"),
        ("c", "oversized"),
        ("", "empty key"),
    ]


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20)))
def test_every_label_is_kept_or_reported(labels: dict[str, str]):
    """Nothing disappears silently and nothing reserved gets through."""
    taken = container_labels(ImageConfig(labels=labels))
    assert taken.labels.keys() | {dropped.key for dropped in taken.dropped} == labels.keys()
    assert not any(key.startswith("containerd.io/") or not key for key in taken.labels)


# ── everything ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.binary(max_size=200), st.sampled_from([parse_manifest, parse_index, parse_config]))
def test_garbage_gives_the_one_error(data: bytes, parse: Callable[[bytes], object]):
    """Nothing but InvalidArgumentError comes out of garbage."""
    try:
        parse(data)
    except InvalidArgumentError as error:
        assert re.match(r"^(manifest|index|image config): ", str(error))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from([D, OCI + "index.v1+json"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "config",
                    "layers",
                    "manifests",
                    "digest",
                    "size",
                    "mediaType",
                    "platform",
                    "rootfs",
                    "diff_ids",
                    "data",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(json_values, st.sampled_from([parse_manifest, parse_index, parse_config]))
def test_no_document_is_two_things(value: object, parse: Callable[[bytes], object]):
    """A document one parser takes as a manifest, the other does not take as an index."""
    data = encode(value)
    accepted = []
    for candidate in (parse_manifest, parse_index):
        try:
            candidate(data)
            accepted.append(candidate)
        except InvalidArgumentError:
            pass
    assert len(accepted) < 2
