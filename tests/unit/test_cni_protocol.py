"""What plugins are called with, in which order, and what their answers come to: scripted plugins that write it down."""

import json
import os
import threading
import time
from pathlib import Path

import attrs
import pytest

from containerd_py.cni.attachment import Attachment
from containerd_py.cni.cache import ResultCache
from containerd_py.cni.chain import Chain
from containerd_py.cni.config import NetworkConfig, network_from
from containerd_py.cni.programs import find_plugin, run_plugin
from containerd_py.cni.stopping import Stop, Stopped
from containerd_py.errors import (
    CNIConfigError,
    CNIDecodeError,
    CNIEnvironmentError,
    CNIError,
    CNIInputOutputError,
    CNINotReadyError,
    CNIPluginNotFoundError,
    CNIPluginTimeoutError,
    CNIProtocolError,
    CNITryAgainError,
    CNIUnknownContainerError,
    CNIUnsupportedFieldError,
    CNIVersionError,
    InvalidArgumentError,
)

# Writes each call down, and answers ADD with what comes after it in its own folder, else with its previous result.
RECORDER = """#!/bin/sh
name=$(basename "$0")
config=$(cat)
if [ "$CNI_COMMAND" = VERSION ]; then
    echo '{"cniVersion":"1.1.0","supportedVersions":[VERSIONS]}'
    exit
fi
printf '%s\\t%s\\t%s\\t%s\\t%s\\t%s\\t%s\\n' \\
    "$name" "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$CNI_IFNAME" "$CNI_ARGS" "$config" >>FOLDER/calls
[ -e "FOLDER/$name-$CNI_COMMAND" ] && . "FOLDER/$name-$CNI_COMMAND"
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.2/24"}],"by":"'"$name"'"}'
exit 0
"""


@attrs.frozen(kw_only=True)
class Stage:
    """A folder with scripted plugins, and what they wrote down."""

    folder: Path
    chain: Chain

    def plugin(self, name: str, versions: tuple[str, ...] = ("0.4.0", "1.0.0", "1.1.0")) -> None:
        listed = ",".join(f'"{version}"' for version in versions)
        path = self.folder / "bin" / name
        path.write_text(RECORDER.replace("FOLDER", str(self.folder)).replace("VERSIONS", listed))
        path.chmod(0o755)

    def at(self, plugin: str, command: str, script: str) -> None:
        (self.folder / f"{plugin}-{command}").write_text(script)

    def calls(self) -> list[tuple[str, str, str, str, str, str, dict[str, object]]]:
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [(*line.split("\t", 6)[:6], json.loads(line.split("\t", 6)[6])) for line in lines]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "bin").mkdir()
    stage = Stage(folder=tmp_path, chain=Chain((tmp_path / "bin",), ResultCache(tmp_path / "results"), None, 10.0))
    for name in ("one", "two", "three"):
        stage.plugin(name)
    return stage


def network(**members: object) -> NetworkConfig:
    plugins = [
        {"type": "one", "capabilities": {"portMappings": True, "mac": False}, "bridge": "br0", "unknown": [1]},
        {"type": "two"},
        {"type": "three", "capabilities": {"ips": True}},
    ]
    return network_from({"cniVersion": "1.1.0", "name": "net", "plugins": plugins, **members})


def attachment(**members: object) -> Attachment:
    given = {
        "container_id": "ns-c",
        "netns": Path("/proc/self/ns/net"),
        "interface": "eth0",
        "arguments": {"IgnoreUnknown": "1", "IP": "10.0.0.2"},
        "capabilities": {"portMappings": [{"hostPort": 80}], "ips": ["10.0.0.2/24"], "mac": "02:00:00:00:00:01"},
    }
    return Attachment(**(given | members))


def test_add_goes_forth_and_del_back(stage: Stage):
    """ADD hands each plugin the one before's result, DEL all the last one's, backwards; and capabilities on demand."""
    result = stage.chain.add(network(), attachment())
    assert [str(address) for address in result.addresses] == ["10.0.0.2"]
    one, two, three = stage.calls()
    assert [call[:2] for call in (one, two, three)] == [("one", "ADD"), ("two", "ADD"), ("three", "ADD")]
    assert one[2:6] == ("ns-c", "/proc/self/ns/net", "eth0", "IgnoreUnknown=1;IP=10.0.0.2")
    assert one[6] == {
        "type": "one",
        "bridge": "br0",
        "unknown": [1],
        "name": "net",
        "cniVersion": "1.1.0",
        "runtimeConfig": {"portMappings": [{"hostPort": 80}]},
    }
    assert two[6]["prevResult"]["by"] == "one"
    assert "runtimeConfig" not in two[6]
    assert (three[6]["prevResult"]["by"], three[6]["runtimeConfig"]) == ("two", {"ips": ["10.0.0.2/24"]})
    stage.chain.delete(network(), attachment())
    calls = stage.calls()
    assert [call[:2] for call in calls] == [("three", "DEL"), ("two", "DEL"), ("one", "DEL")]
    assert {call[6]["prevResult"]["by"] for call in calls} == {"three"}
    assert list(stage.chain.cache.attachments()) == []


def test_a_failed_add_is_undone(stage: Stage):
    """Where a plugin fails, DEL goes to all plugins with what was made before it, and nothing is kept."""
    stage.at("two", "ADD", 'echo \'{"code":7,"msg":"no","details":"really"}\'; exit 1')
    with pytest.raises(CNIConfigError, match="plugin two failed at ADD: no; really") as raised:
        stage.chain.add(network(), attachment())
    assert (raised.value.plugin, raised.value.code, raised.value.details) == ("two", 7, "really")
    calls = stage.calls()
    assert [call[:2] for call in calls[2:]] == [("three", "DEL"), ("two", "DEL"), ("one", "DEL")]
    assert {call[6]["prevResult"]["by"] for call in calls[2:]} == {"one"}
    assert list(stage.chain.cache.attachments()) == []


def test_an_address_from_before_a_crash_is_given_back(stage: Stage):
    """Where host-local still has the container's address of an earlier life, ADD is tried again after DEL."""
    said = '{"code":999,"msg":"failed to allocate: duplicate allocation is not allowed"}'
    stage.at("one", "ADD", f"rm FOLDER/one-ADD; echo '{said}'; exit 1".replace("FOLDER", str(stage.folder)))
    stage.chain.add(network(), attachment())
    commands = [call[:2] for call in stage.calls()]
    assert commands[:4] == [("one", "ADD"), ("three", "DEL"), ("two", "DEL"), ("one", "DEL")]
    assert commands[4:] == [("one", "ADD"), ("two", "ADD"), ("three", "ADD")]


def test_del_goes_on_after_failures(stage: Stage):
    """A plugin that fails at DEL does not keep the others from it; the result stays for the next attempt."""
    stage.chain.add(network(), attachment())
    stage.calls()
    for name in ("one", "three"):
        stage.at(name, "DEL", f'echo \'{{"code":5,"msg":"{name} is sorry"}}\'; exit 1')
    with pytest.raises(CNIInputOutputError, match="three is sorry") as raised:
        stage.chain.delete(network(), attachment())
    assert raised.value.__notes__ == ["and: plugin one failed at DEL: one is sorry"]
    assert len(stage.calls()) == 3
    assert len(list(stage.chain.cache.attachments())) == 1


def test_del_of_an_unknown_container(stage: Stage):
    """A plugin that does not know the container (code 3) has nothing to clean up: that is success."""
    stage.chain.add(network(), attachment())
    stage.at("two", "DEL", 'echo \'{"code":3,"msg":"who?"}\'; exit 1')
    stage.chain.delete(network(), attachment())
    assert list(stage.chain.cache.attachments()) == []


def test_del_without_a_namespace(stage: Stage, tmp_path: Path):
    """Where the namespace has gone, DEL is called with none, as the specification has it."""
    stage.chain.delete(network(), attachment(netns=tmp_path / "gone"))
    assert [call[3] for call in stage.calls()] == ["", "", ""]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1, CNIVersionError),
        (2, CNIUnsupportedFieldError),
        (3, CNIUnknownContainerError),
        (4, CNIEnvironmentError),
        (5, CNIInputOutputError),
        (6, CNIDecodeError),
        (7, CNIConfigError),
        (8, CNIEnvironmentError),
        (11, CNITryAgainError),
        (50, CNINotReadyError),
        (51, CNINotReadyError),
        (100, CNIError),
        (999, CNIError),
    ],
)
def test_error_codes_are_types(stage: Stage, code: int, kind: type[CNIError]):
    """Each code of the specification is an error of its own; plugins' own codes are kept."""
    stage.at("one", "STATUS", f'echo \'{{"code":{code},"msg":"no"}}\'; exit 1')
    with pytest.raises(CNIError) as raised:
        stage.chain.status(network())
    assert type(raised.value) is kind
    assert raised.value.code == code


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo words; exit 1", "exit code 1: words"),
        ("echo words >&2; exit 1", "exit code 1: words"),
        ("exit 3", "exit code 3 and no word"),
        ('echo \'{"msg":"no code"}\'; exit 1', "exit code 1"),
        ("kill -9 $$", "signal 9"),
        ("printf '\\033[31m'; exit 1", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_words_that_are_no_error_document(stage: Stage, script: str, message: str):
    """A plugin that fails in words of its own is quoted, without what would steer a terminal."""
    stage.at("one", "STATUS", script)
    with pytest.raises(CNIProtocolError) as raised:
        stage.chain.status(network())
    assert message in str(raised.value)
    assert "\033" not in str(raised.value)


def test_check_gives_the_kept_result(stage: Stage):
    """CHECK goes forth with the kept result; not to networks that disable it or are too old for it."""
    stage.chain.add(network(), attachment())
    stage.calls()
    stage.chain.check(network(), attachment())
    assert [(call[0], call[6]["prevResult"]["by"]) for call in stage.calls()] == [
        ("one", "three"),
        ("two", "three"),
        ("three", "three"),
    ]
    stage.chain.check(network(disableCheck=True), attachment())
    stage.chain.check(network(disableCheck="true"), attachment())
    assert stage.calls() == []
    with pytest.raises(CNIError, match="nothing is known"):
        stage.chain.check(network(), attachment(interface="eth7"))


def test_gc_and_status_belong_to_1_1(stage: Stage):
    """GC names all that is attached, STATUS nothing; both go to plugins of 1.1 only, and not where GC is disabled."""
    stage.chain.status(network())
    stage.chain.collect(network(), [("ns-c", "eth0")])
    calls = stage.calls()
    assert [call[1] for call in calls] == ["STATUS"] * 3 + ["GC"] * 3
    assert calls[3][6]["cni.dev/valid-attachments"] == [{"containerID": "ns-c", "ifname": "eth0"}]
    for old in (network(cniVersion="1.0.0"), network(disableGC=True)):
        stage.chain.collect(old, [])
    stage.chain.status(network(cniVersion="1.0.0"))
    assert stage.calls() == []


def test_versions_are_negotiated(stage: Stage):
    """Of the versions a network offers, the newest is spoken that all its plugins know; without one, none is called."""
    stage.plugin("two", ("0.3.1", "0.4.0", "1.0.0"))
    with pytest.raises(CNIVersionError, match=r"two knows the CNI versions 0\.3\.1, 0\.4\.0, 1\.0\.0, not 1\.1\.0"):
        stage.chain.add(network(), attachment())
    assert stage.calls() == []
    stage.chain.add(network(cniVersions=["0.4.0", "1.0.0"]), attachment())
    assert {call[6]["cniVersion"] for call in stage.calls()} == {"1.0.0"}


def test_results_are_kept_as_libcni_keeps_them(stage: Stage):
    """The file's name and members are libcni's, private, and found again with all that DEL needs."""
    stage.chain.add(network(), attachment())
    (path,) = (stage.folder / "results").iterdir()
    assert path.name == "net-ns-c-eth0"
    assert path.stat().st_mode & 0o777 == 0o600
    document = json.loads(path.read_text())
    assert document["kind"] == "cniCacheV1"
    assert document["cniArgs"] == [["IgnoreUnknown", "1"], ["IP", "10.0.0.2"]]
    assert document["result"]["by"] == "three"
    (cached,) = stage.chain.cache.attachments("net")
    assert (cached.network.name, cached.attachment) == ("net", attachment())
    path.write_text("{")
    assert list(stage.chain.cache.attachments()) == []


def test_plugins_come_from_their_folders_only(tmp_path: Path):
    """No name leads out of the folders; the first that has a program wins; what cannot be run is none."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plugin").write_text("#!/bin/sh\n")
    (tmp_path / "b" / "plugin").chmod(0o755)
    folders = [tmp_path / "a", tmp_path / "b"]
    assert find_plugin("plugin", folders) == tmp_path / "b" / "plugin"
    for name in ("../b/plugin", "/bin/sh", "..", "", "a\0b", "missing", "plugin\n"):
        with pytest.raises(CNIPluginNotFoundError):
            find_plugin(name, folders)
    with pytest.raises(CNIPluginNotFoundError):
        find_plugin("plugin", [Path("relative")])


def script(folder: Path, text: str) -> Path:
    path = folder / "plugin"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_plugins_inherit_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A plugin has no variable of ours but the few it needs, and no descriptor."""
    monkeypatch.setenv("SECRET", "s3cret")
    with Path("/dev/null").open() as kept:
        os.set_inheritable(kept.fileno(), True)
        program = script(tmp_path, "env; ls /proc/self/fd | tr '\\n' ' '")
        output = run_plugin(program, b"{}", {"CNI_COMMAND": "ADD"}).stdout.decode()
    assert "s3cret" not in output
    assert "CNI_COMMAND=ADD" in output
    assert output.splitlines()[-1].split() == ["0", "1", "2", "3"]  # 3 is that of ls


def test_a_plugin_that_leaves_somebody_behind_has_ended(tmp_path: Path):
    """What a plugin has started may hold its output open: its own end is what counts."""
    answer = run_plugin(script(tmp_path, "sleep 5 & echo done"), b"{}", {}, bound=4)
    assert (answer.code, answer.stdout) == (0, b"done\n")


def test_a_plugin_that_does_not_listen(tmp_path: Path):
    """A document that is not read, however large, keeps nobody waiting."""
    assert run_plugin(script(tmp_path, "exec <&-; echo fine"), b" " * 2**20, {}).stdout == b"fine\n"


def test_a_hanging_plugin_is_killed_with_its_children(tmp_path: Path):
    """After its time a plugin is killed, and what it has started with it."""
    program = script(tmp_path, f"sleep 1000 & echo $! >{tmp_path}/child; wait")
    with pytest.raises(CNIPluginTimeoutError, match=r"0\.5 s"):
        run_plugin(program, b"{}", {}, bound=0.5)
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]:
            break
        time.sleep(0.02)
    else:
        pytest.fail("its child lives on")


def test_a_stop_lets_a_plugin_end_by_itself(tmp_path: Path):
    """A plugin that is under way when its caller is cancelled has a moment to end; none begins afterwards."""
    program = script(tmp_path, "sleep 0.3; echo whole")
    with Stop() as stop:
        threading.Timer(0.1, stop.set).start()
        assert run_plugin(program, b"{}", {}, stop=stop).stdout == b"whole\n"
        with pytest.raises(Stopped):
            run_plugin(program, b"{}", {}, stop=stop)


@pytest.mark.parametrize(
    "members",
    [
        {"container_id": "../up"},
        {"container_id": ""},
        {"container_id": "a/b"},
        {"interface": "a/b"},
        {"interface": ".."},
        {"interface": "sixteen-letters-"},
        {"interface": "a b"},
        {"arguments": {"K": "a;B=c"}},
        {"arguments": {"K=": "v"}},
    ],
)
def test_what_plugins_are_told_is_checked(members: dict[str, object]):
    """IDs, interfaces and arguments that could be read as something else are refused before any plugin sees them."""
    with pytest.raises(InvalidArgumentError):
        attachment(**members)
