"""What containerd is told of a process's I/O."""

import attrs
import pytest

from containerd_py.cio.config import NULL_IO, IOConfig, log_binary, log_file, log_uri
from containerd_py.errors import InvalidArgumentError


def test_null_io_opens_nothing():
    """NULL_IO has no paths and no terminal."""
    assert IOConfig(terminal=False, stdin="", stdout="", stderr="") == NULL_IO
    assert NULL_IO.is_null
    assert not IOConfig(terminal=True).is_null
    assert not IOConfig(stdin="/x").is_null


def test_lent_streams_are_no_part_of_the_value():
    """Two configurations with the same paths are equal, hash alike and print alike, whoever lends the streams."""
    plain = IOConfig(stdout="/a")
    lent = attrs.evolve(plain, lent=object())
    assert lent == plain
    assert hash(lent) == hash(plain)
    assert repr(lent) == repr(plain)


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/var/log/a.log", "file:///var/log/a.log"),
        ("//var//log/../log/a.log", "file:///var/log/a.log"),
        ("/with space/ü%#?.log", "file:///with%20space/%C3%BC%25%23%3F.log"),
        ("/kept/$&+,:;=@-_.~", "file:///kept/$&+,:;=@-_.~"),
        ("/escaped/!*'()[]", "file:///escaped/%21%2A%27%28%29%5B%5D"),
    ],
)
def test_log_file_is_spelled_as_the_go_client_does(path, uri):
    """A log file becomes a cleaned, percent-encoded file URI for both outputs."""
    assert log_file(path) == IOConfig(stdout=uri, stderr=uri)


@pytest.mark.parametrize("path", ["relative.log", "", ".", "/", "//", "/a\0b", "/" + "a" * 4095])
def test_log_file_needs_an_absolute_path_of_a_file(path):
    """What cannot be a file of the daemon's host is refused here."""
    with pytest.raises(InvalidArgumentError):
        log_file(path)


def test_log_binary_sorts_and_escapes_its_arguments():
    """Arguments become a query sorted by key, as Go encodes it."""
    config = log_binary("/usr/bin/logger x", {"tag": "a b&c", "id": "7"}, terminal=True)
    uri = "binary:///usr/bin/logger%20x?id=7&tag=a+b%26c"
    assert config == IOConfig(terminal=True, stdout=uri, stderr=uri)
    assert log_binary("/bin/true").stdout == "binary:///bin/true"


@pytest.mark.parametrize(
    "uri", ["file:///a/b.log", "binary:///usr/bin/logger?id=1&x=a%20b", "binary-v2:///usr/bin/logger"]
)
def test_log_uri_takes_what_a_shim_understands(uri):
    """A valid URI is passed on as it is."""
    assert log_uri(uri) == IOConfig(stdout=uri, stderr=uri)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/a/b.log",
        "fifo:///a",
        "http://host/a",
        "file:relative",
        "file://host/a",
        "file://relative/a",
        "file:///",
        "binary://",
        "file:///a b",
        "file:///a\n",
        "file:///a\x00",
        "file:///a%zz",
        "file:///a#b",
        "file:///a?b",
        "binary:///a?x=1#",
        "binary://[/a",
    ],
)
def test_log_uri_refuses_what_a_shim_would_misread(uri):
    """Other schemes, hosts, relative paths and bad escapes are typed errors, before the daemon sees them."""
    with pytest.raises(InvalidArgumentError):
        log_uri(uri)


def test_a_terminal_cannot_be_written_to_a_file():
    """No shim writes a terminal's output to a file URI; a program may take it."""
    with pytest.raises(InvalidArgumentError):
        log_uri("file:///a", terminal=True)
    assert log_uri("binary:///a", terminal=True).terminal
