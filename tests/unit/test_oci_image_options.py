"""What an image wants becomes the spec's, and what the caller wants wins."""

import pytest

from containerd_py.errors import InvalidArgumentError
from containerd_py.oci.default_spec import DEFAULT_PATH, default_spec
from containerd_py.oci.image_options import check_image_config, with_image_config
from containerd_py.oci.image_spec import ImageConfig
from containerd_py.oci.runtime_spec import Spec
from containerd_py.oci.spec_options import compose, with_env, with_process_args, with_process_cwd, with_user
from containerd_py.types import Platform

BASE = default_spec(namespace="demo", id="x")
WINDOWS: Spec = {"ociVersion": "1.1.0", "process": {"cwd": "C:\\", "user": {"uid": 0, "gid": 0}}, "windows": {}}


@pytest.mark.parametrize(
    ("config", "args", "expected"),
    [
        (ImageConfig(cmd=("sh",)), None, ["sh"]),
        (ImageConfig(cmd=("sh",)), [], ["sh"]),
        (ImageConfig(cmd=("sh",)), ["ls"], ["ls"]),
        (ImageConfig(entrypoint=("/init",), cmd=("-x",)), None, ["/init", "-x"]),
        (ImageConfig(entrypoint=("/init",), cmd=("-x",)), ["-y", "z"], ["/init", "-y", "z"]),
        (ImageConfig(entrypoint=("/init",)), None, ["/init"]),
        (ImageConfig(), ["ls"], ["ls"]),
        (ImageConfig(), None, []),
    ],
)
def test_command(config: ImageConfig, args: list[str] | None, expected: list[str]):
    """Arguments replace the image's Cmd and follow its Entrypoint."""
    assert with_image_config(config, args)(BASE)["process"]["args"] == expected


@pytest.mark.parametrize(
    ("image", "present", "expected"),
    [
        ((), [], [DEFAULT_PATH]),
        ((), ["A=1"], [DEFAULT_PATH, "A=1"]),
        (("A=0",), [], ["A=0"]),
        (("A=0", "B=0"), ["B=1", "C=1"], ["A=0", "B=1", "C=1"]),
        (("A=0", "A=1"), [], ["A=1"]),
        (("PATH=/x",), [], ["PATH=/x"]),
    ],
)
def test_environment(image: tuple[str, ...], present: list[str], expected: list[str]):
    """The image's environment, or a PATH where it has none, is overlaid by what is set already."""
    option = compose(with_env(present), with_image_config(ImageConfig(env=image)))
    assert option(BASE)["process"]["env"] == expected


@pytest.mark.parametrize(
    ("cwd", "expected"),
    [("", "/"), ("/", "/"), ("/srv", "/srv"), ("/srv/", "/srv/"), ("/procfs", "/procfs"), ("/a/../srv", "/srv")],
)
def test_cwd(cwd: str, expected: str):
    """The image's working directory, or the root."""
    assert with_image_config(ImageConfig(cwd=cwd))(BASE)["process"]["cwd"] == expected


@pytest.mark.parametrize(
    "cwd",
    [
        "srv",
        "./",
        "../x",
        "/proc",
        "/proc/self/fd/7",
        "//proc/self/fd/7",
        "/x/../proc/1/root",
        "/./proc",
        "/dev/fd/7",
        "/a\0",
    ],
)
def test_hostile_cwd(cwd: str):
    """No working directory leads to the runtime's own files (CVE-2024-21626), before anything is made."""
    with pytest.raises(InvalidArgumentError):
        with_image_config(ImageConfig(cwd=cwd))


def test_later_options_win():
    """What follows the image's configuration overrides it."""
    option = compose(
        with_image_config(ImageConfig(cwd="/a", cmd=("sh",), env=("A=0",))),
        with_process_cwd("/b"),
        with_process_args("ls"),
        with_env("A=1"),
    )
    process = option(BASE)["process"]
    assert (process["cwd"], process["args"], process["env"]) == ("/b", ["ls"], ["A=1"])


def test_the_rest_stays():
    """User, terminal, capabilities and everything outside the process are not the image's business here."""
    config = ImageConfig(cmd=("sh",), user="app", stop_signal="INT", volumes=("/data",), exposed_ports=("80/tcp",))
    changed = with_image_config(config)(BASE)
    assert {**changed, "process": None} == {**BASE, "process": None}
    assert {**changed["process"], "args": 0, "env": 0} == {**BASE["process"], "args": 0, "env": 0}


@pytest.mark.parametrize(
    "config",
    [
        ImageConfig(user="2147483648"),
        ImageConfig(user="a:b:c"),
        ImageConfig(stop_signal="SIGFOO"),
        ImageConfig(env=("A=\0",)),
        ImageConfig(cmd=("a\0",)),
        ImageConfig(entrypoint=("a\0",)),
        ImageConfig(cwd="x"),
    ],
)
def test_images_nobody_can_run(config: ImageConfig):
    """An image whose wishes cannot be met is refused before a snapshot is made."""
    with pytest.raises(InvalidArgumentError):
        check_image_config(config)


def test_what_is_no_option_is_named():
    """A handle in a configuration's place, a name in a user's, and options that return nothing are refused by name."""
    with pytest.raises(InvalidArgumentError, match=r"await image\.config\(\)"):
        with_image_config("alpine")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="user= of create_container"):
        with_user("nobody")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="'x' is no function"):
        compose("x")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="must return the spec, not None"):
        compose(dict[str, str].clear)({"ociVersion": "1.1.0"})  # type: ignore[arg-type,return-value]


def test_neither_section():
    """A spec for no operating system takes no image."""
    with pytest.raises(InvalidArgumentError, match="neither a Linux nor a Windows section"):
        with_image_config(ImageConfig())({"ociVersion": "1.1.0"})


@pytest.mark.parametrize(
    ("config", "args", "expected"),
    [
        (ImageConfig(cmd=("cmd", "/c")), None, {"args": ["cmd", "/c"]}),
        (ImageConfig(entrypoint=("a b",), args_escaped=True), ["c d", "e"], {"commandLine": 'a b "c d" e'}),
        (ImageConfig(cmd=('"a b" c',), args_escaped=True), None, {"commandLine": '"a b" c'}),
        (ImageConfig(cmd=("x",), args_escaped=True), ["y z"], {"args": ["y z"]}),
    ],
)
def test_windows(config: ImageConfig, args: list[str] | None, expected: dict):
    """On Windows the command may be one escaped line, user and directory are as the image says."""
    platform = Platform(os="windows", architecture="amd64")
    config = ImageConfig(
        platform=platform,
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        args_escaped=config.args_escaped,
        cwd="C:\\app",
        user="ContainerUser",
    )
    process = with_image_config(config, args)(WINDOWS)["process"]
    assert (
        process
        == {
            "cwd": "C:\\app",
            "env": [],
            "user": {"uid": 0, "gid": 0, "username": "ContainerUser"},
        }
        | expected
    )


def test_windows_needs_a_command():
    """There is nothing to run by default on Windows."""
    with pytest.raises(InvalidArgumentError, match="what to run"):
        with_image_config(ImageConfig())(WINDOWS)
