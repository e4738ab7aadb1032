"""Hosts directories, read as containerd reads them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerd_py.errors import InvalidArgumentError
from containerd_py.references import Reference
from containerd_py.remotes.host_config import Capability, HostConfig
from containerd_py.remotes.hosts import MAX_FILE_SIZE, find_directory, load_hosts
from containerd_py.remotes.hosts_toml import parse_duration, parse_hosts_toml
from containerd_py.remotes.registry import Registry


def load(directory: Path, text: str, domain: str = "reg.example", **options: object) -> list[HostConfig]:
    """Write a hosts.toml for a registry and list the hosts of one of its images."""
    folder = directory / domain
    folder.mkdir(exist_ok=True)
    (folder / "hosts.toml").write_text(text)
    return Registry(hosts_dir=directory, **options).hosts_for(Reference.parse(f"{domain}/team/app"))


def urls(hosts: list[HostConfig]) -> list[str]:
    return [f"{host.origin}{host.path}" for host in hosts]


# ── the default host ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "options", "url"),
    [
        ("alpine", {}, "https://registry-1.docker.io/v2"),
        ("reg.example/a", {}, "https://reg.example/v2"),
        ("reg.example:5000/a", {}, "https://reg.example:5000/v2"),
        ("reg.example:80/a", {}, "https://reg.example:80/v2"),
        ("REG.example/a", {}, "https://reg.example/v2"),
        ("10.0.0.5:5000/a", {}, "https://10.0.0.5:5000/v2"),
        ("localhost:5000/a", {}, "http://localhost:5000/v2"),
        ("localhost/a", {}, "https://localhost/v2"),
        ("localhost:443/a", {}, "https://localhost/v2"),
        ("127.0.0.1:5000/a", {}, "http://127.0.0.1:5000/v2"),
        ("127.8.8.8:80/a", {}, "http://127.8.8.8/v2"),
        ("[::1]:5000/a", {}, "http://[::1]:5000/v2"),
        ("[fd00::1]:5000/a", {}, "https://[fd00::1]:5000/v2"),
        ("localhost:5000/a", {"plain_http": False}, "https://localhost:5000/v2"),
        ("localhost:5000/a", {"ca": "/ca.pem"}, "https://localhost:5000/v2"),
        ("localhost:5000/a", {"client_cert": "/me.pem"}, "https://localhost:5000/v2"),
        ("localhost:5000/a", {"skip_verify": True}, "https://localhost:5000/v2"),
        ("localhost:5000/a", {"skip_verify": True, "plain_http": True}, "http://localhost:5000/v2"),
        ("reg.example/a", {"plain_http": True}, "http://reg.example/v2"),
        ("alpine", {"plain_http": True}, "http://registry-1.docker.io/v2"),
    ],
)
def test_default_host(name: str, options: dict[str, object], url: str) -> None:
    """Without configuration a registry is asked over https at its name, and over plain HTTP on loopback only."""
    assert urls(Registry(**options).hosts_for(Reference.parse(name))) == [url]


def test_impossible_port() -> None:
    """A port beyond 65535 is an error of the reference, not of the network."""
    with pytest.raises(InvalidArgumentError):
        Registry().hosts_for(Reference.parse("reg.example:70000/a"))


# ── finding the directory ───────────────────────────────────────────────────────────────────────────────────────────


def test_directory_names_in_order(tmp_path: Path) -> None:
    """host_port_ comes before host:port, and _default is for everybody else."""
    for name in ("_default", "reg.example:5000", "reg.example_5000_", "reg.example"):
        (tmp_path / name).mkdir()
    assert find_directory(tmp_path, "reg.example:5000") == tmp_path / "reg.example_5000_"
    (tmp_path / "reg.example_5000_").rmdir()
    assert find_directory(tmp_path, "reg.example:5000") == tmp_path / "reg.example:5000"
    assert find_directory(tmp_path, "reg.example") == tmp_path / "reg.example"
    assert find_directory(tmp_path, "other.example") == tmp_path / "_default"


def test_no_directory(tmp_path: Path) -> None:
    """A registry without a directory is asked as if there were no hosts directory at all."""
    assert find_directory(tmp_path, "reg.example") is None
    assert find_directory(tmp_path / "missing", "reg.example") is None
    hosts = Registry(hosts_dir=tmp_path).hosts_for(Reference.parse("reg.example/a"))
    assert urls(hosts) == ["https://reg.example/v2"]


@pytest.mark.parametrize("domain", ["", ".", "..", "../etc", "a/b", "a\0b"])
def test_names_that_lead_elsewhere(tmp_path: Path, domain: str) -> None:
    """A name that could leave the hosts directory is refused before it becomes a path."""
    with pytest.raises(InvalidArgumentError):
        find_directory(tmp_path, domain)


# ── hosts.toml ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_mirrors_in_file_order_and_the_server_last(tmp_path: Path) -> None:
    """Hosts are tried in the order of the file, subtables notwithstanding, and the server after them."""
    hosts = load(
        tmp_path,
        """
        server = "https://upstream.example"
        [host."https://z.example"]
          [host."https://z.example".header]
            x-a = "1"
        [host."http://a.example:5000"]
        [host."m.example"]
        """,
    )
    assert urls(hosts) == [
        "https://z.example/v2",
        "http://a.example:5000/v2",
        "https://m.example/v2",
        "https://upstream.example/v2",
    ]


def test_without_a_server_the_registry_itself_comes_last(tmp_path: Path) -> None:
    """A file that names no server leaves the registry's own address, with all capabilities and the root's options."""
    hosts = load(
        tmp_path,
        """
        capabilities = ["pull"]
        ca = "root.pem"
        dial_timeout = "3s"
        [header]
          x-root = "secret"
        [host."https://mirror.example"]
          capabilities = ["pull", "resolve"]
        """,
    )
    mirror, own = hosts
    assert mirror.capabilities == Capability.PULL | Capability.RESOLVE
    assert mirror.headers == ()
    assert mirror.tls.ca == ()
    assert own.capabilities == Capability.ALL
    assert own.tls.ca == (tmp_path / "reg.example" / "root.pem",)
    assert own.dial_timeout == 3.0
    assert [(name, value.reveal()) for name, value in own.headers] == [("x-root", "secret")]


def test_docker_hub_without_a_server(tmp_path: Path) -> None:
    """Docker Hub's directory is docker.io, its own host registry-1.docker.io."""
    hosts = load(tmp_path, '[host."https://mirror.example"]', "docker.io")
    assert urls(hosts) == ["https://mirror.example/v2", "https://registry-1.docker.io/v2"]


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("https://m.example", "", "https://m.example/v2"),
        ("https://m.example/", "", "https://m.example/v2"),
        ("https://m.example/v2", "", "https://m.example/v2"),
        ("https://m.example/v2/", "", "https://m.example/v2"),
        ("https://m.example/v2/proxy", "", "https://m.example/v2/proxy/v2"),
        ("https://m.example/v2/proxy", "override_path = true", "https://m.example/v2/proxy"),
        ("https://m.example/a/../b//c/", "", "https://m.example/b/c/v2"),
        ("https://m.example", "override_path = true", "https://m.example/"),
        ("https://[::1]:5000/x", "", "https://[::1]:5000/x/v2"),
    ],
)
def test_paths(tmp_path: Path, url: str, options: str, expected: str) -> None:
    """/v2 is added to a host's path unless it is there, or override_path says that the path is everything."""
    assert urls(load(tmp_path, f'[host."{url}"]\n{options}'))[0] == expected


def test_certificates(tmp_path: Path) -> None:
    """ca and client take one file, lists, and pairs; relative ones are beside the file."""
    hosts = load(
        tmp_path,
        """
        [host."https://a.example"]
          ca = "one.pem"
          client = "/abs/both.pem"
        [host."https://b.example"]
          ca = ["one.pem", "/abs/two.pem"]
          client = ["both.pem", ["cert.pem", "key.pem"]]
          skip_verify = true
        """,
    )
    folder = tmp_path / "reg.example"
    assert hosts[0].tls.ca == (folder / "one.pem",)
    assert hosts[0].tls.client == ((Path("/abs/both.pem"), None),)
    assert hosts[0].skip_verify is None
    assert hosts[1].tls.ca == (folder / "one.pem", Path("/abs/two.pem"))
    assert hosts[1].tls.client == ((folder / "both.pem", None), (folder / "cert.pem", folder / "key.pem"))
    assert hosts[1].skip_verify is True


def test_the_registry_s_own_files_are_added(tmp_path: Path) -> None:
    """Authorities given to Registry count everywhere; its client certificate where a host has none of its own."""
    text = """
        [host."https://a.example"]
          ca = "/a.pem"
          client = "/a-me.pem"
        """
    first, own = load(tmp_path, text, ca="/all.pem", client_cert=("/me.pem", "/me.key"))
    assert first.tls.ca == (Path("/all.pem"), Path("/a.pem"))
    assert first.tls.client == ((Path("/a-me.pem"), None),)
    assert own.tls.client == ((Path("/me.pem"), Path("/me.key")),)


def test_headers(tmp_path: Path) -> None:
    """Headers may have several values; they are secrets."""
    hosts = load(
        tmp_path,
        """
        [host."https://a.example".header]
          X-Token = "canary"
          X-Many = ["1", "2"]
        """,
    )
    assert [(name, value.reveal()) for name, value in hosts[0].headers] == [
        ("X-Token", "canary"),
        ("X-Many", "1"),
        ("X-Many", "2"),
    ]
    assert "canary" not in repr(hosts)


def test_mirrors_know_that_they_are(tmp_path: Path) -> None:
    """A host of another name than the registry's is a mirror, and will be told which registry it stands in for."""
    hosts = load(tmp_path, 'server = "https://reg.example:443"\n[host."https://mirror.example"]')
    assert [host.is_mirror_of("reg.example") for host in hosts] == [True, False]
    hub = load(tmp_path, '[host."https://mirror.example"]', "docker.io")
    assert [host.is_mirror_of("docker.io") for host in hub] == [True, False]


@pytest.mark.parametrize(
    "text",
    [
        "not toml at all =",
        'capabilities = ["everything"]',
        'capabilities = "pull"',
        "capabilities = [1]",
        "server = 5",
        'server = "https://user:pw@reg.example"',
        'server = "http://"',
        'skip_verify = "yes"',
        "ca = 5",
        "ca = [5]",
        'client = [["a", "b", "c"]]',
        "client = [5]",
        "client = 5",
        "header = 5",
        "[header]\nx = 5",
        '[header]\n"bad name" = "x"',
        '[header]\nx = "a\\r\\nb"',
        "dial_timeout = 5",
        'dial_timeout = "5"',
        "host = 5",
        '[host]\n"https://a.example" = 5',
        '[host."file:///etc/passwd"]',
        '[host."https://a.example"]\noverride_path = "x"',
    ],
)
def test_a_broken_file_is_said_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    """A file that cannot be read is logged, and the certificates beside it count alone (containerd, loadHostDir)."""
    (tmp_path / "reg.example").mkdir()
    (tmp_path / "reg.example" / "ca.crt").touch()
    hosts = load(tmp_path, text)
    assert urls(hosts) == ["https://reg.example/v2"]
    assert hosts[0].tls.ca == (tmp_path / "reg.example" / "ca.crt",)
    assert "hosts.toml" in caplog.text


def test_unknown_keys_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key that containerd does not know is warned of, and the rest counts."""
    with caplog.at_level(logging.WARNING):
        hosts = load(tmp_path, 'servr = "x"\n[host."https://a.example"]\ncapability = ["pull"]')
    assert urls(hosts)[0] == "https://a.example/v2"
    assert "servr" in caplog.text
    assert "capability" in caplog.text


def test_file_too_large(tmp_path: Path) -> None:
    """A file larger than any honest one is an error."""
    with pytest.raises(InvalidArgumentError):
        load(tmp_path, "#" * (MAX_FILE_SIZE + 1))


@pytest.mark.parametrize("text", [None, ""])
def test_docker_style_certificates(tmp_path: Path, text: str | None) -> None:
    """Without a hosts.toml, or with an empty one, *.crt are authorities and *.cert with *.key are ours."""
    folder = tmp_path / "reg.example"
    folder.mkdir()
    for name in ("b.crt", "a.crt", "me.cert", "me.key", "lone.cert", "stray.key", "readme.txt"):
        (folder / name).touch()
    (folder / "dir.crt").mkdir()
    if text is not None:
        (folder / "hosts.toml").write_text(text)
    (host,) = Registry(hosts_dir=tmp_path).hosts_for(Reference.parse("reg.example/a"))
    assert host.tls.ca == (folder / "a.crt", folder / "b.crt")
    assert host.tls.client == ((folder / "lone.cert", None), (folder / "me.cert", folder / "me.key"))
    assert host.capabilities == Capability.ALL


def test_certificates_make_loopback_secure(tmp_path: Path) -> None:
    """A loopback registry with certificates in its directory is asked over https."""
    folder = tmp_path / "localhost:5000"
    folder.mkdir()
    (folder / "ca.crt").touch()
    hosts = load_hosts(Reference.parse("localhost:5000/a"), hosts_dir=tmp_path, plain_http=None, expects_tls=False)
    assert urls(hosts) == ["https://localhost:5000/v2"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600), ("1.5s", 1.5), (".5s", 0.5), ("10us", 1e-5), ("0", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations are Go's."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "5x", "5s\n", "1d"])
def test_durations_refused(text: str) -> None:
    """What Go would not read as a duration is none."""
    with pytest.raises(ValueError):
        parse_duration(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Whatever the bytes, they are hosts or a ValueError."""
    try:
        parse_hosts_toml(data, Path("/x"))
    except ValueError:
        return
