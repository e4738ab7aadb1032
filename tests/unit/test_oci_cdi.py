"""CDI specifications: what is read, what is refused, which counts, and what it does to a spec."""

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py.errors import ContainerdError, InvalidArgumentError, MissingExtraError, NotFoundError
from containerd_py.oci.cdi_edits import resolve, with_edits
from containerd_py.oci.cdi_registry import read_cdi_registry
from containerd_py.oci.cdi_spec import VERSIONS, check_device_name, read_cdi_spec
from containerd_py.oci.cdi_yaml import load_yaml_object
from containerd_py.oci.default_spec import default_spec

ENV = {"env": ["A=1"]}


def document(edits=ENV, *, version="1.1.0", kind="vendor.example/class", name="one", **members):
    return {"cdiVersion": version, "kind": kind, "devices": [{"name": name, "containerEdits": edits}]} | members


def read(*args, **kwargs):
    return read_cdi_spec(document(*args, **kwargs), what="test")


def applied(edits, spec=None):
    found = read(edits).devices[0].edits
    return with_edits(resolve(found))(spec or default_spec(namespace="ns", id="c"))


@pytest.mark.parametrize("version", VERSIONS)
def test_all_versions_are_read(version):
    """Every released version is taken, with or without a v before it; what needs no later one is in 0.3.0."""
    if VERSIONS.index(version) < VERSIONS.index("0.3.0"):
        with pytest.raises(InvalidArgumentError, match=r"needs 0\.3\.0"):
            read(version=version)
    else:
        assert read(version=version).version == version
        assert read(version=f"v{version}").version == version


@pytest.mark.parametrize(
    ("needed", "arguments"),
    [
        ("0.4.0", {"edits": {"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "bind"}]}}),
        ("0.5.0", {"edits": {"deviceNodes": [{"path": "/dev/a", "hostPath": "/dev/null"}]}}),
        ("0.5.0", {"name": "0"}),
        ("0.6.0", {"annotations": {"example.org/key": "value"}}),
        ("0.6.0", {"kind": "vendor.example/a.b"}),
        ("0.7.0", {"edits": {"additionalGids": [7]}}),
        ("0.7.0", {"edits": {"intelRdt": {"closID": "a"}}}),
        ("1.1.0", {"edits": {"intelRdt": {"enableMonitoring": True}}}),
        ("1.1.0", {"edits": {"netDevices": [{"hostInterfaceName": "eth1", "name": "net0"}]}}),
    ],
)
def test_a_feature_needs_its_version(needed, arguments):
    """What a later version brought is refused in a specification of an earlier one, and taken from that one on."""
    before = VERSIONS[VERSIONS.index(needed) - 1]
    with pytest.raises(InvalidArgumentError, match=f"needs {needed}"):
        read(**arguments, version=before)
    assert read(**arguments, version=needed).version == needed


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cdiVersion": "9.9.9"}, "not a version"),
        ({"cdiVersion": 1}, "a number"),
        ({"kind": "noclass"}, "vendor.example/class"),
        ({"kind": "-a/b"}, "vendor.example/class"),
        ({"kind": "a/b/c"}, "vendor.example/class"),
        ({"devices": []}, "there is none"),
        ({"devices": "x"}, "an array"),
        ({"surprise": 1}, "no such member"),
        ({"Kind": "a/b"}, "spelled differently"),
        ({"annotations": {"a b": "c"}}, "no qualified name"),
        ({"annotations": {"a": "x" * 300_000}}, "more than"),
        ({"containerEdits": {"env": ["=1"]}}, "NAME=value"),
        ({"containerEdits": {"env": ["A"]}}, "NAME=value"),
        ({"containerEdits": {"env": ["A=\0"]}}, "NUL"),
        ({"containerEdits": {"hooks": [{"hookName": "never", "path": "/a"}]}}, "is not one of"),
        ({"containerEdits": {"hooks": [{"hookName": "prestart", "path": "a"}]}}, "absolute"),
        ({"containerEdits": {"mounts": [{"hostPath": "/a"}]}}, "containerPath: missing"),
        ({"containerEdits": {"mounts": [{"hostPath": "", "containerPath": "/a"}]}}, "hostPath: missing"),
        ({"containerEdits": {"deviceNodes": [{"path": ""}]}}, "path: missing"),
        ({"containerEdits": {"deviceNodes": [{"path": "/dev/a", "type": "x"}]}}, "is not b, c, u or p"),
        ({"containerEdits": {"deviceNodes": [{"path": "/dev/a", "permissions": "rx"}]}}, "other letters"),
        ({"containerEdits": {"deviceNodes": [{"path": "/dev/a", "uid": -1}]}}, "is not in 0 to"),
        ({"containerEdits": {"deviceNodes": [{"path": "/dev/a", "extra": 1}]}}, "no such member"),
        ({"containerEdits": {"intelRdt": {"closID": "a/b"}}}, "directory"),
        ({"containerEdits": {"additionalGids": [-1]}}, "group ID"),
        ({"containerEdits": {"additionalGids": [True]}}, "group ID"),
        ({"containerEdits": {"netDevices": [{"hostInterfaceName": "a", "name": "b"}] * 2}}, "the same name"),
        ({"devices": [{"name": "a", "containerEdits": {}}]}, "edits nothing"),
        ({"devices": [{"name": "a", "containerEdits": ENV}] * 2}, "two are named"),
        ({"devices": [{"name": "a/", "containerEdits": ENV}]}, "no device name"),
    ],
)
def test_what_cannot_be_is_refused(changed, said):
    """A specification that says something impossible or unknown is refused with the place."""
    with pytest.raises(InvalidArgumentError, match=said):
        read_cdi_spec(document() | changed, what="test")


@pytest.mark.parametrize(
    "name", ["", "a", "a/b", "a/b=", "/dev/null", "a/b=c ", "a/b=c=d", "1/b=c", "a/b=-", "a/b=c\n"]
)
def test_names_of_devices(name):
    """A device is named vendor/class=name, and nothing else is."""
    with pytest.raises(InvalidArgumentError):
        check_device_name(name)
    assert check_device_name("vendor.example/class-1=dev:0.1") == "vendor.example/class-1=dev:0.1"


def test_edits_of_a_spec():
    """Environment, mounts in the right order, hooks, groups, RDT and network devices come into the spec."""
    spec = default_spec(namespace="ns", id="c")
    spec["process"]["env"] = ["A=0", "B=2"]
    edited = applied(
        {
            "env": ["A=1", "C=3"],
            "mounts": [
                {"hostPath": "/deep", "containerPath": "/opt/a/b/c", "options": ["rbind", "ro"]},
                {"hostPath": "/host", "containerPath": "/sys/", "type": "bind"},
            ],
            "hooks": [
                {"hookName": "createContainer", "path": "/bin/hook", "args": ["hook"], "env": ["X=1"], "timeout": 5}
            ],
            "additionalGids": [0, 44, 44],
            "intelRdt": {"closID": "guaranteed", "schemata": ["L3:0=f"]},
            "netDevices": [{"hostInterfaceName": "eth1", "name": "net0"}],
        },
        spec,
    )
    assert edited["process"]["env"] == ["A=1", "B=2", "C=3"]
    assert edited["mounts"][-1] == {"destination": "/opt/a/b/c", "source": "/deep", "options": ["rbind", "ro"]}
    assert [mount["source"] for mount in edited["mounts"] if mount["destination"] in {"/sys", "/sys/"}] == ["/host"]
    assert edited["hooks"] == {
        "createContainer": [{"path": "/bin/hook", "args": ["hook"], "env": ["X=1"], "timeout": 5}]
    }
    assert edited["process"]["user"]["additionalGids"] == [44]
    assert edited["linux"]["intelRdt"] == {"closID": "guaranteed", "schemata": ["L3:0=f"]}
    assert edited["linux"]["netDevices"] == {"eth1": {"name": "net0"}}
    assert "hooks" not in spec
    assert spec["process"]["env"] == ["A=0", "B=2"]


def test_device_nodes():
    """A node is what the host's is, takes the place of one of its path, belongs to the user, and may be used."""
    spec = default_spec(namespace="ns", id="c")
    spec["process"]["user"] = {"uid": 1000, "gid": 1001}
    spec["linux"]["devices"] = [{"path": "/dev/a", "type": "b", "major": 9, "minor": 9}]
    nodes = [
        {"path": "/dev/a", "hostPath": "/dev/null", "permissions": "rw"},
        {"path": "/dev/b", "type": "c", "major": 5, "minor": 6, "fileMode": 0o640, "uid": 0, "permissions": "none"},
        {"path": "/dev/c", "type": "p"},
    ]
    edited = applied({"deviceNodes": nodes}, spec)
    mode = Path("/dev/null").stat().st_mode & 0o7777
    assert edited["linux"]["devices"] == [
        {"path": "/dev/a", "type": "c", "major": 1, "minor": 3, "fileMode": mode, "uid": 1000, "gid": 1001},
        {"path": "/dev/b", "type": "c", "major": 5, "minor": 6, "fileMode": 0o640, "uid": 0, "gid": 1001},
        {"path": "/dev/c", "type": "p", "major": 0, "minor": 0, "uid": 1000, "gid": 1001},
    ]
    given = len(spec["linux"]["resources"]["devices"])
    assert edited["linux"]["resources"]["devices"][given:] == [
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"}
    ]


def test_a_node_that_is_not_there(tmp_path: Path):
    """What is neither on the host nor wholly described is refused, and so is another type than the host's."""
    with pytest.raises(NotFoundError, match="nothing"):
        applied({"deviceNodes": [{"path": "/dev/nothing"}]})
    with pytest.raises(InvalidArgumentError, match="of type c"):
        applied({"deviceNodes": [{"path": "/dev/null", "type": "b"}]})


def test_bind_mounts_in_a_user_namespace():
    """Bind mounts have their owners mapped where the container has a user namespace."""
    spec = default_spec(namespace="ns", id="c")
    spec["linux"]["namespaces"].append({"type": "user"})
    mounts = [
        {"hostPath": "/a", "containerPath": "/x", "options": ["rbind"]},
        {"hostPath": "/b", "containerPath": "/y", "type": "bind"},
        {"hostPath": "/c", "containerPath": "/z", "options": ["rbind", "idmap"]},
        {"hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs"},
    ]
    options = {mount["source"]: mount.get("options") for mount in applied({"mounts": mounts}, spec)["mounts"]}
    assert options["/a"] == ["rbind", "ridmap"]
    assert options["/b"] == ["idmap"]
    assert options["/c"] == ["rbind", "idmap"]
    assert "ridmap" not in (options["tmpfs"] or [])


def write(path: Path, spec) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(spec))


def test_the_later_directory_wins(tmp_path: Path):
    """Of two specifications of a device the one in the later directory counts; in one directory neither does."""
    write(tmp_path / "etc" / "a.json", document({"env": ["FROM=etc"]}))
    write(tmp_path / "run" / "a.json", document({"env": ["FROM=run"]}))
    registry = read_cdi_registry([tmp_path / "etc", tmp_path / "run", tmp_path / "missing"])
    assert registry.edits(["vendor.example/class=one"]).env == ("FROM=run",)
    assert registry.devices["vendor.example/class=one"].priority == 1
    write(tmp_path / "run" / "b.json", document())
    registry = read_cdi_registry([tmp_path / "etc", tmp_path / "run"])
    with pytest.raises(InvalidArgumentError, match=r"a\.json and in .*b\.json"):
        registry.edits(["vendor.example/class=one"])


def test_common_edits_come_once(tmp_path: Path):
    """What a specification wants with any of its devices comes once, before what the devices want."""
    devices = [{"name": name, "containerEdits": {"env": [f"{name}=1"]}} for name in ("a", "b")]
    write(tmp_path / "a.json", document(devices=devices, containerEdits={"env": ["COMMON=1"], "additionalGids": [5]}))
    registry = read_cdi_registry([tmp_path])
    edits = registry.edits(["vendor.example/class=b", "vendor.example/class=a"])
    assert (edits.env, edits.additional_gids) == (("COMMON=1", "b=1", "a=1"), (5,))


def test_unreadable_files_are_told_and_not_fatal(tmp_path: Path):
    """A file that is no specification is a problem that the error of a missing device names; others are ignored."""
    write(tmp_path / "good.json", document())
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "worse.yaml").write_text("a: [")
    (tmp_path / "ignored.txt").write_text("x")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "huge.json").write_bytes(b" " * (4 * 2**20 + 1))
    registry = read_cdi_registry([tmp_path])
    assert list(registry.devices) == ["vendor.example/class=one"]
    assert sorted(Path(problem.partition(":")[0]).name for problem in registry.problems) == [
        "bad.json",
        "fifo.json",
        "huge.json",
        "worse.yaml",
    ]
    with pytest.raises(NotFoundError, match=r"there are: vendor\.example/class=one; .*bad\.json"):
        registry.edits(["vendor.example/class=two"])


def test_yaml_says_the_same_as_json(tmp_path: Path):
    """A specification in YAML is the one in JSON; a number stays one, an unquoted version is text."""
    text = """\
---
cdiVersion: 0.6.0
kind: vendor.example/class
annotations: {example.org/key: value}
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - {path: /dev/null, fileMode: 0666, major: 1, minor: 0x3, type: c}
    mounts: &mounts
    - hostPath: /a
      containerPath: /b
      options: [ro, rbind]
containerEdits:
  env:
  - SWITCH=no
  mounts: *mounts
"""
    (tmp_path / "a.yaml").write_text(text)
    registry = read_cdi_registry([tmp_path])
    assert registry.problems == ()
    source = registry.devices["vendor.example/class=0"]
    assert source.spec.version == "0.6.0"
    node = source.device.edits.device_nodes[0]
    assert (node.file_mode, node.major, node.minor) == (0o666, 1, 3)
    assert source.spec.edits.mounts == source.device.edits.mounts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", "twice"),
        ("1: a", "not a string"),
        ("!!python/object:os.system {}", "not allowed"),
        ("a: !!binary aGk=", "not allowed"),
        ("- a", "mapping"),
        ("", "mapping"),
        ("a: b: c", "no YAML"),
        ("\ud800", "no YAML"),
        ("a: " + "[" * 5000, "no YAML"),
        (
            "a: &a [x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"b{i}: &b{i} [{', '.join([f'*{p}'] * 9)}]\n" for i, p in enumerate(["a", *(f"b{n}" for n in range(9))])
            ),
            "more than",
        ),
        ("a: b\n" + "#" * 2**20, "bytes of YAML"),
    ],
)
def test_hostile_yaml(text: str, said: str):
    """Repeated keys, foreign tags, alias bombs and deep nesting are refused in little time."""
    with pytest.raises(InvalidArgumentError, match=said):
        load_yaml_object(text.encode(errors="surrogatepass"), what="test")


def test_yaml_without_its_library(tmp_path: Path, monkeypatch):
    """Without PyYAML a YAML file is a problem that says what to install; JSON works."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "containerd_py.oci.cdi_yaml")
    write(tmp_path / "good.json", document())
    (tmp_path / "other.yaml").write_text(json.dumps(document(kind="other.example/class")))
    registry = read_cdi_registry([tmp_path])
    assert registry.edits(["vendor.example/class=one"]).env == ("A=1",)
    with pytest.raises(NotFoundError, match=r"containerd-py\[cdi\]"):
        registry.edits(["other.example/class=one"])
    assert issubclass(MissingExtraError, ContainerdError)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
MEMBERS = [
    "cdiVersion",
    "kind",
    "devices",
    "containerEdits",
    "annotations",
    "env",
    "deviceNodes",
    "mounts",
    "hooks",
    "name",
    "intelRdt",
]


@given(st.dictionaries(st.sampled_from(MEMBERS), PLAIN), st.dictionaries(st.sampled_from(MEMBERS), PLAIN))
def test_any_document_is_read_or_refused(members, edits):
    """Whatever stands in a specification, it is read or refused by a typed error."""
    try:
        spec = read_cdi_spec(document(edits) | members, what="test")
    except InvalidArgumentError:
        return
    assert spec.devices
